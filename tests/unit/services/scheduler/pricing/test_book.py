"""Whose milliseconds are units, and when prices change."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from services.scheduler.forecast.speeds import PRIOR_S_PER_UNIT
from services.scheduler.pricing.anchor import Anchor, Standing
from services.scheduler.pricing.book import PriceBook
from services.scheduler.storage.unreadable import UNREADABLE
from tests.unit.libs.generation.test_calibration import mixed, small_machine
from tests.unit.services.scheduler.fakes import spec

M, GPU, CPU = "m@1", "NVIDIA H200", "cpu"


def drawn(book: PriceBook, device: str, jobs: int, slower: float = 1.0, seed: int = 0) -> None:
    rng = random.Random(seed)
    for asked in (mixed(rng) for _ in range(jobs)):
        book.learn(M, device, asked, slower * small_machine(asked))


def renew(book: PriceBook) -> int:
    for _ in book.renew():
        pass
    return book.table.version


def test_prices_come_into_force_with_a_new_version_once_enough_was_measured() -> None:
    book = PriceBook()
    drawn(book, GPU, 3)
    assert (renew(book), dict(book.table.entries)) == (0, {})
    drawn(book, GPU, 60)
    assert book.table.units(spec(), M) == PriceBook().table.units(spec(), M), "nothing changes in between"
    assert renew(book) == 1
    assert book.table.typical_units(spec(), M) == pytest.approx(small_machine(spec()), rel=0.2)


def test_prices_that_hardly_move_are_no_new_version() -> None:
    book = PriceBook()
    drawn(book, GPU, 400)
    assert renew(book) == 1
    table = book.table
    drawn(book, GPU, 10, seed=1)
    assert renew(book) == 1
    assert book.table is table
    drawn(book, GPU, 200, slower=1.5, seed=2)
    assert renew(book) == 2


def test_the_class_that_served_first_is_the_reference_and_others_are_worth_less_or_more() -> None:
    book = PriceBook()
    drawn(book, GPU, 50)
    drawn(book, CPU, 3, slower=20.0)
    renew(book)
    assert (book.worth(M, GPU), book.worth(M, CPU), book.worth("other@1", CPU)) == (1.0, 1.0, 1.0)
    drawn(book, CPU, 50, slower=20.0)
    renew(book)
    assert book.worth(M, GPU) == 1.0
    assert book.worth(M, CPU) == pytest.approx(1 / 20, rel=0.15)
    assert book.table.typical_units(spec(), M) == pytest.approx(small_machine(spec()), rel=0.2)


def test_an_operator_can_name_the_reference() -> None:
    book = PriceBook(reference=CPU)
    drawn(book, GPU, 50)
    renew(book)
    assert book.table.typical_units(spec(), M) == pytest.approx(small_machine(spec()), rel=0.2)
    drawn(book, CPU, 50, slower=20.0)
    renew(book)
    assert book.table.typical_units(spec(), M) == pytest.approx(20 * small_machine(spec()), rel=0.2)
    assert (book.worth(M, CPU), book.worth(M, GPU)) == (1.0, pytest.approx(20.0, rel=0.15))


def test_prices_are_learned_from_a_class_whose_worth_is_known_where_the_reference_is_gone() -> None:
    book, anchor = PriceBook(), Anchor(7, 9, {M: Standing(GPU, {GPU: 1.0, CPU: 1 / 20})})
    book.hold_to(anchor)
    drawn(book, "a stranger", 90, slower=3.0)
    assert (renew(book), dict(book.table.entries)) == (8, {}), "nobody knows what its milliseconds are worth"
    drawn(book, CPU, 400, slower=20.0)
    assert renew(book) == 9
    assert book.table.typical_units(spec(), M) == pytest.approx(small_machine(spec()), rel=0.2)
    drawn(book, CPU, 10, slower=20.0, seed=1)
    assert renew(book) == 9, "hardly moved"
    assert book.anchor(9).models == anchor.models
    drawn(book, GPU, 60, slower=2.0, seed=2)
    renew(book)
    assert book.table.typical_units(spec(), M) == pytest.approx(2 * small_machine(spec()), rel=0.2)
    assert book.worth(M, CPU) == pytest.approx(1 / 10, rel=0.2)


def test_seconds_of_a_device_are_those_of_the_devices_that_draw() -> None:
    book = PriceBook()
    assert book.seconds_per_unit(M) == PRIOR_S_PER_UNIT
    drawn(book, GPU, 50)
    renew(book)
    asked = spec(width=256, height=256, steps=12)
    assert book.table.units(asked, M) * book.seconds_per_unit(M) == pytest.approx(small_machine(asked) / 1000, rel=0.2)
    drawn(book, CPU, 50, slower=20.0)
    renew(book)
    drawn(book, CPU, 100, slower=20.0)  # the GPU is gone
    told = book.table.units(asked, M) * book.seconds_per_unit(M)
    assert told == pytest.approx(20 * small_machine(asked) / 1000, rel=0.25)


def test_what_is_kept_has_the_same_version_prices_and_worths() -> None:
    book, again = PriceBook(), PriceBook()
    drawn(book, GPU, 60)
    drawn(book, CPU, 60, slower=3.0)
    renew(book)
    drawn(book, GPU, 7, slower=1.02, seed=3)
    again.restore(json.loads(json.dumps(book.to_document())))
    assert again.table == book.table
    assert again.worth(M, CPU) == book.worth(M, CPU) < 0.5
    drawn(book, GPU, 200, slower=2.0, seed=4)
    drawn(again, GPU, 200, slower=2.0, seed=4)
    assert renew(book) == renew(again) == 2
    assert again.table == book.table


def test_models_that_are_gone_are_forgotten_but_for_the_last() -> None:
    book = PriceBook()
    for number in range(5):
        book.learn(f"m@{number}", GPU, spec(), 10.0)
    book.forget(2, frozenset({"m@0"}))
    assert set(book.to_document()["models"]) == {"m@0", "m@3", "m@4"}


def test_a_model_that_comes_back_has_the_reference_that_it_had() -> None:
    book, again = PriceBook(), PriceBook()
    drawn(book, GPU, 50)
    drawn(book, CPU, 50, slower=20.0)
    renew(book)
    worth = book.worth(M, CPU)
    book.forget(0, frozenset())
    again.restore(json.loads(json.dumps(book.to_document())))
    again.remember(Anchor.from_document(json.loads(json.dumps(book.anchor(1).to_document()))))
    for each in (book, again):
        assert each.worth(M, CPU) == worth, "also for who is charged before anything is learned"
        drawn(each, CPU, 60, slower=20.0, seed=5)
        renew(each)
        assert each.worth(M, CPU) == worth < 0.1
        drawn(each, GPU, 60, seed=6)
        renew(each)
        assert each.worth(M, CPU) == pytest.approx(1 / 20, rel=0.15)


@pytest.mark.parametrize("price", ["dear", float("nan"), None])
def test_a_price_that_is_no_number_is_not_taken_up(price: object) -> None:
    book, again = PriceBook(), PriceBook()
    drawn(book, GPU, 60)
    renew(book)
    kept = book.to_document()
    kept["entries"][M]["per_mp"] = price
    with pytest.raises(UNREADABLE):
        again.restore(kept)
    assert again.table == PriceBook().table


def numbers_in(kept: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where plain values stand; of a list the first and the last."""
    if not isinstance(kept, dict | list):
        yield path
        return
    names = list(kept) if isinstance(kept, dict) else sorted({0, len(kept) - 1} if kept else set())
    for name in names:
        yield from numbers_in(kept[name], (*path, name))


