"""Files that edgedet wrote: read again as they are, and with what the user gives now."""

from __future__ import annotations

import onnx
import pytest

from edgedet.errors import SpecError
from edgedet.export.families import choose_family
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.model_spec import METADATA_KEY

ROWS = {"name": "end_to_end", "parameters": {"packing": "rows"}}


def load(path, **changes):
    source, request = open_source(path), ExportRequest(path, **changes)
    return choose_family(source, request).load(source, request)


def test_a_stamped_file_is_read_as_it_says(write_model):
    loaded = load(write_model())
    assert loaded.name == "fixed-rows" and loaded.class_names == ("cat", "dog") and loaded.output_names == ("output",)
    assert loaded.head.name == "end_to_end" and (loaded.input.width, loaded.input.pad_value) == (64, 0)


def test_a_whole_spec_makes_any_file_readable(write_model):
    fragment = {"head": ROWS, "input": {"width": 64, "height": 64, "resize": "stretch"}, "class_names": ["a", "b"]}
    loaded = load(write_model(stamped=False, name="mine.onnx"), family="edgedet", fragment=fragment)
    assert loaded.name == "mine" and loaded.input.resize == "stretch" and loaded.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Name the family"),
        ({"fragment": {"head": ROWS}}, "the fields class_names"),
    ],
)
def test_half_a_spec_is_not_enough(write_model, changes, expected):
    with pytest.raises(SpecError, match=expected):
        load(write_model(stamped=False), family="edgedet", **changes)


def test_a_broken_spec_says_where(write_model):
    path = write_model()
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: "{"})
    onnx.save(model, path)
    with pytest.raises(SpecError, match="JSON under"):
        load(path)
