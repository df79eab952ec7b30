"""What prompts became: the text encoders' answers, kept by what was asked, the latest used first. Bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch

Question = tuple[Hashable, ...]


class Embeddings:
    """An LRU of encoder answers. Device thread only."""

    def __init__(self, most_bytes: int = 256 * 2**20) -> None:
        self._most_bytes = most_bytes
        self._answers: OrderedDict[Question, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, question: Question | None, ask: Callable[[], Any]) -> Any:
        """Return the kept answer, or ask and keep it; None as the question: never kept."""
        if question is not None and question in self._answers:
            self.hits += 1
            self._answers.move_to_end(question)
            return _copied(self._answers[question][0])
        self.misses += 1
        answer = ask()
        if question is not None:
            self._keep(question, answer)
        return _copied(answer)

    def forget(self, model: str) -> None:
        """Drop what belongs to a model that left."""
        for question in [question for question in self._answers if question[0] == model]:
            self._bytes -= self._answers.pop(question)[1]

    def _keep(self, question: Question, answer: Any) -> None:
        size = sum(tensor.nbytes for tensor in _tensors(answer))
        if size > self._most_bytes or question in self._answers:
            return
        self._answers[question] = (answer, size)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._bytes -= self._answers.popitem(last=False)[1][1]


def question_of(model: str, adapters: Hashable, pipeline: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a hashable form of a call of `encode_prompt`, or None when an argument has none (a tensor, a picture)."""
    try:
        return (model, adapters, pipeline, _frozen(args), _frozen(tuple(sorted(kwargs.items()))))
    except TypeError:
        return None


def _frozen(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(part) for part in value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return type(value).__name__, value
    if isinstance(value, (torch.device, torch.dtype)):
        return str(value)
    raise TypeError(type(value).__name__)


def _copied(answer: Any) -> Any:
    """Copy lists, which pipelines may extend; they never write into tensors."""
    if isinstance(answer, list):
        return list(answer)
    return tuple(_copied(part) for part in answer) if isinstance(answer, tuple) else answer


def _tensors(answer: Any) -> Iterator[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        yield answer
    elif isinstance(answer, (list, tuple)):
        for part in answer:
            yield from _tensors(part)
