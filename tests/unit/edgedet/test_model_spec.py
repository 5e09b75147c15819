"""ModelSpec: to JSON and ONNX metadata and back, contradictions refused, fragments laid over."""

from __future__ import annotations

import dataclasses
import json
from typing import get_args

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet import model_spec
from edgedet.errors import SpecError
from edgedet.model_spec import (
    METADATA_KEY,
    HeadSpec,
    InputSpec,
    ModelSpec,
    ProposalSpec,
    TensorSpec,
    merge_fragment,
)
from edgedet.schema import to_json

SPEC = ModelSpec(
    name="tiny",
    task="detect",
    head=HeadSpec("dense_boxes", {"layout": "channels_first"}),
    input=InputSpec(640, 480, name="images", batch=None, mean=(1.0, 2.0, 3.0)),
    outputs=(TensorSpec("output0", (-1, 84, 8400), "float32"),),
    class_names=("cat", "Hund", "鳥"),
    family="ultralytics",
    calibration={"pictures": 128},
    source_sha256="ab" * 32,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=12)
inputs = st.builds(
    InputSpec,
    width=st.integers(1, 4096),
    height=st.integers(1, 4096),
    name=names,
    batch=st.none() | st.integers(1, 64),
    dynamic_size=st.booleans(),
    size_multiple=st.integers(1, 128),
    layout=st.sampled_from(get_args(model_spec.Layout)),
    channels=st.sampled_from(get_args(model_spec.Channels)),
    dtype=st.sampled_from(get_args(model_spec.DType)),
    mean=st.tuples(finite, finite, finite),
    std=st.tuples(*[finite.filter(bool)] * 3),
    resize=st.sampled_from(get_args(model_spec.Resize)),
    pad_value=st.integers(0, 255),
    pad_position=st.sampled_from(get_args(model_spec.PadPosition)),
    downscale=st.sampled_from(get_args(model_spec.Downscale)),
)
tensors = st.builds(
    TensorSpec, names, st.lists(st.integers(-1, 10_000)).map(tuple), st.sampled_from(["float32", "int64"])
)
parameters = st.dictionaries(names, st.booleans() | st.integers() | names | st.lists(finite))
specs = st.builds(
    ModelSpec,
    name=names,
    task=st.sampled_from(get_args(model_spec.Task)),
    head=st.builds(HeadSpec, names, parameters),
    input=inputs,
    outputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    class_names=st.lists(names).map(tuple),
    family=names,
    precision=names,
    calibration=st.none() | st.dictionaries(names, st.integers()),
    source_sha256=names,
)


@given(specs)
def test_round_trip_through_metadata(spec):
    assert ModelSpec.from_metadata(spec.to_metadata()) == spec


def test_round_trip_through_an_onnx_file(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, SPEC.to_metadata() | {"author": "someone"})
    onnx.save(model, tmp_path / "model.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert ModelSpec.from_metadata(properties) == SPEC


def test_metadata_without_a_spec():
    assert ModelSpec.from_metadata({"author": "someone"}) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"text"'])
def test_metadata_that_is_no_spec(text):
    with pytest.raises(SpecError):
        ModelSpec.from_metadata({METADATA_KEY: text})


def test_defaults_may_be_left_out():
    value = {
        "name": "m", "task": "detect", "head": {"name": "queries"}, "input": {"width": 1, "height": 1},
        "outputs": [{"name": "o", "shape": [1], "dtype": "float32"}], "class_names": [],
    }  # fmt: skip
    spec = ModelSpec.from_json(value)
    assert spec.input == InputSpec(1, 1)
    assert spec.precision == "float32"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(version):
    with pytest.raises(SpecError, match=r"format 1, got format .*Upgrade edgedet"):
        ModelSpec.from_json(SPEC.to_json() | {"format": version})


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"width": 0}, "--imgsz"),
        ({"height": -1}, "--imgsz"),
        ({"batch": 0}, "--batch"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"pad_value": 256}, "pad_value"),
        ({"pad_value": -1}, "pad_value"),
    ],
)
def test_impossible_inputs_are_refused(changes, flag):
    with pytest.raises(SpecError, match=flag):
        dataclasses.replace(SPEC.input, **changes)


