"""`darkroom dead|queue|schedulers|drain|undrain|pin|unpin|pins`: what is asked of the scheduler and how the answer is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from libs.cli import dead, fleet, queue
from libs.cli.main import app
from libs.cli.target import Target
from libs.clients.scheduler_admin import DeadLetter, ModelQueue, Pin, QueueView, TenantQueue, TierQueue
from libs.errors import NotFound
from libs.ids import JobId, TenantId, WorkerId
from libs.rpc import health

RUN = CliRunner()
LETTER = DeadLetter(
    JobId("job_1"), TenantId("acme"), "pro", "m@1", "WORKER_LOST", "Lost 3 times.", 3, WorkerId("gpu-0"), 1.8e9, 1.8e9
)
QUEUE = QueueView(
    (TierQueue("pro", 4, 1, 12.4),),
    (ModelQueue("m@1", 3, 1, 12.4, ""), ModelQueue("n@1", 1, 0, 5.0, "no living worker can use its model")),
    (TenantQueue(TenantId("acme"), 4, 1, 1234.5),),
)


@pytest.fixture
def asked(monkeypatch):
    """Answer by name of the method from `answers`; returns what was asked. An exception is raised."""
    told: dict[str, Any] = {"asked": [], "answers": {}}

    class Admin:
        def __init__(self, _channel):
            pass

        def __getattr__(self, name):
            async def ask(*wish, **more):
                told["asked"].append((name, *wish, *more.values()))
                answer = told["answers"].get(name)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            return ask

    @asynccontextmanager
    async def channel(_target, _service):
        yield None

    for module in (dead, fleet, queue):
        monkeypatch.setattr(module, "SchedulerAdminClient", Admin)
    monkeypatch.setattr(Target, "admin", channel)
    return told


def run(*command: str):
    return RUN.invoke(app, ["--data", str(Path.cwd()), *command])


def test_dead_letters_are_listed_with_what_killed_them(asked):
    asked["answers"]["dead_letters"] = [LETTER]
    shown = run("dead", "list", "--limit", "5")
    assert asked["asked"] == [("dead_letters", 5)]
    for part in ("job_1", "2027-01-15T08:00:00Z", "acme", "m@1", "3", "gpu-0", "WORKER_LOST", "Lost 3 times."):
        assert part in shown.output
    assert json.loads(run("dead", "list", "--json").output)[0]["reason"] == "WORKER_LOST"


@pytest.mark.parametrize(
    ("command", "method", "told"),
    [("requeue", "requeue_dead_letter", "waits again"), ("drop", "drop_dead_letter", "is dropped")],
)
def test_several_letters_go_back_or_away(asked, command, method, told):
    result = run("dead", command, "job_1", "job_2")
    assert (result.exit_code, result.output) == (0, f"job_1 {told}\njob_2 {told}\n")
    assert asked["asked"] == [(method, "job_1"), (method, "job_2")]
    shown = json.loads(run("dead", command, "job_1", "job_2", "--json").output)
    assert [entry["job_id"] for entry in shown] == ["job_1", "job_2"]


def test_a_letter_that_is_not_there_is_told_in_a_sentence(asked):
    asked["answers"]["requeue_dead_letter"] = NotFound("There is no dead letter 'job_9'.", reason="JOB_NOT_FOUND")
    result = run("dead", "requeue", "job_9")
    assert result.exit_code == 1
    assert "There is no dead letter 'job_9'. [JOB_NOT_FOUND]" in result.output


def test_schedulers_tell_which_of_them_leads(monkeypatch):
    serving = {("a:1", ""), ("b:2", ""), ("b:2", health.LEADER)}

    async def serves(address, name="", connect=None):
        return (address, name) in serving

    monkeypatch.setattr(health, "serves", serves)
    monkeypatch.setenv("DARKROOM_ADMIN_ADDRESS", "a:1,b:2,c:3")
    rows = [" ".join(line.split()) for line in run("schedulers").output.splitlines()]
    assert rows[1:] == ["a:1 stands by", "b:2 leads", "c:3 does not answer"]
    assert json.loads(run("schedulers", "--json").output)[1] == {"address": "b:2", "state": "leads"}


def test_the_queue_is_counted_by_tier_by_model_and_by_tenant(asked):
    asked["answers"]["get_queue"] = QUEUE
    shown = run("queue").output
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "pro 4 1 12 s" in rows
    assert "m@1 3 1 12 s -" in rows
    assert "n@1 1 0 5 s no living worker can use its model" in rows
    assert any(row.startswith("acme 4 1 123") for row in rows)
    assert json.loads(run("queue", "--json").output)["models"][1]["model_version"] == "n@1"


@pytest.mark.parametrize(
    ("command", "answer", "question", "told"),
    [
        (["drain", "w"], [], ("drain_worker", "w", False), "w gets no more jobs; nothing runs there\n"),
        (["drain", "w"], ["j"], ("drain_worker", "w", False), "w gets no more jobs; still running: j\n"),
        (["drain", "w", "--now"], ["j"], ("drain_worker", "w", True), "w gets no more jobs; taken back: j\n"),
        (["undrain", "w"], None, ("undrain_worker", "w"), "w gets jobs again\n"),
        (["pin", "m", "w"], "m@1", ("pin_model", "m", "w"), "w holds m@1\n"),
        (["unpin", "m", "w"], "m@1", ("unpin_model", "m", "w"), "w may let go of m@1\n"),
    ],
)
def test_a_wish_is_passed_on_and_told(
    asked, command: Sequence[str], answer: Any, question: tuple[Any, ...], told: str
) -> None:
    asked["answers"][question[0]] = answer
    result = run(*command)
    assert (result.exit_code, result.output) == (0, told)
    assert asked["asked"] == [question]
    assert json.loads(run(*command, "--json").output)["worker_id"] == "w"


def test_pins_are_listed(asked):
    asked["answers"]["pins"] = [Pin(WorkerId("w"), "m@1")]
    assert "w" in run("pins").output
    assert json.loads(run("pins", "--json").output) == [{"worker_id": "w", "model_version": "m@1"}]
