"""What an engine is built for: what makes no sense is said at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgedet.errors import EdgedetError
from edgedet.export.engine.options import BuilderAnswer, BuilderTask, EngineOptions, ShapeRange, UnsupportedNode
from edgedet.model_spec import TensorSpec
from edgedet.schema import from_json, to_json


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavour": "rtx", "targets": ("sm_86", "ampere")}, "got 'ampere'"),
        ({"flavour": "tensorrt", "targets": ("sm_87",)}, "builds for the GPU that is there, got sm_87"),
        ({"batch": (0, 4)}, "got 0 to 4"),
        ({"batch": (8, 1)}, "got 8 to 1"),
        ({"optimization_level": 6}, "got 6"),
        ({"workspace": 0}, "got 0"),
    ],
)
def test_nonsense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgedetError, match=message):
        EngineOptions(**options)


@pytest.mark.parametrize(
    "value",
    [
        BuilderTask("a.onnx", "rtx", True, ("sm_86",), 3, shapes=(ShapeRange("x", (1, 3), (2, 3), (4, 3)),)),
        BuilderTask("a.onnx", "tensorrt", True, (), None, 64, "t.cache", True, True, 1),
        BuilderAnswer(
            "1.7", 3, (TensorSpec("y", (-1, 2), "float"),), (UnsupportedNode("n", "O", "why"),), ("e",), ("w",), "list"
        ),
        BuilderAnswer(fault=("this", "that", "Do so")),
    ],
)
def test_both_processes_read_the_same(value: Any) -> None:
    assert from_json(type(value), json.loads(json.dumps(to_json(value))), "value") == value
