"""KEDA's calls over real gRPC, by the names on the wire, without any token."""

from __future__ import annotations

import grpc
import pytest

from darkroom.keda import externalscaler_pb2 as pb
from darkroom.keda import externalscaler_pb2_grpc as pb_grpc
from services.scheduler import scaler_servicer
from tests.unit.services.scheduler.fakes import Bench, job

CALL_S = 10.0
REF = pb.ScaledObjectRef(name="modelservers", namespace="darkroom", scaler_metadata={"target_drain_s": "10"})


async def test_keda_hears_of_work_at_once_and_how_many_workers_it_needs() -> None:
    bench = Bench()
    async with (
        bench.running() as scheduler,
        scaler_servicer.serving("127.0.0.1:0", scheduler.scaling) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.ExternalScalerStub(channel)
        stream = stub.StreamIsActive(REF, timeout=CALL_S)
        assert not (await stream.read()).result
        assert not (await stub.IsActive(REF, timeout=CALL_S)).result
        await scheduler.desk.submit(job(bench.clock.now(), estimated_units=30_000.0))
        assert (await stream.read()).result
        assert (await stub.IsActive(REF, timeout=CALL_S)).result
        (spec,) = (await stub.GetMetricSpec(REF, timeout=CALL_S)).metric_specs
        assert (spec.metric_name, spec.target_size, spec.target_size_float) == ("needed_workers", 1, 1.0)
        request = pb.GetMetricsRequest(scaled_object_ref=REF, metric_name=spec.metric_name)
        (value,) = (await stub.GetMetrics(request, timeout=CALL_S)).metric_values
        assert (value.metric_name, value.metric_value, value.metric_value_float) == ("needed_workers", 3, 3.0)
        scheduler.scaling.stop()
        assert await stream.read() is grpc.aio.EOF


async def test_a_trigger_that_cannot_be_read_is_refused() -> None:
    bench, bad = Bench(), pb.ScaledObjectRef(scaler_metadata={"max": "many"})
    async with (
        bench.running() as scheduler,
        scaler_servicer.serving("127.0.0.1:0", scheduler.scaling) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.ExternalScalerStub(channel)
        for call in (stub.IsActive, stub.GetMetricSpec):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(bad, timeout=CALL_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_names_on_the_wire_are_kedas() -> None:
    """Written down from KEDA's documentation: what was generated must not drift from it."""
    service = pb.DESCRIPTOR.services_by_name["ExternalScaler"]
    assert service.full_name == "externalscaler.ExternalScaler"
    assert [method.name for method in service.methods] == ["IsActive", "StreamIsActive", "GetMetricSpec", "GetMetrics"]
    ref = pb.ScaledObjectRef(name="n", namespace="s", scaler_metadata={"k": "v"})
    assert ref.SerializeToString() == b"\x0a\x01n\x12\x01s\x1a\x06\x0a\x01k\x12\x01v"
    assert pb.IsActiveResponse(result=True).SerializeToString() == b"\x08\x01"
    spec = pb.MetricSpec(metric_name="m", target_size=1, target_size_float=1.0)
    assert spec.SerializeToString() == b"\x0a\x01m\x10\x01\x19\x00\x00\x00\x00\x00\x00\xf0\x3f"
    request = pb.GetMetricsRequest(scaled_object_ref=pb.ScaledObjectRef(name="n"), metric_name="m")
    assert request.SerializeToString() == b"\x0a\x03\x0a\x01n\x12\x01m"


async def test_without_an_address_nothing_listens() -> None:
    bench = Bench()
    async with bench.running() as scheduler, scaler_servicer.serving("", scheduler.scaling) as port:
        assert port == 0
