"""Envoy's `ext_authz` on the wire: its question to `Door`, and the answer as Envoy takes it."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.ratelimiter.v1 import ext_authz_pb2 as pb
from services.ratelimiter.door import authz_wire
from services.ratelimiter.door.door import Door

_SERVICE = "envoy.service.auth.v3.Authorization"


class AuthzServicer:
    """Answers `Check`. A failure of ours is left a failure: Envoy then answers 503 and lets nobody in."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def Check(self, request: pb.CheckRequest, _context: grpc.aio.ServicerContext[Any, Any]) -> pb.CheckResponse:
        """Let the caller in with their identity, or refuse with 401."""
        question = authz_wire.question_from_envoy(request)
        answer = await self._door.check(question)
        return authz_wire.answer_to_envoy(answer, in_grpc=question.is_grpc)


def handler(servicer: AuthzServicer) -> grpc.GenericRpcHandler:
    """Return the service for `grpc.aio.Server.add_generic_rpc_handlers`, under the name that Envoy calls it by."""
    check = grpc.unary_unary_rpc_method_handler(
        servicer.Check,
        request_deserializer=pb.CheckRequest.FromString,
        response_serializer=pb.CheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {"Check": check})
