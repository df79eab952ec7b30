"""Settings, encoding, spans and the address that is announced."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image

from libs.generation.attempt import StageDone
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from libs.rpc.server import reachable_address
from libs.settings import BadSetting, load
from libs.telemetry import tracing
from services.modelserver.attempt import Attempt, Order
from services.modelserver.encoding import encode, encode_preview
from services.modelserver.instruments import StageRecorder
from services.modelserver.settings import SHIPPED_MODELS, ModelServerSettings


def test_settings_have_defaults_for_a_cpu(tmp_path):
    settings = load(ModelServerSettings, {"DARKROOM_DATA": str(tmp_path)})
    assert (settings.device, settings.model_folders) == ("cpu", (SHIPPED_MODELS,))
    assert settings.blob_place == str(tmp_path / "blobs")
    several = load(ModelServerSettings, {"DARKROOM_DATA": "d", "DARKROOM_MODELS": "/a:/b:"})
    assert several.model_folders == (Path("/a"), Path("/b"))
    sized = load(ModelServerSettings, {"DARKROOM_DATA": "d", "DARKROOM_MODEL_MEMORY_GB": "1.5"})
    assert sized.model_memory_bytes == 3 * 2**29


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda"),
        ("WORKER_ID", "A B"),
        ("LEASE_TTL_S", "1"),
        ("THREADS", "-1"),
        ("SLOTS", "-1"),
        ("MODEL_MEMORY_GB", "inf"),
        ("IDLE_S", "-0.5"),
        ("COLOUR", ""),
    ],
)
def test_a_malformed_setting_is_named(name, value):
    with pytest.raises(BadSetting, match=f"DARKROOM_{name}"):
        load(ModelServerSettings, {"DARKROOM_DATA": "d", f"DARKROOM_{name}": value})


@pytest.mark.parametrize(("form", "lossless"), [("png", True), ("jpeg", False), ("webp", False)])
def test_pictures_are_encoded_with_nothing_but_pixels(form, lossless):
    pixels = np.tile(np.arange(16, dtype=np.uint8)[:, None, None] * 16, (1, 24, 3))
    encoded = encode(pixels, form, 90)
    assert encoded.sha256 == hashlib.sha256(encoded.data).hexdigest()
    assert encoded.content_type == f"image/{form}"
    with Image.open(io.BytesIO(encoded.data)) as picture:
        assert (picture.format, picture.size) == (form.upper(), (24, 16))
        assert not lossless or np.array_equal(np.asarray(picture), pixels)
        assert not {"parameters", "prompt", "comment", "exif"} & set(picture.info)
    assert len(encode_preview(pixels).data) < 2000


@pytest.fixture
def spans(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer("test"))
    yield exporter, provider
    provider.shutdown()


def test_a_stage_is_a_span_of_the_calls_trace_without_the_prompt(spans):
    exporter, provider = spans
    parent = provider.get_tracer("test").start_span("Execute")
    spec = GenerationSpec("a zebra", "no stripes", "m", 16, 32, 2, 3, 2.0, 1, "euler")
    order = Order(JobId("job_1"), 1, 1, "m@1", spec)
    attempt = Attempt(order, trace.set_span_in_context(parent), StageRecorder().record)
    attempt.post(StageDone("denoise", 10.0, 12.5))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.parent.span_id) == ("denoise", parent.get_span_context().span_id)
    assert (span.start_time, span.end_time) == (10 * 10**9, 12_500_000_000)
    assert span.attributes["prompt_length"] == 7
    assert span.attributes["size"] == "16x32"
    assert "zebra" not in str(span.attributes)
    assert "stripes" not in str(span.attributes)


def test_a_listener_on_every_interface_is_announced_by_the_hosts_address():
    assert reachable_address("127.0.0.1:0", 4000) == "127.0.0.1:4000"
    assert not reachable_address("0.0.0.0:0", 4000).startswith("0.0.0.0")
