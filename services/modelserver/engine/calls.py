"""Where a pipeline's code is interrupted: its denoiser, its VAE and its prompt encoder are stand-ins that ask the loop.

A pipeline call runs as a coroutine, a greenlet of the device thread. When it calls its denoiser, `suspend` hands a
`Call` to the loop and sleeps until the loop answers. The code of diffusers is not changed and does not notice, so
guidance, samplers, masks and whatever a family does around its denoiser stay exactly its own.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from greenlet import getcurrent


class Kind(enum.Enum):
    """What a coroutine waits for."""

    FORWARD = "forward"  # the denoiser; packed with those of other requests
    ENCODE = "encode"  # prompt or picture into the model's terms, on the encode thread
    DECODE = "decode"  # latents into pictures, on the decode thread, several together


@dataclass(slots=True, eq=False)
class Call:
    """One question of a coroutine. `run` answers it alone; the loop may also answer it together with others."""

    kind: Kind
    run: Callable[[], Any]
    module: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retried: bool = False


def suspend(call: Call) -> Any:
    """Give the loop the call and return its answer, or raise what it throws. Only inside a coroutine."""
    return getcurrent().parent.switch(call)


class Standin:
    """Looks and reads like `module`; calls, and the methods named, go to the given functions."""

    def __init__(self, module: Any, call: Callable[..., Any] | None = None, **methods: Callable[..., Any]) -> None:
        self._standin_module = module
        self._standin_call = call
        self.__dict__.update(methods)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # so that isinstance sees the module's class, as pipelines ask
        return type(self._standin_module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_standin_module"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._standin_call or self._standin_module)(*args, **kwargs)


def denoiser_standin(module: Any, ask: Callable[[Call], Any]) -> Standin:
    """Return a denoiser whose forwards are asked for."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return ask(Call(Kind.FORWARD, lambda: module(*args, **kwargs), module, args, kwargs))

    return Standin(module, forward)


def first_call(pipe: Any, denoiser: str, begin: Callable[[Any], object]) -> Call:
    """Return what a pipeline first asks its denoiser, and go no further; `begin` calls the copy that it is given."""
    clone = copy.copy(pipe)
    clone.__dict__["scheduler"] = copy.deepcopy(pipe.scheduler)
    clone.__dict__[denoiser] = denoiser_standin(getattr(pipe, denoiser), _carry_out)
    try:
        begin(clone)
    except _Asked as asked:
        return asked.call
    raise ValueError(f"{type(pipe).__name__} never asked its {denoiser}")


def _carry_out(call: Call) -> Any:
    raise _Asked(call)


class _Asked(Exception):
    """Carries a call out of a pipeline."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


def vae_standin(module: Any, ask: Callable[[Call], Any]) -> Standin:
    """Return a VAE whose encodes and decodes are asked for.

    Some pipelines change the number type of their VAE for a moment. This one is everybody's, and stays as it was
    loaded; what comes in is brought to its type instead.
    """

    def encode(values: torch.Tensor, *more: Any, **kwargs: Any) -> Any:
        args = (values.to(module.dtype), *more)
        return ask(Call(Kind.ENCODE, lambda: module.encode(*args, **kwargs), module, args, kwargs))

    def decode(values: torch.Tensor, *more: Any, **kwargs: Any) -> Any:
        args = (values.to(module.dtype), *more)
        return ask(Call(Kind.DECODE, lambda: module.decode(*args, **kwargs), module, args, kwargs))

    def to(*_args: Any, **_kwargs: Any) -> Standin:
        return standin

    standin = Standin(module, encode=encode, decode=decode, to=to)
    return standin
