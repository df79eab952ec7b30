"""Environment → frozen dataclass, or exit 2 naming the variable.

A process declares its settings as a frozen dataclass; field `scheduler_address` is read from
`DARKROOM_SCHEDULER_ADDRESS`. Fields are str, int, float, bool, Path or tuple[str, ...] (comma-separated).
A field's metadata may hold `check`, a function that returns None or what is wrong with the value,
`secret=True`, which masks it when the settings are printed, and `tests_only=True`: it is refused wherever the process
does not run below pytest, so that a fault can be asked for in no other place.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "DARKROOM_"
BELOW_PYTEST = "PYTEST_VERSION"  # pytest sets it, and the processes of a test inherit it
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")

S = TypeVar("S")


class BadSetting(Exception):
    """A variable that is unknown, missing or malformed; the message names it and says what to do."""


def load(kind: type[S], environ: Mapping[str, str]) -> S:
    """Read `kind` from `environ`; raises BadSetting listing everything that is wrong at once."""
    fields = {PREFIX + f.name.upper(): f for f in dataclasses.fields(typing.cast("Any", kind))}
    problems = [_unknown(name, list(fields)) for name in environ if name.startswith(PREFIX) and name not in fields]
    hints, values = typing.get_type_hints(kind), {}
    for name, field in fields.items():
        if name in environ:
            try:
                values[field.name] = _parse(environ[name], hints[field.name])
                complaint = field.metadata.get("check", _fine)(values[field.name])
                complaint = complaint or _out_of_place(field, values[field.name], environ)
            except ValueError as error:
                complaint = str(error)
            if complaint:
                problems.append(f"{name}={_shown(field, environ[name])!r}: {complaint}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{name} is not set and has no default")
    if problems:
        raise BadSetting("\n".join(problems))
    return kind(**values)


def load_or_exit(kind: type[S], environ: Mapping[str, str]) -> S:
    """Read `kind` from `environ`; on a bad setting print what is wrong and exit with status 2."""
    try:
        return load(kind, environ)
    except BadSetting as error:
        sys.stderr.write(f"bad settings:\n{error}\n")
        raise SystemExit(2) from None


def describe(settings: object) -> dict[str, str]:
    """Return the settings as text for the log, secrets masked."""
    fields = dataclasses.fields(typing.cast("Any", settings))
    return {f.name: _shown(f, str(getattr(settings, f.name))) for f in fields}


def is_address(value: str) -> str | None:
    """Check `host:port`, port 1 to 65535, or 0 for any free port."""
    host, _, port = value.rpartition(":")
    fine = host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535
    return None if fine else "must be host:port, like 127.0.0.1:8081"


def is_address_or_empty(value: str) -> str | None:
    """Check `host:port`, or nothing to switch it off."""
    return None if not value else is_address(value)


def are_replicas(value: str) -> str | None:
    """Check `host:port`, or several with commas, each an IPv4 address; a name stands for all that it resolves to."""
    several = value.split(",")
    if len(several) == 1:
        return is_address(value)
    fine = all(is_address(one) is None and _is_ipv4(one.rpartition(":")[0]) for one in several)
    return None if fine else "must be IPv4 addresses with ports, like 10.0.0.1:8081,10.0.0.2:8081"


def is_positive(value: float) -> str | None:
    """Check a finite number above zero."""
    return None if 0 < value < math.inf else "must be above 0 and finite"


def is_zero_or_more(value: float) -> str | None:
    """Check a finite number of zero or more."""
    return None if 0 <= value < math.inf else "must be 0 or more and finite"


def is_read_by(read: Callable[[tuple[str, ...]], object]) -> Callable[[tuple[str, ...]], str | None]:
    """Return a check that asks the function which will read the value: what it raises is what is wrong."""

    def complaint(value: tuple[str, ...]) -> str | None:
        try:
            read(value)
        except ValueError as error:
            return str(error)
        return None

    return complaint


def named_numbers(entries: Iterable[str], form: str, *, names: Collection[str] | None = None) -> dict[str, float]:
    """Read `NAME=NUMBER` entries, each name once and, where `names` are given, one of them; numbers are above 0.

    Raises ValueError with `form`, which says what is right, and all entries that are wrong.
    """
    found: dict[str, float] = {}
    wrong = []
    for entry in entries:
        name, value = _named_number(entry)
        if value is None or not name or name in found or (names is not None and name not in names):
            wrong.append(entry)
        else:
            found[name] = value
    if wrong:
        raise ValueError(f"must be {form}, each once and above 0: {', '.join(wrong)}")
    return found


def one_of(*allowed: str) -> Callable[[str], str | None]:
    """Return a check for a closed list of words."""
    return lambda value: None if value in allowed else "must be one of " + ", ".join(allowed)


def _named_number(entry: str) -> tuple[str, float | None]:
    name, _, text = entry.partition("=")
    try:
        value = float(text)
    except ValueError:
        return name.strip(), None
    return name.strip(), None if is_positive(value) else value


def _fine(_value: object) -> None:
    return None


def _out_of_place(field: dataclasses.Field[Any], value: object, environ: Mapping[str, str]) -> str | None:
    if value and field.metadata.get("tests_only") and BELOW_PYTEST not in environ:
        return "is for tests of faults and is taken only below pytest; leave it unset"
    return None


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _shown(field: dataclasses.Field[Any], text: str) -> str:
    return "***" if field.metadata.get("secret") and text else text


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
    return f"{name} is unknown{hint}"


def _parse(text: str, hint: Any) -> Any:
    if hint is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError("must be one of " + ", ".join(_TRUE + _FALSE))
    if hint is int or hint is float:
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"must be {'a whole number' if hint is int else 'a number'}") from None
    if hint is Path:
        return Path(text)
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
