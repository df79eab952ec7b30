"""What a model server says and hears about checkpoints arrives on the other side as it was said."""

from __future__ import annotations

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from libs.clients.modelserver import event_from_pb
from libs.generation.attempt import Checkpointed
from libs.generation.spec import GenerationSpec
from libs.wire.spec import spec_to_pb
from services.modelserver import wire

SPEC = GenerationSpec("a cat", "", "m", 32, 32, 1, 3, 2.0, 1, "euler")
REF = "checkpoints/job_1/1-40"


def test_a_checkpoint_is_the_same_event_on_both_sides():
    saved = Checkpointed(REF, 40, 100)
    sent = pb.ExecuteEvent.FromString(wire.event_to_pb(saved, 1).SerializeToString())
    assert event_from_pb(sent) == saved


def test_an_order_says_where_to_go_on_from():
    request = pb.ExecuteRequest(job_id="job_1", attempt=2, epoch=3, model_version="m@1", spec=spec_to_pb(SPEC))
    assert wire.order_from_pb(request).resume_from == ""
    request.resume_from = REF
    assert wire.order_from_pb(request).resume_from == REF
