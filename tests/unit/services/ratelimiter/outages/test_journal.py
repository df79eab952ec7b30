"""What was answered alone, on disk until it is told."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.reservation import Hold, Step
from services.ratelimiter.outages.journal import Entry, Journal, folded

HOLD = Hold(JobId("job"), TenantId("t"), "pro", 100.0, 2, KeyId("k"), "203.0.113.7", 512, 20)


def entry(step: Step, at_s: float = 1.0, **parts) -> Entry:
    return replace(Entry(step, HOLD, at_s), **parts)


def test_what_is_written_is_read_until_it_is_dropped(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    assert journal.is_empty
    assert journal.read().entries == []
    written = [
        entry(Step.RESERVE, reserved_s=1.0),
        entry(Step.SETTLE, charge=Charge(5.0, Cause.PARTLY, 1), is_first=False),
    ]
    for each in written:
        journal.write(each)
    part = Journal(tmp_path / "journal").read()
    assert part.entries == written
    later = entry(Step.CONFIRM, 3.0)
    journal.write(later)
    journal.drop(part.end)
    assert journal.read().entries == [later]
    journal.drop(journal.read().end)
    assert journal.is_empty


def test_a_long_one_is_read_in_parts_and_what_was_told_is_not_told_again(tmp_path: Path):
    journal = Journal(tmp_path / "journal", part_bytes=1000)
    written = [entry(Step.CONFIRM, float(n)) for n in range(20)]
    for each in written:
        journal.write(each)
    assert list(journal.all()) == written
    told, parts = [], 0
    while not journal.is_empty:
        part = journal.read()
        told += part.entries
        if not parts:
            journal.write(entry(Step.RELEASE))
        parts += 1
        journal.drop(part.end)
    assert told == [*written, entry(Step.RELEASE)]
    assert 3 < parts < 20
    assert (tmp_path / "journal").stat().st_size == 0


def test_a_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    journal = Journal(tmp_path / "journal")
    journal.write(entry(Step.RESERVE))
    cut = (tmp_path / "journal").read_bytes()[:-20]
    (tmp_path / "journal").write_bytes(cut)
    journal.write(entry(Step.CONFIRM))
    assert journal.read().entries == [entry(Step.CONFIRM)]
    assert "a line of the journal cannot be read" in caplog.messages


def test_a_disk_that_refuses_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    Journal(tmp_path / "none" / "journal").write(entry(Step.RESERVE))
    assert "an answer is not in the journal" in caplog.messages


def test_it_is_opened_once_for_many_answers_and_not_kept_when_all_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal, opened, opens = Journal(tmp_path / "journal"), list[int](), os.open

    def opening(path: Path, flags: int, mode: int) -> int:
        opened.append(opens(path, flags, mode))
        return opened[-1]

    monkeypatch.setattr(os, "open", opening)
    for step in (Step.RESERVE, Step.CONFIRM, Step.SETTLE):
        journal.write(entry(step))
        assert journal.read().entries[-1].step is step  # it is there at once, for whoever looks
    assert len(opened) == 1
    journal.drop(journal.read().end)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    journal.write(entry(Step.RELEASE))
    assert [each.step for each in journal.read().entries] == [Step.RELEASE]
    journal.close()
    journal.close()


def test_a_file_that_somebody_removed_is_made_again(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.write(entry(Step.RESERVE))
    (tmp_path / "journal").unlink()
    journal.write(entry(Step.CONFIRM))
    assert journal.read().entries == [entry(Step.CONFIRM)]
    journal.close()


def test_after_a_disk_that_refused_the_next_answer_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path / "journal")
    journal.write(entry(Step.RESERVE))
    with monkeypatch.context() as full:
        full.setattr(os, "write", _refuses)
        journal.write(entry(Step.CONFIRM))
    journal.write(entry(Step.SETTLE))
    assert [each.step for each in journal.read().entries] == [Step.RESERVE, Step.SETTLE]
    journal.close()


def _refuses(_descriptor: int, _content: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ((Step.RESERVE, Step.RESERVE), Step.RESERVE),
        ((Step.RESERVE, Step.CONFIRM, Step.RESERVE), Step.CONFIRM),
        ((Step.CONFIRM, Step.RELEASE), Step.CONFIRM),
        ((Step.RESERVE, Step.RELEASE), Step.RELEASE),
        ((Step.RESERVE, Step.RELEASE, Step.RESERVE, Step.CONFIRM), Step.CONFIRM),
        ((Step.RESERVE, Step.SETTLE, Step.CONFIRM), Step.SETTLE),
    ],
)
def test_of_each_reservation_the_step_that_counts_in_the_end_is_told(steps: tuple[Step, ...], last: Step):
    entries = [entry(step, float(n), reserved_s=0.5 if step is Step.RESERVE else None) for n, step in enumerate(steps)]
    other = replace(entry(Step.RELEASE), hold=replace(HOLD, tenant_id=TenantId("other")))
    told = folded([*entries, other])
    assert [each.step for each in told] == [last, Step.RELEASE]
    assert told[0].reserved_s == (0.5 if steps[0] is Step.RESERVE else None)


def test_of_two_settlements_the_first_is_told():
    first, again = (entry(Step.SETTLE, at, charge=Charge(at), is_first=at == 1.0) for at in (1.0, 2.0))
    assert folded([first, again]) == [first]
