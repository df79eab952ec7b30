"""What a prompt must not hold, how the list is kept, and what follows from a verdict."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.generation.attempt import FailureKind
from libs.rpc.status import REASONS
from libs.settings import BadSetting, load
from services.modelserver.blocklist import BadBlocklist, Blocklist, fold
from services.modelserver.safety import (
    ALLOWED,
    LOOK_EVERY_S,
    Category,
    Permissive,
    PromptFilter,
    Verdict,
    open_checker,
    refuse_prompt,
    show_pictures,
)
from services.modelserver.settings import ModelServerSettings

LIST = Blocklist(["zombie", "Évil Clown", "88", "mother-in-law", "拷問", "ill"])
ZERO_WIDTH = "\u200b"


@pytest.mark.parametrize(
    "prompt",
    [
        "a zombie",
        "a ZOMBIE!",
        "zombie,zombie",
        "a_zombie_walks",
        "an EVIL   clown",
        "evil-clown",
        "Èvïl cLowñ",
        "z0mb1e",
        "z0mb!3",
        "a z0mb|e!",
        "ｚｏｍｂｉｅ",
        "𝔃𝓸𝓶𝓫𝓲𝓮",
        "z\u0336o\u0336m\u0336bie",
        f"zom{ZERO_WIDTH}bie",
        "zom\u00adbie",
        "zоmbіe",  # о and і are Cyrillic
        "z o m b i e",
        "a picture of z.o.m.b.i.e now",
        "i11",
        "1ll at ease",
        "kick|zombie+run",
        "route 88",
        "my mother in law",
        "残酷な拷問の絵",
        "evil c10wn",
    ],
)
def test_an_entry_is_found_however_it_is_written(prompt: str) -> None:
    assert LIST.found_in(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a red circle",
        "zombies",  # another word; the list would name it
        "evil. A mother with a clown",
        "clown evil",
        "route 188",
        "still life of a pill",
        "a b c d",
        "拷 問",
        "!!! ||| +++",
        "11 | 111",
    ],
)
def test_other_words_are_left_alone(prompt: str) -> None:
    assert not LIST.found_in(prompt)


@given(st.text(max_size=300))
def test_folding_is_settled_and_nothing_is_found_in_an_empty_list(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert not Blocklist([]).found_in(text)


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_word_on_its_own_is_found_in_any_company(before: str, after: str) -> None:
    assert LIST.found_in(f"{before} zombie {after}")


def test_many_signs_have_no_more_readings_than_can_be_tried() -> None:
    many = Blocklist([f"word{number}" for number in range(10_000)])
    assert not many.found_in("1!" * 1000 + " " + "i1" * 500 + " a" * 1000)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(content: bytes) -> Path:
        file = tmp_path / "list.txt"
        file.write_bytes(content)
        return file

    return written


def test_a_file_holds_an_entry_a_line_and_comments(write: Callable[[bytes], Path]) -> None:
    file = write("\ufeff# what we do not draw\nzombie  # walking\n\n  evil clown \r\nC# \n".encode())
    with pytest.raises(BadBlocklist, match="line 5 holds a sign"):
        Blocklist.read(file)
    found = Blocklist.read(write(file.read_bytes().replace(b"C#", b"csharp")))
    assert [found.found_in(text) for text in ("zombie", "evil clown", "walking", "what", "csharp")] == [
        *(True, True, False, False, True)
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"ok\n\xff\xfe", "not UTF-8 at byte 3"),
        (b"fine\n???\n", "line 2 holds no letter"),
        (b"a$$", "line 1 holds a sign"),
        (b"x", "line 1 is a single character"),
        (b"w" * 201, "line 1 has 201 characters"),
        (b"-\n" * 9, "line 5 holds no letter and no digit; and 4 more"),
        (b"word\n" * 300_000, "1500000 bytes"),
    ],
)
def test_a_list_that_cannot_be_used_stops_the_start_without_being_quoted(
    write: Callable[[bytes], Path], content: bytes, told: str
) -> None:
    file = write(content)
    with pytest.raises(BadBlocklist, match=told) as caught:
        open_checker(str(file), lambda: 0.0)
    assert "$$" not in str(caught.value)
    with pytest.raises(BadSetting, match="DARKROOM_PROMPT_BLOCKLIST"):
        load(ModelServerSettings, {"DARKROOM_DATA": "d", "DARKROOM_PROMPT_BLOCKLIST": str(file)})


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read"):
        load(ModelServerSettings, {"DARKROOM_DATA": "d", "DARKROOM_PROMPT_BLOCKLIST": str(tmp_path / "none")})
    assert isinstance(open_checker("", lambda: 0.0), Permissive)


def test_the_list_is_read_again_when_it_changes_and_stands_when_it_breaks(
    write: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    now, reads = [0.0], []

    def run(work: Callable[[], None]) -> None:
        reads.append(now[0])
        work()

    def change(content: bytes) -> None:
        file = write(content)
        os.utime(file, ns=(len(reads), len(reads) + 1))
        now[0] += LOOK_EVERY_S

    checker = PromptFilter(write(b"zombie"), lambda: now[0], run)
    assert checker.check_prompt("a zombie") == Verdict(Category.BLOCKLIST)
    write(b"ghost story")
    assert checker.check_prompt("a zombie") == Verdict(Category.BLOCKLIST)  # looked a moment ago
    change(b"ghost")
    assert checker.check_prompt("a zombie") == ALLOWED
    assert not checker.check_prompt("a ghost").allowed
    change(b"\xff")
    assert not checker.check_prompt("a ghost").allowed
    write(b"").unlink()
    now[0] += LOOK_EVERY_S
    assert not checker.check_prompt("a ghost").allowed
    now[0] += LOOK_EVERY_S
    checker.check_prompt("a ghost")
    assert len(reads) == 3  # not again while nothing changes
    assert checker.policy == Blocklist(["ghost"]).digest
    now[0] += LOOK_EVERY_S
    change(b"ghost # as before\nzombie")
    assert checker.policy == Blocklist(["zombie", "ghost"]).digest  # without a prompt in between
    assert "ghost" not in caplog.text


def test_a_policy_is_its_entries() -> None:
    policies = {Permissive().policy, Blocklist([]).digest, Blocklist(["a b"]).digest, Blocklist(["a", "b"]).digest}
    assert len(policies) == 4


def test_a_blocked_prompt_costs_nothing() -> None:
    assert refuse_prompt(ALLOWED) is None
    failed = refuse_prompt(Verdict(Category.BLOCKLIST))
    assert (failed.kind, failed.reason, failed.gpu_ms) == (FailureKind.BLOCKED, "SAFETY_PROMPT_BLOCKED", 0.0)
    assert failed.reason in REASONS
    assert failed.message.endswith("Nothing was charged.")


def test_pictures_that_pass_are_shown_though_others_are_withheld() -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 3
    assert show_pictures(3, (), Permissive().check_pictures(pictures)).shown == (0, 1, 2)
    assert show_pictures(3, (False,) * 3).failed is None
    some = show_pictures(3, (False, True, False), (ALLOWED, ALLOWED, Verdict(Category.CLASSIFIER)), gpu_ms=9.0)
    assert some.shown == (0,)
    assert (some.failed.kind, some.failed.reason, some.failed.gpu_ms) == (
        *(FailureKind.BLOCKED, "SAFETY_OUTPUT_BLOCKED", 9.0),
    )
    assert "2 of 3 pictures; the others are listed. The drawing is charged." in some.failed.message
    none = show_pictures(2, (True, True))
    assert none.shown == ()
    assert "withheld every picture. Nothing was charged." in none.failed.message
    assert none.failed.reason in REASONS
