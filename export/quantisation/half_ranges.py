"""What float16 does to each tensor's values: how large they are, and how much of them rounding takes away.

Values from 6.1e-5 to 65504 keep eleven binary digits in float16, smaller ones fewer and fewer, and from 3e-8 down
nothing. What counts is the loss of the tensor as a whole, in the sense of least squares: small values beside large
ones, such as the tails of an activation function, may well be lost. It is measured in the graph, so that no tensor
leaves it and memory stays what one run takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgedet.export.quantisation.feeding import read_feeds
from edgedet.export.quantisation.half import as_half
from edgedet.model_spec import ModelSpec
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

__all__ = ["LARGEST", "Magnitudes", "measure_magnitudes", "unfit_values", "unfit_weight"]

LARGEST = 65504.0
"""The largest number of float16."""

HEADROOM = 4.0
"""How much larger values may be on other pictures than on those that were looked at."""

LOSS = 1e-3
"""Relative error (root of the squares' ratio) that is too much: rounding to eleven digits makes 2e-4, at most 5e-4."""

Report = Callable[[int], None]


@dataclass(eq=False)
class Magnitudes:
    """One tensor over the pictures.

    Attributes:
        largest: magnitude.
        squares: sum of the squares of its values.
        errors: sum of the squares of what rounding to float16 changes.
    """

    largest: float = 0.0
    squares: float = 0.0
    errors: float = 0.0

    def add(self, largest: float, squares: float, errors: float) -> None:
        """Count one run."""
        self.largest = max(self.largest, largest)
        self.squares += squares
        self.errors += errors

    @property
    def lost(self) -> float:
        """Relative error of rounding, 0..1; 0 for zeros."""
        return math.sqrt(self.errors / self.squares) if self.squares else 0.0


def measure_magnitudes(
    model: onnx.ModelProto, spec: ModelSpec, tensors: Sequence[str], paths: Sequence[Path], on_picture: Report
) -> dict[str, Magnitudes]:
    """Run the float network over pictures and measure the named float32 tensors.

    Args:
        model: a prepared float network.
        spec: how it is fed.
        tensors: names of float32 tensors that nodes make.
        paths: picture files.
        on_picture: called with how many pictures are done.
    """
    found = {name: Magnitudes() for name in tensors}
    if not found:
        return found
    engine = OnnxRuntimeEngine(_measuring(model, tensors).SerializeToString())
    engine.select_outputs([output.name for output in spec.outputs])
    feeds = read_feeds(spec, engine, paths)
    engine.select_outputs(["measured"])
    for feed in feeds:
        rows = engine.infer(*feed.tensors)[0].reshape(-1, 3).astype(np.float64)
        for name, (largest, squares, errors) in zip(tensors, rows, strict=True):
            found[name].add(float(largest), float(squares), float(errors))
        on_picture(feed.pictures)
    engine.close()
    return found


def unfit_values(found: Magnitudes) -> str:
    """Return why a tensor cannot be float16; nothing where it can."""
    if not math.isfinite(found.squares):
        return "values on the pictures that are infinite or not numbers"
    if found.largest * HEADROOM > LARGEST:
        return f"values up to {found.largest:.4g} on the pictures, where float16 ends at {LARGEST:g}"
    if found.lost > LOSS:
        return f"values so small on the pictures that float16 loses {found.lost:.1%} of them"
    return ""


def unfit_weight(weight: npt.NDArray[np.float32]) -> str:
    """Return why weights or a constant cannot be float16; nothing where they can. Infinity can."""
    values = weight[np.isfinite(weight)].astype(np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > LARGEST:
        return f"weights up to {largest:.4g}, where float16 ends at {LARGEST:g}"
    found = Magnitudes(largest, float((values**2).sum()), float(((values - as_half(values)) ** 2).sum()))
    return f"weights so small that float16 loses {found.lost:.1%} of them" if found.lost > LOSS else ""


def _measuring(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for name in tensors:
        result.graph.node.extend(_measures(name))
    # Gathered one tensor after the other, not all at once: only then does ONNX Runtime measure each as soon as it is
    # there and free it, which saves 330 MB with a small detector at 640 pixels.
    gathered = ""
    for name in tensors:
        figures = [*([gathered] if gathered else []), *(f"{name}_{part}" for part in ("largest", "squares", "errors"))]
        gathered = f"{name}_measured" if name != tensors[-1] else "measured"
        result.graph.node.append(helper.make_node("Concat", figures, [gathered], axis=0))
    result.graph.output.append(helper.make_tensor_value_info("measured", TensorProto.FLOAT, [3 * len(tensors), 1]))
    return result


def _measures(name: str) -> list[onnx.NodeProto]:
    flat, half, back, error, size = (f"{name}_{part}" for part in ("flat", "half", "back", "error", "size"))
    return [
        helper.make_node("Flatten", [name], [flat], axis=0),
        helper.make_node("Cast", [flat], [half], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [back], to=TensorProto.FLOAT),
        helper.make_node("Sub", [flat, back], [error]),
        helper.make_node("Abs", [flat], [size]),
        helper.make_node("ReduceMax", [size], [f"{name}_largest"]),
        helper.make_node("ReduceSumSquare", [flat], [f"{name}_squares"]),
        helper.make_node("ReduceSumSquare", [error], [f"{name}_errors"]),
    ]
