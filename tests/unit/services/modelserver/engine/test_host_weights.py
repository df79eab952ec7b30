from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.host_weights import HostMemory, HostWeights, memory_of
from services.modelserver.engine.protocol import DeviceLost, OutOfMemory
from tests.unit.services.modelserver.engine.resident_models import OwnMemory


def pipeline() -> SimpleNamespace:
    torch.manual_seed(0)
    unet = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 5)).eval()
    convolution = unet[0].weight
    convolution.data = convolution.data.contiguous(memory_format=torch.channels_last)
    text = torch.nn.Module()
    text.embedding = torch.nn.Parameter(torch.randn(7, 5, dtype=torch.bfloat16), requires_grad=False)
    text.tied = text.embedding
    text.register_buffer("positions", torch.arange(7), persistent=False)
    text.register_buffer("nothing", torch.empty(0))
    return SimpleNamespace(components={"unet": unet, "text_encoder": text, "again": unet, "scheduler": None})


def tensors(pipe: SimpleNamespace) -> list[torch.Tensor]:
    parts = [pipe.components["unet"], pipe.components["text_encoder"]]
    return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]


def places(pipe: SimpleNamespace) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors(pipe)} - {0}


def test_weights_go_to_the_device_in_one_copy_and_come_back_to_the_same_place():
    pipe, memory = pipeline(), OwnMemory()
    before = [tensor.detach().clone() for tensor in tensors(pipe)]
    strides = [tensor.stride() for tensor in tensors(pipe)]
    weights = HostWeights(pipe, memory)
    on_host = places(pipe)
    assert weights.bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors(pipe))
    assert len(on_host) == 1 == len(memory.registered)
    for _ in range(2):
        weights.enter()
        assert weights.arrived()
        assert len(places(pipe)) == 1
        assert not places(pipe) & on_host
        weights.leave()
        assert places(pipe) == on_host
    assert len([size for size in memory.copies if size]) == 2
    assert all(torch.equal(one, other) for one, other in zip(tensors(pipe), before, strict=True))
    assert [tensor.stride() for tensor in tensors(pipe)] == strides
    text = pipe.components["text_encoder"]
    assert text.tied is text.embedding
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors(pipe))
    weights.let_go()
    assert memory.registered == set()


def test_drawing_after_a_round_trip_gives_the_same():
    pipe = pipeline()
    unet, picture = pipe.components["unet"], torch.randn(2, 3, 7, 7)
    with torch.inference_mode():
        before = unet(picture)
        weights = HostWeights(pipe, OwnMemory())
        weights.enter()
        on_device = unet(picture)
        weights.leave()
        after = unet(picture)
    assert torch.equal(before, on_device)
    assert torch.equal(before, after)
    weights.let_go()


def test_an_adapter_that_came_later_goes_along():
    pipe, memory = pipeline(), OwnMemory()
    weights = HostWeights(pipe, memory)
    weights.enter()
    unet = pipe.components["unet"]
    wrapped = torch.nn.Module()
    wrapped.base_layer, wrapped.lora = unet[2], torch.nn.Parameter(torch.randn(5, 2))
    unet[2] = wrapped  # as peft does: the layer's parameters get other names
    lora = wrapped.lora.detach().clone()
    weights.leave()
    weights.enter()
    assert [size for size in memory.copies if size][-1] == lora.numel() * 4
    assert torch.equal(wrapped.lora, lora)
    assert wrapped.base_layer.weight.untyped_storage().data_ptr() in places(pipe)
    weights.let_go()
    assert sum(tensor.numel() for tensor in tensors(pipe)) == 0


def test_without_room_everything_is_where_it_was():
    pipe, memory = pipeline(), OwnMemory()
    weights = HostWeights(pipe, memory)
    on_host = places(pipe)
    memory.room_bytes = 100
    with pytest.raises(OutOfMemory):
        weights.enter()
    assert places(pipe) == on_host
    weights.let_go()


def test_a_lost_device_is_named_and_not_touched_again(monkeypatch):
    pipe, memory = pipeline(), OwnMemory()
    weights = HostWeights(pipe, memory)

    def lost(_tensor):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(memory, "copy", lost)
    with pytest.raises(DeviceLost):
        weights.enter()
    weights.let_go()


def test_the_hosts_copy_can_be_forgotten_while_the_device_draws():
    pipe, memory = pipeline(), OwnMemory()
    weights = HostWeights(pipe, memory)
    weights.enter()
    before = [tensor.detach().clone() for tensor in tensors(pipe)]
    weights.forget_host()
    assert memory.registered == set()
    assert all(torch.equal(one, other) for one, other in zip(tensors(pipe), before, strict=True))
    weights.let_go()


def test_a_device_without_memory_of_its_own_leaves_the_tensors_as_they_came():
    pipe = pipeline()
    before = places(pipe)
    threads = torch.get_num_threads()
    try:
        memory = memory_of(Device("cpu", threads=1))
    finally:
        torch.set_num_threads(threads)
    assert isinstance(memory, HostMemory)
    weights = HostWeights(pipe, memory)
    weights.enter()
    weights.leave()
    assert places(pipe) == before
    weights.let_go()
    assert places(pipe) == set()
