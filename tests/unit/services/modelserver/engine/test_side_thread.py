"""Work beside the denoiser is work of the device."""

from __future__ import annotations

import threading

from services.modelserver.engine.device import Device
from services.modelserver.engine.side_thread import Answer, SideThread


def test_what_a_side_thread_does_counts_as_work_although_no_pass_goes_on():
    device, woken = Device("cpu", threads=1), threading.Event()
    device.overlaps = True  # as a GPU does
    side = SideThread("decode", device, woken.set)
    heard: list[Answer] = []
    before_s = device.now()
    side.put(lambda: sum(range(100_000)), heard.append)
    assert woken.wait(10)
    for answer in side.answers():
        answer.then(answer)
    side.close()
    assert heard[0].error is None
    assert 0.0 < device.busy.seconds <= device.now() - before_s
    assert device.busy.seconds >= heard[0].seconds * 0.5
