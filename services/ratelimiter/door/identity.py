"""The parts that know callers, put together: keys, tokens, accounts and the door.

With `app` and `tenancy` the only module that knows which adapters are in use.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import admin_service_pb2_grpc, identity_service_pb2_grpc
from libs.clock import Clock
from libs.errors import Unavailable
from services.ratelimiter.abuse.key_watch import WatchedKeys
from services.ratelimiter.abuse.lookout import Lookout
from services.ratelimiter.decider import Decider
from services.ratelimiter.door import authz_servicer
from services.ratelimiter.door.authz_servicer import AuthzServicer
from services.ratelimiter.door.door import Door
from services.ratelimiter.door.key_recogniser import ByKey
from services.ratelimiter.door.token_recogniser import ByToken
from services.ratelimiter.door.url_recogniser import NotInUrl
from services.ratelimiter.keys.admin_servicer import AdminServicer
from services.ratelimiter.keys.identity_servicer import IdentityServicer
from services.ratelimiter.keys.keyring import Keyring
from services.ratelimiter.keys.own_keys import OwnKeys
from services.ratelimiter.keys.sign_up import Mode, SignUp
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.keys.sql_sign_ups import SqlSignUps
from services.ratelimiter.meters import Meters
from services.ratelimiter.settings import Settings
from services.ratelimiter.sql_database import Database
from services.ratelimiter.strangers.announcing import Announcing
from services.ratelimiter.strangers.visitors import strangers_at
from services.ratelimiter.strangers.wrong_keys import WrongKeys
from services.ratelimiter.tiers.tariffs import Tariffs

logger = logging.getLogger(__name__)

SERVICES = ("darkroom.ratelimiter.v1.AdminService", "darkroom.ratelimiter.v1.IdentityService")


class Identity:
    """Who may call. Serve it with `add_to` and `add_door`, run its `loops`, `close` it before the database."""

    def __init__(self, settings: Settings, database: Database, lookout: Lookout, clock: Clock) -> None:
        accounts = SqlAccounts(database)
        self._wrong_keys = WrongKeys(clock, settings.wrong_keys_per_min)
        self._keyring = Keyring(accounts, clock)
        self._sign_up = SignUp(SqlSignUps(database), Mode(settings.sign_up), clock)
        by_token = ByToken(accounts, settings.claim_names, clock)
        by_key = ByKey(self._keyring, self._wrong_keys)
        self._recognisers = (NotInUrl(), by_token, WatchedKeys(by_key, lookout.keys))
        visitors = strangers_at(settings.secrets_folder, lookout.strangers, clock)
        self._strangers = Announcing(visitors, Mode(settings.sign_up))

    def add_to(self, server: grpc.aio.Server, tariffs: Tariffs) -> None:
        """Serve what operators and tenants ask about keys."""
        admin = AdminServicer(self._keyring, tariffs, self._sign_up)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
        own = IdentityServicer(OwnKeys(self._keyring), self._sign_up, self._keyring)
        identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(own, server)

    def add_door(self, server: grpc.aio.Server, limiter: Decider, meters: Meters) -> None:
        """Answer Envoy."""
        door = Door(self._recognisers, self._strangers, self._wrong_keys, limiter, meters)
        server.add_generic_rpc_handlers((authz_servicer.handler(AuthzServicer(door)),))

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run for as long as the process."""
        return [self._keyring.run(), self._keyring.retain()]

    async def close(self) -> None:
        """Write down what is not yet written."""
        try:
            await self._keyring.write_use()
        except Unavailable as error:
            logger.warning("when keys were last used is not written", extra={"reason": error.message})
