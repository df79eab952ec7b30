"""Messages of keys ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from darkroom.ratelimiter.v1 import admin_service_pb2 as pb
from darkroom.ratelimiter.v1 import identity_service_pb2 as own_pb
from libs import scopes
from libs.errors import InvalidRequest, Violation, listed
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes
from libs.wire.timestamp import timestamp
from services.ratelimiter.balances.days import DAY_S
from services.ratelimiter.keys.accounts import Key, KeyPlace
from services.ratelimiter.keys.keyring import Rotation
from services.ratelimiter.keys.own_keys import Holder
from services.ratelimiter.tenants import names as tenant_names

_NAME_CHARS = 200
_LONGEST_LIFE_S, _LONGEST_OVERLAP_S = 3_660 * DAY_S, 30 * DAY_S
USUAL_OVERLAP_S = float(DAY_S)
_MOST_USES = 1_000
_MOST_ASKED, _ID_CHARS = 1_000, 64


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is to be."""

    tenant_id: TenantId
    tier: str
    name: str
    scopes: Scopes
    lifetime_s: float | None


@dataclass(frozen=True, slots=True)
class AskedKey:
    """What a key of one's own is to be."""

    name: str
    scopes: Scopes
    lifetime_s: float | None


def new_key_from_pb(message: pb.CreateKeyRequest, tiers: Iterable[str]) -> NewKey:
    """Return what is asked for. Raises InvalidRequest."""
    allowed, strange = scopes.parse(message.scopes)
    lifetime_s = message.lifetime_s if message.HasField("lifetime_s") else None
    problems = [*_tenant_problems(message.tenant_id), *_name_problems(message.name), *_scope_problems(strange)]
    if message.tier not in (known := tuple(tiers)):
        problems.append(Violation("tier", f"must be one of {', '.join(known)}"))
    _refuse([*problems, *_life_problems(lifetime_s)])
    return NewKey(TenantId(message.tenant_id), message.tier, message.name, allowed or scopes.USUAL, lifetime_s)


def asked_from_pb(message: own_pb.CreateOwnKeyRequest) -> AskedKey:
    """Return what a tenant asks for; no scopes where it names none. Raises InvalidRequest."""
    allowed, strange = scopes.parse(message.scopes)
    lifetime_s = message.lifetime_s if message.HasField("lifetime_s") else None
    _refuse([*_name_problems(message.name), *_scope_problems(strange), *_life_problems(lifetime_s)])
    return AskedKey(message.name, allowed, lifetime_s)


def name_from_pb(name: str) -> str:
    """Return what a key is called. Raises InvalidRequest."""
    _refuse([*_name_problems(name)])
    return name


def holder_from_pb(message: own_pb.Holder) -> Holder:
    """Return who asks. Raises InvalidRequest."""
    problem = tenant_names.problem(message.tenant_id)
    _refuse([Violation("holder.tenant_id", problem)] if problem else [])
    ends_s = message.ends_s if message.HasField("ends_s") else None
    return Holder(TenantId(message.tenant_id), message.tier, scopes.parse(message.scopes)[0], ends_s)


def invite_from_pb(message: pb.CreateInviteRequest) -> tuple[int, float | None, str]:
    """Return how many accounts it makes, for how many seconds, and what it is for. Raises InvalidRequest."""
    lifetime_s = message.lifetime_s if message.HasField("lifetime_s") else None
    problems = [*_name_problems(message.name), *_life_problems(lifetime_s)]
    if not 0 < message.uses <= _MOST_USES:
        problems.append(Violation("uses", f"must be 1 to {_MOST_USES}"))
    _refuse(problems, "invite")
    return message.uses, lifetime_s, message.name


def rotation_from_pb(message: pb.RotateKeyRequest | own_pb.RotateOwnKeyRequest) -> tuple[KeyId, float]:
    """Return the key to replace and for how many seconds it goes on. Raises InvalidRequest."""
    overlap_s = message.overlap_s if message.HasField("overlap_s") else USUAL_OVERLAP_S
    if not 0 <= overlap_s <= _LONGEST_OVERLAP_S:
        _refuse([Violation("overlap_s", f"must be 0 to {_LONGEST_OVERLAP_S:.0f} seconds")])
    return KeyId(message.key_id), overlap_s


