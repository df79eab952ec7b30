"""The JSON of creating calls, read strictly: every unknown field and every wrong type is reported, all at once.

Envoy hands the body over as it came (design/2-api, Routes), because its transcoder drops what it does not know.
Fields may be spelled as in the proto or in lowerCamelCase; null means absent.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from typing import Any, NoReturn, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest, Violation, listed
from services.gateway.creating.drafts import Draft

REQUEST_ID = "request_id"
_MOST_ENTRIES = 16  # of a list that are looked at; one that is longer is refused for its length
_SHOWN_NAME = 40  # characters of an unknown name that are repeated to its sender

M = TypeVar("M", bound=Message)

_FIELDS = job_pb2.JobSpec.DESCRIPTOR
_UNSIGNED, _SIGNED = (0, 2**32 - 1), (-(2**31), 2**31 - 1)
_WORDS = {
    FieldDescriptor.TYPE_STRING: "a text",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_UINT32: "a whole number from {} to {}".format(*_UNSIGNED),
    FieldDescriptor.TYPE_INT32: "a whole number from {} to {}".format(*_SIGNED),
    FieldDescriptor.TYPE_MESSAGE: "an object of texts",
}
_JSON_WORDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}


class _Object(dict[str, Any]):
    """A JSON object that remembers the keys it was given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counted = Counter(key for key, _ in pairs)
        self.repeated = [key for key, count in counted.items() if count > 1]


def parse_draft(body: bytes) -> Draft:
    """Return what the body asks for and all that is wrong with its form.

    Raises InvalidRequest with reason MALFORMED_JSON when it is not a JSON object at all.
    """
    document = _load(body)
    problems = [Violation(_shown(key), "is given more than once") for key in document.repeated]
    spec, request_id, seen = job_pb2.JobSpec(), "", set[str]()
    for key, value in document.items():
        name = _canonical(key)
        if name is None:
            problems.append(Violation(_shown(key), _unknown(key, [*_FIELDS.fields_by_name, REQUEST_ID])))
        elif name in seen:
            problems.append(Violation(name, f"is given more than once, also as {key}"))
        elif name == REQUEST_ID:
            request_id = value if isinstance(value, str) else ""
            problems += [] if isinstance(value, str | None) else [_wrong(name, "a text", value)]
        else:
            problems += _take(spec, name, value)
        seen.add(name or key)
    return Draft(spec, request_id, tuple(problems))


def parse_message(body: bytes, message: M) -> M:
    """Fill a message of plain fields from the body. Raises InvalidRequest naming every field that is wrong."""
    document, kind = _load(body), cast("Descriptor", message.DESCRIPTOR)
    problems = [Violation(_shown(key), "is given more than once") for key in document.repeated]
    for key, value in document.items():
        field = _field(kind, key)
        if field is None:
            problems.append(Violation(_shown(key), _unknown(key, list(kind.fields_by_name))))
            continue
        try:
            json_format.ParseDict({field.name: value}, message)
        except (json_format.ParseError, ValueError):
            problems.append(Violation(field.name, f"must be {_words(field)}"))
    if problems:
        raise InvalidRequest(
            f"The request was not accepted: {listed(problems)}. Nothing was made.", violations=problems
        )
    return message