def test_a_spec_without_outputs_is_refused():
    with pytest.raises(SpecError, match="at least one output"):
        SPEC.replace(outputs=())


def test_specs_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.name = "other"


def test_names_outside_ascii_stay_readable_in_the_metadata():
    assert "鳥" in SPEC.to_metadata()[METADATA_KEY]


@pytest.mark.parametrize(
    ("fragment", "changed"),
    [
        ({}, {}),
        ({"name": "other"}, {"name": "other"}),
        ({"class_names": ["a"]}, {"class_names": ["a"]}),
        ({"input": {"channels": "BGR"}}, {"input": {**to_json(SPEC.input), "channels": "BGR"}}),
        ({"head": {"parameters": {"objectness": True}}},
         {"head": {"name": "dense_boxes", "parameters": {"layout": "channels_first", "objectness": True}}}),
        ({"head": {"name": "dense_boxes", "parameters": {"objectness": True}}},
         {"head": {"name": "dense_boxes", "parameters": {"layout": "channels_first", "objectness": True}}}),
        ({"head": {"name": "queries", "parameters": {"no_object": True}}},
         {"head": {"name": "queries", "parameters": {"no_object": True}}}),
        ({"calibration": None}, {"calibration": None}),
    ],
)  # fmt: skip
def test_fragments(fragment, changed):
    before = SPEC.to_json()
    text = json.dumps(before)
    assert merge_fragment(before, fragment) == before | changed
    assert json.dumps(before) == text, "the spec itself must not change"


def test_a_fragment_may_bring_what_was_not_there():
    assert merge_fragment({}, {"head": {"name": "queries"}}) == {"head": {"name": "queries"}}


PROPOSALS = ProposalSpec("crops", parameters={"scales": [100]}, count=300, context=16)
TWO_STAGE = SPEC.replace(
    head=HeadSpec("proposal_boxes"), input=InputSpec(224, 224, resize="stretch"), proposals=PROPOSALS
)


def test_a_proposal_stage_goes_through_metadata_and_may_be_absent():
    assert ModelSpec.from_metadata(TWO_STAGE.to_metadata()) == TWO_STAGE
    value = SPEC.to_json()
    assert value.pop("proposals") is None
    assert ModelSpec.from_json(value) == SPEC


@pytest.mark.parametrize(
    ("proposals", "image", "message"),
    [
        ({"count": 0}, {}, r"a proposals\.count of at least 1, got 0"),
        ({"context": -1}, {}, r"a proposals\.context of at least 0, got -1"),
        ({"context": 112}, {}, r"a proposals\.context below half of the input's 224x224, got 112"),
        ({"feed": "boxes"}, {}, r"a proposals\.context for crops only, got 16 with feed 'boxes'"),
        ({"feed": "boxes", "context": 0}, {"batch": None}, r"an input\.batch of 1 .* got any batch\..*--batch 1"),
        ({"feed": "boxes", "context": 0}, {"batch": 4}, r"an input\.batch of 1 .* got 4\."),
        ({}, {"resize": "letterbox"}, r"input\.resize 'stretch' .* got 'letterbox'"),
        ({"feed": "masks"}, {}, r"one of 'crops', 'boxes' at spec\.proposals\.feed"),
        ({"method": "edge_boxes"}, {}, r"one of 'selective_search' at spec\.proposals\.method"),
    ],
)
def test_impossible_proposal_stages_are_refused(proposals, image, message):
    value = TWO_STAGE.to_json()
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_json(value | {"proposals": value["proposals"] | proposals, "input": value["input"] | image})
