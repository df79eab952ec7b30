"""What an address costs that tries one key after another, and who is held up by it."""

from __future__ import annotations

import pytest

from libs.errors import LimitExceeded, Unauthenticated
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.door.callers import Question
from services.ratelimiter.door.key_recogniser import ByKey
from services.ratelimiter.keys import form as keys
from services.ratelimiter.keys.keyring import Keyring
from services.ratelimiter.strangers.wrong_keys import WrongKeys
from tests.unit.services.ratelimiter.keys.test_keyring import FakeAccounts

HERE, THERE = "203.0.113.7", "203.0.113.8"


class Guesses:
    """Keys that are asked about, and told as the door tells them."""

    def __init__(self) -> None:
        self.clock, self.accounts = ManualClock(), FakeAccounts()
        self.keyring, self.wrong_keys = Keyring(self.accounts, self.clock), WrongKeys(self.clock)
        self._by_key = ByKey(self.keyring, self.wrong_keys)

    async def ask(self, secret: str, address: str = HERE) -> str:
        """Return who it is, or the kind of the refusal."""
        try:
            caller = await self._by_key.recognise(Question(address, {"authorization": f"Bearer {secret}"}))
        except LimitExceeded:
            return "too many"
        except Unauthenticated as error:
            return type(self.wrong_keys.told(error, address)).__name__
        return caller.tenant_id if caller is not None else "nobody"


@pytest.fixture
def guesses() -> Guesses:
    return Guesses()


async def test_five_hundred_guesses_are_a_few_look_ups(guesses: Guesses):
    answers = [await guesses.ask(keys.new_secret()) for _ in range(500)]
    assert answers.count("Unauthenticated") == 10
    assert answers.count("too many") == 487
    assert guesses.accounts.questions == 13
    await guesses.clock.advance(1)
    assert [await guesses.ask(keys.new_secret()) for _ in range(5)].count("too many") == 2


async def test_a_key_that_was_good_passes_at_once_beside_them_and_elsewhere_all_do(guesses: Guesses):
    _, mine = await guesses.keyring.create(TenantId("mine"), "pro", "")
    _, other = await guesses.keyring.create(TenantId("other"), "pro", "")
    assert await guesses.ask(mine) == "mine"
    for _ in range(100):
        await guesses.ask(keys.new_secret())
    await guesses.clock.advance(4)  # it must be looked up again
    for _ in range(100):
        await guesses.ask(keys.new_secret())
    assert await guesses.ask(other) == "too many"
    assert await guesses.ask(mine) == "mine"
    assert await guesses.ask(other, THERE) == "other"
