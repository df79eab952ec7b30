from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs import errors
from libs.rpc import status


def every_error() -> list[type[errors.DarkroomError]]:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.DarkroomError)]
    assert len(kinds) > 8
    return kinds


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_code_and_its_own_reason_stands_in_the_table(kind: type[errors.DarkroomError]) -> None:
    assert kind in status.CODES
    if kind is not errors.DarkroomError:
        assert status.REASONS[kind.reason] is kind


def test_codes_lead_back_to_one_kind() -> None:
    assert len(set(status.CODES.values())) == len(status.CODES)


@pytest.mark.parametrize("reason", sorted(status.REASONS))
def test_every_reason_survives_the_wire(reason: str) -> None:
    error = status.REASONS[reason](
        "What happened. Nothing was charged.",
        reason=reason,
        metadata={"dimension": "cost", "fits_now": "768x768x20"},
        violations=[errors.Violation("width", "must be a multiple of 8"), errors.Violation("steps", "must be from 1")],
        retry_after_s=2.5,
    )
    wire = status_pb2.Status.FromString(status.to_status(error).SerializeToString())
    back = status.from_status(wire)
    assert (type(back), back.reason, back.message) == (type(error), reason, error.message)
    assert (back.metadata, back.violations, back.retry_after_s) == (error.metadata, error.violations, 2.5)


def test_a_status_has_one_error_info_and_only_the_details_that_apply() -> None:
    limited = status.to_status(errors.LimitExceeded("Slow down.", metadata={"dimension": "requests"}, retry_after_s=1))
    plain = status.to_status(errors.NotFound("Nothing there."))
    names = [[packed.TypeName().rpartition(".")[2] for packed in s.details] for s in (limited, plain)]
    assert names == [["ErrorInfo", "RetryInfo", "QuotaFailure"], ["ErrorInfo"]]
    info = error_details_pb2.ErrorInfo()
    assert plain.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("darkroom", "NOT_FOUND")


def test_a_retry_is_never_told_too_early() -> None:
    made = status.to_status(errors.Unavailable("Away.", retry_after_s=0.0001))
    retry = error_details_pb2.RetryInfo()
    assert made.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1


def test_a_status_of_another_make_is_classed_by_its_code() -> None:
    back = status.from_status(status_pb2.Status(code=code_pb2.NOT_FOUND, message="gone"))
    assert (type(back), back.reason) == (errors.NotFound, "NOT_FOUND")
    assert type(status.from_status(status_pb2.Status(code=code_pb2.DATA_LOSS))) is errors.InternalFault


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, errors.InternalFault),
    ],
)
def test_a_failed_call_names_the_peer_that_did_not_answer(
    code: grpc.StatusCode, kind: type[errors.DarkroomError]
) -> None:
    failed = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")
    error = status.from_rpc_error(failed, "scheduler")
    assert type(error) is kind
    if kind is errors.Unavailable:
        assert error.metadata == {"part": "scheduler"}
        assert error.retry_after_s


@pytest.mark.parametrize(
    "details", [b"\xff not a message", status.to_status(errors.NotFound("gone")).SerializeToString()]
)
def test_details_that_do_not_belong_to_the_answer_are_left(details: bytes) -> None:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details))
    failed = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, details="no")
    assert type(status.from_rpc_error(failed, "scheduler")) is errors.Unavailable
