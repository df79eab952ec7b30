from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest
from libs.rpc.status import to_status
from services.gateway.creating.drafts import price
from services.gateway.creating.parsing import parse_draft
from tests.unit.services.gateway.fakes import MODEL, catalog

VIEW = catalog(MODEL)
FIELDS = [*job_pb2.JobSpec.DESCRIPTOR.fields_by_name, "request_id", "guidanceScale"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def refused(document: Any) -> InvalidRequest:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(InvalidRequest) as caught:
        price(parse_draft(body), VIEW)
    return caught.value


def told(document: Any) -> dict[str, str]:
    return {v.field: v.description for v in refused(document).violations}


def header_bytes(error: InvalidRequest) -> int:
    """What gRPC sends: the status in base64, and the message with all but printable ASCII in three bytes a byte."""
    message = sum(1 if 32 <= byte < 127 else 3 for byte in error.message.encode())
    return message + len(base64.b64encode(to_status(error).SerializeToString()))


def outcome(body: bytes) -> InvalidRequest | None:
    """Return what a body comes to: nothing wrong, or the one refusal."""
    try:
        price(parse_draft(body), VIEW)
    except InvalidRequest as error:
        return error
    return None


def check(body: bytes) -> None:
    """Whatever comes: a priced request, or one refusal that fits into the headers of an answer."""
    error = outcome(body)
    if error is not None:
        assert error.violations or error.reason == "MALFORMED_JSON"
        assert header_bytes(error) < 7500


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(body: bytes) -> None:
    check(body)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(st.characters(), max_size=60), VALUES, max_size=8))
def test_no_document_crashes_it(document: dict[str, Any]) -> None:
    check(json.dumps(document).encode())


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, st.text(st.characters(), max_size=3000) | VALUES)))
def test_a_refusal_of_everything_at_once_still_fits(document: dict[str, Any]) -> None:
    check(json.dumps(document).encode())


def test_a_prompt_alone_is_a_whole_request() -> None:
    assert parse_draft(b'{"prompt": "a \\u00e9toile"}').spec == job_pb2.JobSpec(prompt="a étoile")


def test_all_fields_in_both_spellings() -> None:
    document = {"prompt": "a", "width": 64.0, "guidanceScale": 3, "seed": 0, "labels": {"a": "b"}, "requestId": "r"}
    draft = parse_draft(json.dumps(document).encode())
    assert draft.spec == job_pb2.JobSpec(prompt="a", width=64, guidance_scale=3, seed=0, labels={"a": "b"})
    assert (draft.request_id, draft.problems) == ("r", ())


def test_null_means_absent() -> None:
    assert parse_draft(b'{"prompt": "a", "seed": null, "labels": null}').spec == job_pb2.JobSpec(prompt="a")


def test_values_of_several_fields_are_refused_in_one_error() -> None:
    error = refused({"prompt": "a", "width": 7, "steps": 0})
    assert {v.field for v in error.violations} == {"width", "steps"}
    assert error.reason == "INVALID_REQUEST"
    assert "Nothing was charged" in error.message


def test_form_and_values_are_refused_in_one_error() -> None:
    found = told({"prompt": 5, "stepz": 3, "width": "512", "height": 7, "preview": "yes", "labels": {"a": 1}})
    assert set(found) == {"prompt", "stepz", "width", "height", "preview", "labels"}
    assert found["stepz"] == "is not a field; did you mean steps?"
    assert found["prompt"] == "must be a text, not 5"
    assert found["width"] == "must be a whole number from 0 to 4294967295, not a text"


def test_a_refusal_of_very_much_is_cut_and_says_so() -> None:
    error = refused({"prompt": "a", **{f"{number}" + "é" * 60: 1 for number in range(1000)}})
    assert 1 < len(error.violations) < 100
    assert f"{1000 - len(error.violations)} more fields are invalid" in error.message
    assert header_bytes(error) < 7500


def test_every_field_can_be_wrong_at_once() -> None:
    fields = job_pb2.JobSpec.DESCRIPTOR.fields
    wrong: dict[str, Any] = {field.name: 5 if field.is_repeated else [] for field in fields}
    assert set(told(wrong)) == set(wrong)


