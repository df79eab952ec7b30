from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from libs import errors
from libs.rpc import headers
from libs.rpc.interceptors import MESH_KEY, OPERATOR_KEY, AnswerInterceptor, TokenInterceptor
from libs.rpc.status import from_status

MESH, OPERATOR = "m" * 20, "o" * 20


class Aborted(grpc.aio.AbortError):
    """What abort raises."""


@dataclass
class FakeContext:
    """Records what a caller would get, in order."""

    log: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    error: errors.DarkroomError | None = None

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        assert "headers" not in self.log
        self.log.append("headers")
        self.headers = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        call = Call(code, details, trailing)
        answered = rpc_status.from_call(call)
        assert answered is not None
        self.error = from_status(answered)
        self.log.append("abort")
        raise Aborted


@dataclass
class Call:
    """As much of a call as `rpc_status.from_call` reads."""

    _code: grpc.StatusCode
    _details: str
    _trailing: Any

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


@dataclass
class Details:
    """As much of `HandlerCallDetails` as the interceptors read."""

    method: str = "/darkroom.v1.GenerationService/GetJob"
    invocation_metadata: tuple[tuple[str, str], ...] = ()


async def wrapped(interceptor: Any, behaviour: Callable[..., Any], details: Details, *, stream: bool) -> Any:
    make = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler

    async def continuation(_details: Any) -> Any:
        return make(behaviour)

    handler = await interceptor.intercept_service(continuation, details)
    return handler.unary_stream if stream else handler.unary_unary


async def test_headers_leave_before_the_answer() -> None:
    async def read(request: Any, context: Any) -> str:
        headers.add([("X-Queue-Position", "3")])
        headers.add([("x-queue-position", "4")])
        return "answer"

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), read, Details(), stream=False)
    assert await call(None, context) == "answer"
    assert context.headers == {"x-queue-position": "4"}


async def test_a_reader_that_leaves_ends_the_method_at_once() -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            ended.append("closed")

    call = await wrapped(AnswerInterceptor(), stream, Details(), stream=True)
    messages = call(None, FakeContext())
    assert await anext(messages) == "first"
    await messages.aclose()
    assert ended == ["closed"]


async def test_a_unary_error_carries_the_headers_and_when_to_retry() -> None:
    async def refuse(request: Any, context: Any) -> str:
        headers.add([("x-ratelimit-limit-cost", "10")])
        raise errors.LimitExceeded("Full.", reason="GPU_COST_EXHAUSTED", retry_after_s=1.2)

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), refuse, Details(), stream=False)
    with pytest.raises(Aborted):
        await call(None, context)
    assert context.log == ["headers", "abort"]
    assert context.headers == {"x-ratelimit-limit-cost": "10", "retry-after": "2"}
    assert context.error is not None
    assert context.error.reason == "GPU_COST_EXHAUSTED"


async def test_a_stream_that_fails_before_its_first_message_still_has_headers() -> None:
    async def refuse(request: Any, context: Any) -> AsyncIterator[str]:
        raise errors.NotFound("No.", reason="JOB_NOT_FOUND")
        yield ""

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), refuse, Details(), stream=True)
    with pytest.raises(Aborted):
        [message async for message in call(None, context)]
    assert context.log == ["headers", "abort"]


async def test_a_stream_that_fails_later_sends_its_headers_once() -> None:
    async def break_off(request: Any, context: Any) -> AsyncIterator[str]:
        headers.add([("cache-control", "no-cache")])
        yield "one"
        raise errors.Unavailable("Away.", retry_after_s=1)

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), break_off, Details(), stream=True)
    answers = call(None, context)
    assert await anext(answers) == "one"
    with pytest.raises(Aborted):
        await anext(answers)
    assert (context.log, context.headers) == (["headers", "abort"], {"cache-control": "no-cache"})


async def test_an_empty_stream_sends_its_headers() -> None:
    async def nothing(request: Any, context: Any) -> AsyncIterator[str]:
        headers.add([("etag", '"a"')])
        return
        yield ""

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), nothing, Details(), stream=True)
    assert [message async for message in call(None, context)] == []
    assert context.headers == {"etag": '"a"'}


async def test_a_crash_is_told_without_its_text_and_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(request: Any, context: Any) -> str:
        raise KeyError("a secret")

    context = FakeContext()
    call = await wrapped(AnswerInterceptor(), crash, Details(), stream=False)
    with caplog.at_level(logging.ERROR), pytest.raises(Aborted):
        await call(None, context)
    assert isinstance(context.error, errors.InternalFault)
    assert "a secret" not in context.error.message
    assert caplog.records[0].exc_info is not None


ADMIN = "/darkroom.scheduler.v1.AdminService/GetQueue"
PLAIN = "/darkroom.scheduler.v1.SchedulerService/GetJob"


@pytest.mark.parametrize(
    ("method", "given", "reason"),
    [
        (PLAIN, {}, "MESH_TOKEN_INVALID"),
        (PLAIN, {MESH_KEY: "wrong"}, "MESH_TOKEN_INVALID"),
        (PLAIN, {MESH_KEY: MESH}, None),
        (ADMIN, {MESH_KEY: MESH}, "OPERATOR_TOKEN_INVALID"),
        (ADMIN, {OPERATOR_KEY: OPERATOR}, "MESH_TOKEN_INVALID"),
        (ADMIN, {MESH_KEY: MESH, OPERATOR_KEY: MESH}, "OPERATOR_TOKEN_INVALID"),
        (ADMIN, {MESH_KEY: MESH, OPERATOR_KEY: OPERATOR}, None),
        ("/grpc.health.v1.Health/Check", {}, None),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens(method: str, given: dict[str, str], reason: str | None, stream: bool) -> None:
    async def unary(request: Any, context: Any) -> str:
        return "in"

    async def streaming(request: Any, context: Any) -> AsyncIterator[str]:
        yield "in"

    behaviour = streaming if stream else unary
    details = Details(method, tuple(given.items()))
    call = await wrapped(TokenInterceptor(MESH, OPERATOR), behaviour, details, stream=stream)
    context = FakeContext()
    if reason is None:
        assert call is behaviour
        return
    with pytest.raises(Aborted):
        await anext(call(None, context)) if stream else await call(None, context)
    assert context.error is not None
    assert context.error.reason == reason


async def test_an_empty_token_opens_nothing() -> None:
    async def read(request: Any, context: Any) -> str:
        return "in"

    call = await wrapped(
        TokenInterceptor(MESH), read, Details(ADMIN, ((MESH_KEY, MESH), (OPERATOR_KEY, ""))), stream=False
    )
    with pytest.raises(Aborted):
        await call(None, FakeContext())
