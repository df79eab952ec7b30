"""Ways to break a part of a pipeline for one request, found in a shared pass by its prompt; undone at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

PROMPT = "the poisoned one"


@dataclass(slots=True)
class Seen:
    """What a watched module was called with: rows of each call, and those of them that were the victim's."""

    rows: list[int] = field(default_factory=list)
    victims: list[int] = field(default_factory=list)

    @property
    def shared(self) -> bool:
        """Whether the victim was ever in one pass with others."""
        return any(0 < victims < rows for rows, victims in zip(self.rows, self.victims, strict=True))


def victim_rows(pipe: Any) -> Callable[[dict[str, Any]], torch.Tensor]:
    """Return what tells, of a denoiser's arguments, which rows are guided by the victim's prompt."""
    with torch.no_grad():
        embeddings = pipe.encode_prompt(**_encoding(pipe))[0]

    def rows(arguments: dict[str, Any]) -> torch.Tensor:
        given = arguments["encoder_hidden_states"]
        return (given == embeddings).flatten(1).all(dim=1)

    return rows


def _encoding(pipe: Any) -> dict[str, Any]:
    kind = type(pipe).__name__
    if kind == "StableDiffusion3Pipeline":
        return {"prompt": PROMPT, "prompt_2": None, "prompt_3": None, "max_sequence_length": 256}
    if kind == "WanPipeline":
        return {"prompt": PROMPT, "max_sequence_length": 512}
    return {"prompt": PROMPT, "device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}


@contextmanager
def nan_for_victim(pipe: Any, denoiser: torch.nn.Module) -> Generator[Seen]:
    """Let the denoiser answer NaN in the victim's rows."""
    find, seen = victim_rows(pipe), Seen()

    def spoil(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        mine = find(kwargs)
        _note(seen, mine)
        spoilt = output[0].clone()
        spoilt[mine] = float("nan")
        return (spoilt, *output[1:])

    hook = denoiser.register_forward_hook(spoil, with_kwargs=True)
    yield seen
    hook.remove()


@contextmanager
def raising_for_victim(pipe: Any, denoiser: torch.nn.Module, error: Exception) -> Generator[Seen]:
    """Let every forward fail that the victim is in."""
    find, seen = victim_rows(pipe), Seen()

    def refuse(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mine = find(kwargs)
        _note(seen, mine)
        if mine.any():
            raise error

    hook = denoiser.register_forward_pre_hook(refuse, with_kwargs=True)
    yield seen
    hook.remove()


@contextmanager
def raising_when(
    module: torch.nn.Module, error: Exception, when: Callable[[torch.Tensor], bool]
) -> Generator[list[int]]:
    """Let a module fail by what it works on. Collects the rows of the calls that it lets through."""
    passed: list[int] = []

    def refuse(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        worked_on = (
            args[0] if args else next(kwargs[name] for name in ("sample", "hidden_states", "x") if name in kwargs)
        )
        if when(worked_on):
            raise error
        passed.append(len(worked_on))

    hook = module.register_forward_pre_hook(refuse, with_kwargs=True)
    yield passed
    hook.remove()


def no_memory() -> Exception:
    """Return what torch raises when the device is full."""
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def _note(seen: Seen, mine: torch.Tensor) -> None:
    seen.rows.append(len(mine))
    seen.victims.append(int(mine.sum()))
