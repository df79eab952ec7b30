"""Encoding and decoding beside the denoiser: who waits for it, what is put together, what is tried when memory lacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from services.modelserver.engine.batcher import table_key_of
from services.modelserver.engine.calls import Call, Kind
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.pipeline_run import PipelineRun
from services.modelserver.engine.protocol import DeviceLost, OutOfMemory
from services.modelserver.engine.side_thread import Answer, SideThread

MOST_DECODED = 16  # pictures in one decode, however much they would pay
GoOn = Callable[[PipelineRun, Any, Exception | None], None]


class SideWork:
    """Device thread only. `go_on(run, value, error)` is called with each answer."""

    def __init__(self, outfit: Outfit, wake: Callable[[], None], go_on: GoOn) -> None:
        self._device, self._table, self._go_on = outfit.device, outfit.table, go_on
        self._encoder = SideThread("encode", outfit.device, wake, depth=4)
        self._decoder = SideThread("decode", outfit.device, wake, depth=1)
        self.seconds = 0.0
        self._asked: dict[PipelineRun, Call] = {}  # under way, so that nothing is asked twice

    def models(self) -> set[str]:
        """Return the models that are used here, for runs that have been stopped too."""
        return {run.request.folder.model.pinned for run in self._asked}

    def hear(self) -> bool:
        """Pass on the answers that are there."""
        answers = [*self._encoder.answers(), *self._decoder.answers()]
        for answer in answers:
            answer.then(answer)
        return bool(answers)

    def send(self, runs: Sequence[PipelineRun]) -> bool:
        """Hand over what the runs wait for, as far as the queues take it."""
        sent = False
        for run in self._waiting(runs, Kind.ENCODE):
            assert run.call is not None
            thread = self._thread_of(run.call)
            if not thread.full:
                self._put(thread, [run], partial(_alone, run.call))
                sent = True
        decoding = self._waiting(runs, Kind.DECODE)
        if decoding and not self._decoder.full:
            self._decode(decoding)
            sent = True
        return sent

    def close(self) -> None:
        """End the threads."""
        self._encoder.close()
        self._decoder.close()

    def _thread_of(self, call: Call) -> SideThread:
        """Return who answers a call; a VAE keeps things between its calls and must be asked by one thread only."""
        return self._encoder if call.kind is Kind.ENCODE and call.module is None else self._decoder

    def _waiting(self, runs: Sequence[PipelineRun], kind: Kind) -> list[PipelineRun]:
        return [r for r in runs if r.call is not None and r.call.kind is kind and self._asked.get(r) is not r.call]

    def _decode(self, waiting: Sequence[PipelineRun]) -> None:
        """Decode the first and those that can be put with it, as many pictures as pay."""
        first = waiting[0]
        group = _group(first)
        if group is None:
            assert first.call is not None
            self._put(self._decoder, [first], partial(_alone, first.call))
            return
        key = table_key_of(first.request, "decode")
        most = min(
            self._table.best_rows(key, MOST_DECODED),
            self._table.most_rows_within(key, self._device.free_bytes(), MOST_DECODED),
        )
        together, rows = [first], len(_latents(first))
        for run in waiting[1:]:
            if _group(run) == group and rows + len(_latents(run)) <= most:
                together.append(run)
                rows += len(_latents(run))
        assert first.call is not None
        vae, latents = first.call.module, [_latents(run) for run in together]
        self._put(self._decoder, together, lambda: _decoded(vae, latents))

    def _put(self, thread: SideThread, runs: Sequence[PipelineRun], do: Callable[[], list[Any]]) -> None:
        """Hand over work that answers each of the runs, in order."""
        for run in runs:
            assert run.call is not None
            self._asked[run] = run.call
        asked = [(run, self._asked[run]) for run in runs]
        thread.put(do, partial(self._answered, asked))

    def _answered(self, asked: list[tuple[PipelineRun, Call]], answer: Answer) -> None:
        self.seconds += answer.seconds
        for run, _ in asked:
            self._asked.pop(run, None)
        runs = [run for run, call in asked if run.call is call]  # the others were stopped meanwhile
        if not runs:
            return
        decoded = asked[0][1].kind is Kind.DECODE
        share = len(runs) / len(asked)  # of those who asked, some may have gone
        self._charge(runs, answer.seconds * share, decoded=decoded and answer.error is None and share == 1)
        if answer.error is not None:
            self._failed(runs, as_failure(answer.error))
            return
        by_call = {call: value for (_, call), value in zip(asked, answer.value, strict=True)}
        for run in runs:
            assert run.call is not None
            self._go_on(run, by_call[run.call], None)

    def _failed(self, runs: Sequence[PipelineRun], failure: Exception) -> None:
        """Try again with less memory: one by one, then in slices and tiles; what fails alone is at fault."""
        call = runs[0].call
        assert call is not None
        if isinstance(failure, DeviceLost):
            self._go_on(runs[0], None, failure)
            return
        self._device.release()
        if len(runs) > 1:
            for run in runs:
                assert run.call is not None
                self._put(self._decoder, [run], partial(_alone, run.call))
        elif isinstance(failure, OutOfMemory) and call.kind is Kind.ENCODE and not call.retried:
            call.retried = True  # what others held may be free now
            self._put(self._thread_of(call), runs, partial(_alone, call))
        elif isinstance(failure, OutOfMemory) and (smaller := _smaller(call)) is not None:
            self._put(self._decoder, runs, smaller)
        else:
            self._go_on(runs[0], None, failure)

    def _charge(self, runs: Sequence[PipelineRun], seconds: float, *, decoded: bool) -> None:
        rows = [sum(part.request.spec.images for part in run.parts) for run in runs]
        for run, count in zip(runs, rows, strict=True):
            for part in run.parts:
                part.gpu_ms += 1000 * seconds * count / sum(rows) / len(run.parts)
        if decoded:
            self._table.record(table_key_of(runs[0].request, "decode"), sum(rows), seconds)


def _group(run: PipelineRun) -> object | None:
    """Return what decodes must have in common to be one; None for a decode that says more than latents."""
    call = run.call
    if call is None or call.kwargs.get("return_dict", True) is not False or run.request.folder.options.strict:
        return None
    if set(call.kwargs) - {"return_dict", "generator"} or len(call.args) != 1 or call.args[0].ndim != 4:
        return None
    return id(call.module), call.args[0].shape[1:], call.args[0].dtype


def _latents(run: PipelineRun) -> torch.Tensor:
    assert run.call is not None
    latents: torch.Tensor = run.call.args[0]
    return latents


def _decoded(vae: Any, latents: Sequence[torch.Tensor]) -> list[Any]:
    pictures = vae.decode(torch.cat(list(latents)), return_dict=False)[0]
    return [(part,) for part in pictures.split([len(each) for each in latents])]


def _alone(call: Call) -> list[Any]:
    """Return one call's answer in the form of `_decoded`."""
    return [call.run()]


def _smaller(call: Call) -> Callable[[], list[Any]] | None:
    """Return a decode that takes less memory than the one that failed: in slices, which changes nothing, then in tiles.

    By a VAE of its own around the same weights: that of the model is everybody's. None when nothing is left to try.
    """
    if call.kind is not Kind.DECODE or not call.args:
        return None
    vae = copy.copy(call.module)
    for name in ("slicing", "tiling"):
        if not getattr(vae, f"use_{name}", True) and hasattr(vae, f"enable_{name}"):
            getattr(vae, f"enable_{name}")()
            call.module = vae
            return lambda: [vae.decode(*call.args, **call.kwargs)]
    return None