def test_only_unknown_fields_have_their_own_reason() -> None:
    error = refused({"prompt": "a", "negativ_prompt": "b", "zzz": 1})
    assert error.reason == "UNKNOWN_FIELD"
    assert [v.description.partition(";")[0] for v in error.violations] == ["is not a field"] * 2


def test_an_unknown_model_beside_other_mistakes_is_one_of_them() -> None:
    assert set(told({"prompt": "a", "model": "nope", "stepz": 1})) == {"model", "stepz"}


@pytest.mark.parametrize(
    ("value", "field"),
    [(-1, "steps"), (2**32, "seed"), (1.5, "steps"), (True, "steps"), ([], "prompt"), (10**400, "guidance_scale")],
)
def test_numbers_and_types_that_a_field_cannot_hold(value: Any, field: str) -> None:
    assert set(told({"prompt": "a", field: value})) == {field}


def test_adapters_are_a_list_of_objects() -> None:
    spec = parse_draft(
        b'{"prompt": "a", "loras": [{"name": "ink", "weight": 0}, {"name": "sky", "weight": null}]}'
    ).spec
    assert spec.loras == [job_pb2.LoraUse(name="ink", weight=0), job_pb2.LoraUse(name="sky")]


@pytest.mark.parametrize(
    ("loras", "field", "words"),
    [
        (b'"ink"', "loras", "must be a list of objects, not a text"),
        (b'{"name": "ink"}', "loras", "must be a list of objects, not an object"),
        (b'["ink"]', "loras[0]", "must be an object, not a text"),
        (b"[null]", "loras[0]", "must be an object, not null"),
        (b'[{"name": 3}]', "loras[0].name", "must be a text, not 3"),
        (b'[{"name": "a", "weight": "1"}]', "loras[0].weight", "must be a number, not a text"),
        (b'[{"name": "a", "wait": 1}]', "loras[0].wait", "is not a field; did you mean weight?"),
        (b'[{"name": "a", "name": "b"}]', "loras[0]", "holds name more than once"),
        (b'[{"name": "\\ud800"}]', "loras", "must be a list of objects of valid Unicode"),
        (b'[{"name": "nope"}]', "loras", "names 'nope', which is no adapter of the model; it has none"),
    ],
)
def test_a_list_that_is_wrong_inside(loras: bytes, field: str, words: str) -> None:
    assert told(b'{"prompt": "a", "loras": ' + loras + b"}") == {field: words}


def test_a_field_that_comes_twice() -> None:
    assert "more than once" in told(b'{"prompt": "a", "steps": 1, "steps": 2}')["steps"]
    assert "more than once" in told({"prompt": "a", "guidance_scale": 1, "guidanceScale": 2})["guidance_scale"]
    assert "more than once" in told(b'{"prompt": "a", "labels": {"x": "1", "x": "2"}}')["labels"]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "empty"),
        (b"  ", "empty"),
        (b'{"prompt": "a"', "line 1, column 15"),
        (b'{\n "prompt": }', "line 2, column 12"),
        (b"[1]", "a list"),
        (b"null", "null"),
        (b'"text"', "a text"),
        (b'{"prompt": "\xff"}', "UTF-8 at byte 12"),
        ('{"prompt": "a"}'.encode("utf-16"), "UTF-8"),
        (b'{"guidance_scale": NaN}', "number"),
        (b'{"steps": ' + b"9" * 5000 + b"}", "number"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_what_is_not_a_json_object(body: bytes, what: str) -> None:
    error = refused(body)
    assert error.reason == "MALFORMED_JSON"
    assert what in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "m" * 5000),
        ("sampler", "s" * 5000),
        ("size", "9" * 5000 + "x1"),
        ("size", "²x2"),
        ("aspect_ratio", "٣:1"),
        ("request_id", "r" * 129),
        ("prompt", "a\0b"),
        ("labels", {"a": "\0"}),
        ("prompt", "x" * 10_000),
        ("prompt", "\ud800"),
    ],
)
def test_texts_that_could_not_be_told_or_kept(field: str, value: Any) -> None:
    assert set(told({"prompt": "a", field: value})) == {field}
