"""Our reading of Envoy's messages has the field numbers that Envoy has."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator

import envoy_data_plane.envoy.service.auth.v3 as envoy
import pytest
from google.protobuf.descriptor import Descriptor

from darkroom.ratelimiter.v1 import ext_authz_pb2 as pb

_FOREIGN = ("google.protobuf.Struct", "google.rpc.Status")  # the same message on both sides
Fields = dict[str, int]


def pairs(ours: Descriptor, theirs: type, path: str) -> Iterator[tuple[str, Fields, Fields]]:
    """Walk both messages; give the numbers of our fields beside those of theirs with the same names."""
    numbers = {field.name: field.metadata["betterproto"].number for field in dataclasses.fields(theirs)}
    held = {field.name: field.number for field in ours.fields}
    yield path, held, {name: numbers.get(name, 0) for name in held}
    hints = typing.get_type_hints(theirs)
    for field in ours.fields:
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry and inner.full_name not in _FOREIGN:
            yield from pairs(inner, message_of(hints[field.name]), f"{path}.{field.name}")


def message_of(hint: object) -> type:
    """Return the class in `Message | None` or `list[Message]`."""
    arguments = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    return message_of(arguments[0]) if arguments else typing.cast("type", hint)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(pb.CheckRequest, envoy.CheckRequest), (pb.CheckResponse, envoy.CheckResponse)]
)
def test_field_numbers_are_envoys(ours: type[pb.CheckRequest | pb.CheckResponse], theirs: type):
    compared = list(pairs(ours.DESCRIPTOR, theirs, ours.__name__))
    assert len(compared) >= 6
    for path, held, numbers in compared:
        assert held == numbers, path
