"""Dataclasses to JSON and back: nothing lost, every fault placed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedet.errors import SpecError
from edgedet.schema import FloatArray, from_json, to_json


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Everything:
    text: str
    count: int
    ratio: float
    flag: bool
    kind: Literal["a", "b", 3]
    maybe: int | None
    pair: tuple[int, float]
    many: tuple[str, ...]
    nested: tuple[tuple[tuple[float, float], ...], ...]
    point: Point
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WithArray:
    values: FloatArray | None


everything = st.builds(
    Everything,
    text=st.text(),
    count=st.integers(),
    ratio=st.floats(allow_nan=False),
    flag=st.booleans(),
    kind=st.sampled_from(["a", "b", 3]),
    maybe=st.none() | st.integers(),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False)),
    many=st.lists(st.text()).map(tuple),
    nested=st.lists(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3).map(tuple), max_size=3).map(
        tuple
    ),
    point=st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False)),
    extra=st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()),
)

SAMPLE = {
    "text": "t", "count": 1, "ratio": 0.5, "flag": True, "kind": "a", "maybe": None, "pair": [1, 2.0], "many": ["m"],
    "nested": [[[1, 2]]], "point": {"x": 1},
}  # fmt: skip


@given(everything)
def test_round_trip_through_text(value):
    assert from_json(Everything, json.loads(json.dumps(to_json(value))), "spec") == value


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0), elements=st.floats(width=32)))
def test_arrays_come_back_bit_for_bit(values):
    back = from_json(WithArray, json.loads(json.dumps(to_json(WithArray(values)))), "head").values
    assert back is not None
    assert back.shape == values.shape and back.dtype == np.float32
    assert back.tobytes() == values.tobytes()


def test_arrays_are_read_from_nested_lists():
    values = from_json(WithArray, {"values": [[1, 2], [3, 4.5]]}, "head").values
    np.testing.assert_array_equal(values, np.array([[1, 2], [3, 4.5]], np.float32))
    assert from_json(WithArray, {"values": None}, "head").values is None


def test_an_integer_passes_for_a_float():
    point = from_json(Point, {"x": 3}, "p")
    assert point == Point(3.0)
    assert isinstance(point.x, float)


@pytest.mark.parametrize(
    ("change", "place", "expected"),
    [
        ({"count": 1.0}, "spec.count", "int"),
        ({"count": True}, "spec.count", "int"),
        ({"count": "1"}, "spec.count", "int"),
        ({"ratio": True}, "spec.ratio", "float"),
        ({"ratio": None}, "spec.ratio", "float"),
        ({"flag": 1}, "spec.flag", "bool"),
        ({"text": 5}, "spec.text", "str"),
        ({"kind": "c"}, "spec.kind", "one of 'a', 'b', 3"),
        ({"kind": ["a"]}, "spec.kind", "one of 'a', 'b', 3"),
        ({"kind": {"a": 1}}, "spec.kind", "one of 'a', 'b', 3"),
        ({"maybe": "x"}, "spec.maybe", "int"),
        ({"pair": [1]}, "spec.pair", "a list of 2 values"),
        ({"pair": [1, "x"]}, "spec.pair[1]", "float"),
        ({"pair": "12"}, "spec.pair", "a list"),
        ({"many": "text"}, "spec.many", "a list"),
        ({"many": ["a", 1]}, "spec.many[1]", "str"),
        ({"nested": [[[1, 2], [3]]]}, "spec.nested[0][1]", "a list of 2 values"),
        ({"point": 7}, "spec.point", "a JSON object"),
        ({"point": {"x": "1"}}, "spec.point.x", "float"),
        ({"extra": [1]}, "spec.extra", "Mapping"),
    ],
)
def test_a_fault_is_placed(change, place, expected):
    with pytest.raises(SpecError) as caught:
        from_json(Everything, SAMPLE | change, "spec")
    assert caught.value.expected == f"{expected} at {place}"


def test_the_sample_itself_is_right():
    assert from_json(Everything, SAMPLE, "spec").nested == (((1.0, 2.0),),)


def test_unknown_fields_are_named_beside_the_known_ones():
    with pytest.raises(SpecError, match=r"only the fields x, y in spec\.point, got 'z'"):
        from_json(Everything, SAMPLE | {"point": {"x": 1, "z": 2}}, "spec")


def test_missing_fields_are_named():
    with pytest.raises(SpecError, match=r"the fields text, count in spec, got nothing"):
        from_json(Everything, {key: value for key, value in SAMPLE.items() if key not in ("text", "count")}, "spec")


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_not_an_object_is_refused(value):
    with pytest.raises(SpecError, match="a JSON object at spec"):
        from_json(Everything, value, "spec")


@pytest.mark.parametrize(
    "packed",
    [
        {"shape": [2]},
        {"float32": "AAAA"},
        {"shape": [2], "float32": "not base64!"},
        {"shape": [2], "float32": "AAAA"},
        {"shape": [3], "float32": to_json(np.zeros(2, np.float32))["float32"]},
        {"shape": "two", "float32": to_json(np.zeros(2, np.float32))["float32"]},
        {"shape": [2], "float32": None},
        [[1, 2], [3]],
        "text",
    ],
)
def test_broken_arrays_are_refused(packed):
    with pytest.raises(SpecError, match=r"an array .* at head\.values"):
        from_json(WithArray, {"values": packed}, "head")


def test_long_values_are_shortened_in_the_message():
    with pytest.raises(SpecError) as caught:
        from_json(Point, {"x": "y" * 10_000}, "p")
    assert len(caught.value.got) <= 80


def test_a_mapping_inside_is_left_as_it_is():
    assert to_json({"a": (1, 2), "b": {"c": None}}) == {"a": [1, 2], "b": {"c": None}}