def _load(body: bytes) -> _Object:
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_Object, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        empty = "it is empty" if not body.strip() else ""
        raise _malformed(empty or f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits, or NaN
        raise _malformed(f"it holds a number that JSON does not have: {str(error)[:60]}") from None
    if not isinstance(document, _Object):
        raise _malformed(f"it is {_json_word(document)}, not an object")
    return document


def _malformed(what: str) -> InvalidRequest:
    told = f'The body could not be read as JSON: {what}. Send an object like {{"prompt": "a red circle"}}. '
    return InvalidRequest(told + "Nothing was charged.", reason="MALFORMED_JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _canonical(key: str) -> str | None:
    if key in (REQUEST_ID, "requestId"):
        return REQUEST_ID
    field = _field(_FIELDS, key)
    return field.name if field else None


def _field(message: Descriptor, key: str) -> FieldDescriptor | None:
    if not key.isascii():
        return None  # half a surrogate pair would break the look-up
    return message.fields_by_name.get(key) or message.fields_by_camelcase_name.get(key)


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key[:_SHOWN_NAME], known, n=1, cutoff=0.5)
    return f"is not a field; did you mean {near[0]}?" if near else "is not a field; the guide lists them all"


def _take(spec: job_pb2.JobSpec, name: str, value: Any) -> list[Violation]:
    """Set one field, or return what is wrong with its value."""
    field = _FIELDS.fields_by_name[name]
    problems = [] if value is None else _problems(field, name, value)
    if value is None or problems:
        return problems
    try:
        json_format.ParseDict({name: value}, spec)
    except (json_format.ParseError, ValueError):
        spec.ClearField(name)  # type: ignore[arg-type]
        return [Violation(name, f"must be {_words(field)} of valid Unicode")]
    return []


def _problems(field: FieldDescriptor, shown: str, value: Any) -> list[Violation]:
    """Return what is wrong with the form of a value that is not null."""
    repeated = value.repeated if isinstance(value, _Object) else []
    if repeated:
        return [Violation(shown, f"holds {_shown(key)} more than once") for key in repeated[:3]]
    if not _takes_list(field):
        return _entry_problems(field, shown, value)
    if not isinstance(value, list):
        return [_wrong(shown, _words(field), value)]
    entries = enumerate(value[:_MOST_ENTRIES])
    return [one for index, entry in entries for one in _entry_problems(field, f"{shown}[{index}]", entry)]


def _entry_problems(field: FieldDescriptor, shown: str, entry: Any) -> list[Violation]:
    message = _object_of(field)
    if message is None:
        return [] if _fits(field, entry) else [_wrong(shown, _WORDS[field.type], entry)]
    if not isinstance(entry, _Object):
        return [_wrong(shown, "an object", entry)]
    problems = [Violation(shown, f"holds {_shown(key)} more than once") for key in entry.repeated[:3]]
    for key, value in entry.items():
        inner = _field(message, key)
        if inner is None:
            problems.append(Violation(f"{shown}.{_shown(key)}", _unknown(key, list(message.fields_by_name))))
        elif value is not None:
            problems += _problems(inner, f"{shown}.{inner.name}", value)
    return problems


def _object_of(field: FieldDescriptor) -> Descriptor | None:
    """Return the message of an object, or of a list's objects; a map is no message of its own."""
    message = field.message_type
    return None if message is None or message.GetOptions().map_entry else message


def _takes_list(field: FieldDescriptor) -> bool:
    """Whether a field takes a list; a map repeats, too, and takes one object."""
    return field.is_repeated and (field.message_type is None or _object_of(field) is not None)


def _words(field: FieldDescriptor) -> str:
    one, many = ("an object", "objects") if _object_of(field) else (_WORDS[field.type], "texts")
    return f"a list of {many}" if _takes_list(field) else one


def _fits(field: FieldDescriptor, value: Any) -> bool:
    """Whether a JSON value has the field's type; a number in quotes has not."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return isinstance(value, str)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return isinstance(value, bool)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return abs(value) < 1e300
    low, high = _UNSIGNED if field.type == FieldDescriptor.TYPE_UINT32 else _SIGNED
    return low <= value <= high and value == int(value)


def _wrong(name: str, expected: str, value: Any) -> Violation:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Violation(name, f"must be {expected}, not {str(value)[:20] if number else _json_word(value)}")


def _json_word(value: Any) -> str:
    return next((word for kind, word in _JSON_WORDS.items() if isinstance(value, kind)), "a number")


def _shown(key: str) -> str:
    """Return a name that its sender recognises and that a status can hold."""
    return key[:_SHOWN_NAME].encode("utf-8", "replace").decode()
