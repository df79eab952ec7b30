"""Keys: who is recognised, how soon a withdrawal works, what is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from libs.errors import Unauthenticated, Unavailable
from libs.ids import KeyId, TenantId
from libs.scopes import Scope
from libs.testing.clock import ManualClock
from services.ratelimiter.keys import form as keys
from services.ratelimiter.keys.accounts import KeptKey, Key, KeyPlace
from services.ratelimiter.keys.keyring import Keyring

TENANT = TenantId("t")


@dataclass
class FakeAccounts:
    """Keys in a dictionary; counts the questions."""

    kept: dict[bytes, KeptKey] = field(default_factory=dict)
    used: list[dict[KeyId, float]] = field(default_factory=list)
    forgotten: list[float] = field(default_factory=list)
    questions: int = 0
    down: bool = False

    async def add(self, kept: KeptKey) -> None:
        self.kept[kept.digest] = kept

    async def admit(self, tenant_id: TenantId, tier: str, now_s: float) -> str:
        return tier

    async def find(self, digest: bytes) -> KeptKey | None:
        self.questions += 1
        return self.kept.get(digest)

    async def get(self, key_id: KeyId) -> Key:
        return next(kept.key for kept in self.kept.values() if kept.key.id == key_id)

    async def replace(self, key_id: KeyId, kept: KeptKey, until_s: float) -> Key:
        digest, old = next((d, k) for d, k in self.kept.items() if k.key.id == key_id)
        self.kept[digest] = replace(old, key=replace(old.key, expires_s=until_s, replaced_by=kept.key.id))
        self.kept[kept.digest] = kept
        return self.kept[digest].key

    async def list(self, tenant_id: TenantId | None) -> Sequence[Key]:
        return [kept.key for kept in self.kept.values()]

    async def revoke(self, key_id: KeyId, now_s: float) -> Key:
        digest, kept = next((d, k) for d, k in self.kept.items() if k.key.id == key_id)
        self.kept[digest] = replace(kept, key=replace(kept.key, revoked_s=now_s))
        return self.kept[digest].key

    async def page(self, tenant_id: TenantId, most: int, after: KeyPlace | None) -> Sequence[Key]:
        return []

    async def named(self, key_ids: Sequence[KeyId]) -> Sequence[Key]:
        self.questions += 1
        return [kept.key for kept in self.kept.values() if kept.key.id in key_ids]

    async def working(self, tenant_id: TenantId, now_s: float) -> int:
        return len(self.kept)

    async def forget_ended(self, before_s: float) -> int:
        self.forgotten.append(before_s)
        return 1000 if len(self.forgotten) == 1 else 0

    async def mark_used(self, used_s: Mapping[KeyId, float]) -> None:
        if self.down:
            raise Unavailable("down")
        self.used.append(dict(used_s))


@pytest.fixture
def accounts() -> FakeAccounts:
    return FakeAccounts()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keyring(accounts: FakeAccounts, clock: ManualClock) -> Keyring:
    return Keyring(accounts, clock)


async def test_a_key_has_its_form_and_only_its_hash_is_kept(keyring: Keyring, accounts: FakeAccounts):
    key, secret = await keyring.create(TENANT, "pro", "laptop")
    assert keys.is_well_formed(secret)
    assert len(secret) == 3 + 8 + 1 + 43
    assert secret.startswith(key.prefix)
    assert len(key.prefix) == 11
    assert secret[12:] not in repr(accounts.kept)
    assert await keyring.authenticate(secret) == key


async def test_two_keys_never_look_alike(keyring: Keyring):
    made = [await keyring.create(TENANT, "pro", "") for _ in range(50)]
    assert len({secret for _, secret in made}) == len({key.prefix for key, _ in made}) == 50


async def test_keys_that_have_ended_are_told_as_they_stand_and_never_from_the_cache(
    keyring: Keyring, accounts: FakeAccounts, clock: ManualClock
):
    (lasting, _), (brief, secret), (gone, _) = [
        await keyring.create(TENANT, "pro", "", lifetime_s=60) for _ in range(3)
    ]
    await keyring.authenticate(secret)
    asked = [lasting.id, brief.id, gone.id, KeyId("key_none")]
    assert set(await keyring.ended(asked)) == {"key_none"}  # forgotten: it ended 30 days ago
    await accounts.revoke(gone.id, clock.now())  # as another rate limiter does
    await accounts.replace(brief.id, KeptKey(replace(brief, id=KeyId("key_new")), b"new"), clock.now())
    told = await keyring.ended(asked)
    assert {key_id: why.reason for key_id, why in told.items()} == {
        brief.id: "KEY_EXPIRED",
        gone.id: "KEY_REVOKED",
        "key_none": "KEY_REVOKED",
    }
    assert (await keyring.authenticate(secret)).id == brief.id


@pytest.mark.parametrize("text", ["", "dk_", "sk-123", "dk_ABCDEFGH_short", "dk_ABCDEFG!_" + "a" * 43])
async def test_what_cannot_be_a_key_is_never_looked_up(keyring: Keyring, accounts: FakeAccounts, text: str):
    with pytest.raises(Unauthenticated, match="not an API key"):
        await keyring.authenticate(text)
    assert accounts.questions == 0


async def test_an_unknown_key_is_refused(keyring: Keyring):
    with pytest.raises(Unauthenticated, match="not known") as caught:
        await keyring.authenticate(keys.new_secret())
    assert caught.value.reason == "KEY_INVALID"


async def test_an_unknown_key_is_looked_up_once_in_a_while(
    keyring: Keyring, accounts: FakeAccounts, clock: ManualClock
):
    secret = keys.new_secret()
    for _ in range(500):
        with pytest.raises(Unauthenticated, match="not known"):
            await keyring.authenticate(secret)
    assert accounts.questions == 1
    assert keyring.remembers(secret)
    await clock.advance(3)
    assert not keyring.remembers(secret)
    with pytest.raises(Unauthenticated, match="not known"):
        await keyring.authenticate(secret)
    assert accounts.questions == 2


async def test_however_many_unknown_keys_come_no_more_than_ten_thousand_are_remembered(keyring: Keyring):
    secrets = [keys.new_secret() for _ in range(10_001)]
    for secret in secrets:
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(secret)
    assert [keyring.remembers(secret) for secret in (secrets[0], secrets[1], secrets[-1])] == [False, True, True]


async def test_a_key_that_was_good_is_remembered_when_it_must_be_looked_up_again(keyring: Keyring, clock: ManualClock):
    _, secret = await keyring.create(TENANT, "pro", "")
    assert not keyring.remembers(secret)
    await keyring.authenticate(secret)
    await clock.advance(60)
    assert keyring.remembers(secret)


async def test_a_store_that_answers_with_another_key_lets_nobody_in(keyring: Keyring, accounts: FakeAccounts):
    _, secret = await keyring.create(TENANT, "pro", "")
    stranger = keys.new_secret()
    accounts.kept[keys.digest(stranger)] = accounts.kept[keys.digest(secret)]
    with pytest.raises(Unauthenticated):
        await keyring.authenticate(stranger)


async def test_a_withdrawal_here_works_at_once(keyring: Keyring):
    key, secret = await keyring.create(TENANT, "pro", "")
    await keyring.authenticate(secret)
    await keyring.revoke(key.id)
    with pytest.raises(Unauthenticated, match="withdrawn"):
        await keyring.authenticate(secret)


async def test_a_withdrawal_elsewhere_works_within_five_seconds(
    keyring: Keyring, accounts: FakeAccounts, clock: ManualClock
):
    key, secret = await keyring.create(TENANT, "pro", "")
    for _ in range(3):
        await keyring.authenticate(secret)
    assert accounts.questions == 1
    await accounts.revoke(key.id, clock.now())
    await clock.advance(5)
    with pytest.raises(Unauthenticated):
        await keyring.authenticate(secret)


async def test_the_last_use_is_written_to_the_minute_and_survives_a_failure(
    keyring: Keyring, accounts: FakeAccounts, clock: ManualClock
):
    key, secret = await keyring.create(TENANT, "pro", "")
    await keyring.authenticate(secret)
    used_s, accounts.down = clock.now(), True
    with pytest.raises(Unavailable):
        await keyring.write_use()
    accounts.down = False
    await keyring.write_use()
    assert accounts.used == [{key.id: used_s}]
    digest = keys.digest(secret)
    accounts.kept[digest] = replace(accounts.kept[digest], key=replace(key, last_used_s=used_s))
    await clock.advance(59)
    await keyring.authenticate(secret)
    await keyring.write_use()
    assert len(accounts.used) == 1
    await clock.advance(5)
    await keyring.authenticate(secret)
    await keyring.write_use()
    assert accounts.used[1:] == [{key.id: clock.now()}]


async def test_a_key_works_until_it_expires_to_the_moment(keyring: Keyring, clock: ManualClock):
    key, secret = await keyring.create(TENANT, "pro", "", lifetime_s=2.0)
    assert key.expires_s == clock.now() + 2
    await keyring.authenticate(secret)
    await clock.advance(2)  # still in the cache
    with pytest.raises(Unauthenticated, match="has expired") as caught:
        await keyring.authenticate(secret)
    assert caught.value.reason == "KEY_EXPIRED"


async def test_a_replacement_without_overlap_ends_the_old_key_at_once(keyring: Keyring):
    key, secret = await keyring.create(TENANT, "pro", "", frozenset({Scope.JOBS_READ}))
    await keyring.authenticate(secret)
    rotation = await keyring.rotate(key.id, 0.0)
    with pytest.raises(Unauthenticated, match="has expired"):
        await keyring.authenticate(secret)
    assert (await keyring.authenticate(rotation.secret)).scopes == {Scope.JOBS_READ}


async def test_keys_are_forgotten_thirty_days_after_they_ended_in_steps(
    keyring: Keyring, accounts: FakeAccounts, clock: ManualClock
):
    assert await keyring.forget_ended() == 1000
    assert accounts.forgotten == [clock.now() - 30 * 86_400] * 2


async def test_no_secret_is_ever_logged(keyring: Keyring, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("DEBUG"):
        key, secret = await keyring.create(TENANT, "pro", "")
        rotation = await keyring.rotate(key.id, 60.0)
        await keyring.authenticate(secret)
        await keyring.revoke(rotation.key.id)
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(rotation.secret)
    told = " ".join(str(record.__dict__) for record in caplog.records)
    assert key.id in told
    assert not [each for each in (secret, rotation.secret) if each[12:] in told]