def with_other(document: Any, path: tuple[Any, ...], value: object) -> Any:
    changed = json.loads(json.dumps(document))
    at = changed
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e300, "x", None, []], ids=str)
def test_what_is_read_never_ends_who_reckons_with_it(value: object) -> None:
    book = PriceBook()
    drawn(book, GPU, 12)
    renew(book)
    drawn(book, GPU, 1, slower=20.0)
    kept = book.to_document()
    refused = list[str]()
    for path in numbers_in({name: kept[name] for name in ("version", "entries", "models")}):
        again = PriceBook()
        try:
            again.restore(with_other(kept, path, value))
        except UNREADABLE:
            refused.append(str(path[-1]))
            assert again.table == PriceBook().table
            continue
        drawn(again, GPU, 12, slower=1.1, seed=1)
        renew(again)
        told = again.table.units(spec(), M), again.seconds_per_unit(M), again.worth(M, GPU)
        assert all(math.isfinite(each) and each > 0.0 for each in told), path
    assert {"typical", "high", "ms", "scale", "guided", GPU} <= set(refused)


@pytest.mark.parametrize("name", ["values", "totals", "products", "prior"])
def test_prices_of_other_kinds_of_work_are_not_taken_up(name: str) -> None:
    book, again = PriceBook(), PriceBook()
    drawn(book, GPU, 12)
    with pytest.raises(UNREADABLE):
        again.restore(with_other(book.to_document(), ("models", M, "classes", GPU, "fit", name), []))


def test_an_anchor_is_read_whatever_a_later_release_keeps_beside_it() -> None:
    anchor = Anchor(7, 9, {M: Standing(GPU, {CPU: 0.05})})
    assert Anchor.from_document(anchor.to_document() | {"format": 3, "more": []}) == anchor
    for worth in (0.0, float("nan"), "much"):
        with pytest.raises(UNREADABLE):
            Anchor.from_document(
                {"version": 1, "catalog_version": 1, "models": {M: {"reference": GPU, "worths": {CPU: worth}}}}
            )