def key_to_pb(key: Key) -> pb.Key:
    """Return a key as it travels."""
    message = pb.Key(id=key.id, tenant_id=key.tenant_id, tier=key.tier, prefix=key.prefix, name=key.name)
    message.create_time.CopyFrom(timestamp(key.created_s))
    message.scopes.extend(scopes.text(key.scopes).split())
    message.replaced_by = key.replaced_by or ""
    if key.revoked_s is not None:
        message.revoke_time.CopyFrom(timestamp(key.revoked_s))
    if key.last_used_s is not None:
        message.last_used_time.CopyFrom(timestamp(key.last_used_s))
    if key.expires_s is not None:
        message.expire_time.CopyFrom(timestamp(key.expires_s))
    return message


def place_from_pb(message: own_pb.ListOwnKeysRequest) -> KeyPlace | None:
    """Return behind which key a page begins; None for the first page. Raises InvalidRequest."""
    if not message.HasField("after"):
        return None
    created_s, key_id = message.after.created_s, message.after.key_id
    if not math.isfinite(created_s) or not _is_id(key_id):
        wrong = Violation("after", "must be the place of a key")
        raise InvalidRequest(f"The keys cannot be listed: after {wrong.description}.", violations=[wrong])
    return created_s, KeyId(key_id)


def page_to_pb(keys: Sequence[Key], *, more: bool) -> own_pb.ListOwnKeysResponse:
    """Return a page of keys."""
    page = own_pb.ListOwnKeysResponse(keys=[key_to_pb(key) for key in keys])
    if more:
        page.last.created_s, page.last.key_id = keys[-1].created_s, keys[-1].id
    return page


def key_ids_from_pb(message: own_pb.FindEndedKeysRequest) -> Sequence[KeyId]:
    """Return the keys that are asked about. Raises InvalidRequest."""
    if len(message.key_ids) > _MOST_ASKED or not all(_is_id(key_id) for key_id in message.key_ids):
        wrong = Violation("key_ids", f"must be at most {_MOST_ASKED} ids of keys")
        raise InvalidRequest(f"Which keys have ended cannot be told: key_ids {wrong.description}.", violations=[wrong])
    return [KeyId(key_id) for key_id in message.key_ids]


def rotation_to_pb(rotation: Rotation) -> pb.RotateKeyResponse:
    """Return a new key with the one in whose place it came."""
    replaced = key_to_pb(rotation.replaced)
    return pb.RotateKeyResponse(key=key_to_pb(rotation.key), secret=rotation.secret, replaced=replaced)


def invite_to_pb(code: str, expires_s: float | None) -> pb.CreateInviteResponse:
    """Return an invite as it travels."""
    message = pb.CreateInviteResponse(code=code)
    if expires_s is not None:
        message.expire_time.CopyFrom(timestamp(expires_s))
    return message


def _is_id(text: str) -> bool:
    return 0 < len(text) <= _ID_CHARS and text.isascii() and text.isprintable()


def _tenant_problems(tenant_id: str) -> Iterator[Violation]:
    told = tenant_names.problem(tenant_id)
    if told:
        yield Violation("tenant_id", told)


def _life_problems(lifetime_s: float | None) -> Iterator[Violation]:
    if lifetime_s is not None and not 0 < lifetime_s <= _LONGEST_LIFE_S:
        yield Violation("lifetime_s", f"must be more than 0 and at most {_LONGEST_LIFE_S:.0f} seconds")


def _name_problems(name: str) -> Iterator[Violation]:
    if len(name) > _NAME_CHARS or "\0" in name:
        yield Violation("name", f"must be text of at most {_NAME_CHARS} characters")


def _scope_problems(strange: Sequence[str]) -> Iterator[Violation]:
    if strange:
        yield Violation("scopes", f"must be of {', '.join(scopes.NAMES)}; {strange[0][:40]!r} is none")


def _refuse(problems: Sequence[Violation], what: str = "key") -> None:
    if problems:
        raise InvalidRequest(f"No {what} was made: {listed(problems)}.", violations=problems)
