"""A replica's way to the lead: etcd elects, the store decides.

    campaign ──won──▶ claim in the store ──epoch──▶ leads; the candidacy goes on behind it
        ▲                    │
        └──────lost──────────┘ a later winner was there first

etcd only suggests. A leader whose lease is gone because etcd is away goes on: nobody else can be elected either, and
whoever is elected later deposes it in the store. So losing the lease means only to be a candidate again.
"""

from __future__ import annotations

import logging
import secrets

from libs.backoff import Backoff
from libs.clock import Clock
from libs.coordination.client import EtcdClient
from libs.coordination.election import Election
from libs.coordination.errors import CoordinationError
from libs.coordination.lease import Session
from services.scheduler.replicas.lead_store import Claim, Outrun
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

ELECTION_KEY = "/darkroom/scheduler/leader"
CLUSTER_KEY = "/darkroom/cluster"  # a random name: an etcd that lost its data counts revisions from the beginning again


class Candidacy:
    """One replica's: `holder` is its name, `address` (host:port) where standbys reach it."""

    def __init__(
        self, etcd: EtcdClient, store: JobStore, clock: Clock, *, holder: str, address: str, lease_ttl_s: int
    ) -> None:
        self._session = Session(etcd, lease_ttl_s=lease_ttl_s, clock=clock)
        self._etcd = etcd
        self._store = store
        self._clock = clock
        self._holder = holder
        self._address = address
        self._election = Election(etcd, self._session, key=ELECTION_KEY, candidate=holder, clock=clock)

    async def run(self) -> None:
        """Hold the lease that everything else here needs, until cancelled; then another may win at once."""
        await self._session.run()

    async def win(self) -> int:
        """Wait until this replica leads; return its epoch."""
        backoff = Backoff()
        while True:
            revision = await self._election.campaign()
            try:
                epoch = await self._claim(revision)
            except CoordinationError as error:
                logger.warning("elected, and etcd went away", extra={"cause": error.message})
                await self._clock.sleep(backoff.next_s())
                continue
            except Outrun as refusal:
                await self._outrun(revision, refusal)
                await self._clock.sleep(backoff.next_s())
                continue
            logger.info("took the lead", extra={"epoch": epoch, "holder": self._holder, "revision": revision})
            return epoch

    async def hold(self) -> None:
        """Stay a candidate while leading, until cancelled."""
        while True:
            await self._election.until_lost()
            logger.warning("the lease of the lead is lost; going on until another takes it", extra=self._names())
            await self._election.campaign()
            logger.info("the lead is confirmed again", extra=self._names())

    async def _claim(self, revision: int) -> int:
        cluster = await self._etcd.create(CLUSTER_KEY, secrets.token_hex(8).encode())
        claim = Claim(cluster.value.decode(), revision, self._address)
        return await persistently(self._clock, lambda: self._store.take_lead(self._holder, self._clock.now(), claim))

    async def _outrun(self, revision: int, refusal: Outrun) -> None:
        """Find out whether somebody was faster, or etcd's history went back and no election can reach the old ones."""
        logger.warning("elected, and refused by the store", extra=self._names() | {"cause": str(refusal)})
        try:
            held = await self._etcd.get(ELECTION_KEY)
            if held is not None and held.create_revision == revision:  # still the latest winner: it is another history
                await self._etcd.put(CLUSTER_KEY, secrets.token_hex(8).encode())
        except CoordinationError as error:
            logger.warning("etcd went away", extra={"cause": error.message})

    def _names(self) -> dict[str, object]:
        return {"holder": self._holder}
