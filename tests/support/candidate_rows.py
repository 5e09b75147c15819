"""Comparison of a head's candidates with the plain rows of an independent decoder, in whatever order they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.head import Candidates

__all__ = ["Row", "assert_same_candidates", "file_outputs", "tensor"]

Row = tuple[float, float, float, float, float, int]
"""left, top, right, bottom, score, class."""


def assert_same_candidates(got: Candidates, expected: Sequence[Row], pixels: float = 2e-2, score: float = 1e-5) -> None:
    """Pair every expected row with exactly one candidate of its class, within tolerances."""
    assert got.xyxy.dtype == got.score.dtype == np.float32
    assert got.class_id.dtype == np.int64
    assert len(got) == len(expected) > 0
    rows = np.array(expected, np.float64)
    far = np.abs(rows[:, None, :4] - got.xyxy).max(axis=2) / pixels
    far = np.maximum(far, np.abs(rows[:, None, 4] - got.score) / score)
    far = np.where(rows[:, None, 5] == got.class_id, far, np.inf)
    nearest = far.argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(len(got)))
    assert far.min(axis=1).max() <= 1


def tensor(*shape: int, name: str = "output0") -> TensorSpec:
    """Describe a float32 output; -1 is a dynamic axis."""
    return TensorSpec(name, shape, "float32")


def file_outputs(path: Path) -> dict[str, TensorSpec]:
    """Describe the outputs of an ONNX file by their names."""
    return {
        output.name: tensor(*(axis.dim_value or -1 for axis in output.type.tensor_type.shape.dim), name=output.name)
        for output in onnx.load(path, load_external_data=False).graph.output
    }
