"""Money on the command line: the operator's currency with up to six places ⇄ whole millionths."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import typer

_MICROS = 1_000_000


def micros_of(text: str) -> int:
    """Return the millionths of an amount like `12.50`. Raises typer.BadParameter."""
    try:
        micros = Decimal(text) * _MICROS
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite() or micros != micros.to_integral_value():
        raise typer.BadParameter(f"{text!r} must be an amount with at most six places, like 12.50")
    return int(micros)


def text_of(micros: int | None) -> str:
    """Return an amount with two places, or as many as it has; `-` for none."""
    if micros is None:
        return "-"
    amount = Decimal(micros) / _MICROS
    return f"{amount:.2f}" if micros % 10_000 == 0 else f"{amount.normalize():f}"
