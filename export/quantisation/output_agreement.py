"""OutputJudge: what a changed network costs where nobody says on which pictures it matters.

The float network may find nothing on pictures that happen to be at hand, so its answers cannot stand for labels. Its
outputs can be compared all the same: the difference of both networks relative to the float one's own magnitude (roots
of mean squares), of each quantity (boxes, scores, ...) by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.object_pairs import pair_objects
from edgedet.export.quantisation.feeding import Feed, read_feeds
from edgedet.export.quantisation.judge import Verdict, target_engine
from edgedet.export.verify import SMALLEST_SCALE, split_quantities
from edgedet.model_spec import ModelSpec
from edgedet.runtime.heads import ClassMapHead, Head, head_from_spec

__all__ = ["OutputJudge", "OutputScores", "output_judge"]

Array = npt.NDArray[Any]

_END = 1e-2
"""Finished boxes whose score is within this of the lowest need no partner in the other network's list."""


@dataclass(frozen=True)
class OutputScores:
    """How far the outputs of two networks lie apart.

    Attributes:
        images: pictures that were compared.
        seconds: wall time.
        differences: output -> relative difference, the largest of its quantities.
    """

    images: int
    seconds: float
    differences: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        differences = {name: round(value, 6) for name, value in self.differences.items()}
        return {"images": self.images, "seconds": round(self.seconds, 3), "output_differences": differences}


@dataclass(frozen=True, eq=False)
class OutputJudge:
    """Scores networks by how close their outputs are to the float network's: 1 is the same.

    Attributes:
        spec: how the networks are fed and read.
        feeds: what the networks are given, run by run.
        expected: the float network's outputs for each.
        images: pictures that the feeds are of.
    """

    spec: ModelSpec
    feeds: Sequence[Feed]
    expected: Sequence[list[Array]]
    images: int

    metric = "output agreement"
    against = "float"

    def __call__(self, model: onnx.ModelProto) -> Verdict:
        """Run a network on all pictures and compare its outputs."""
        start = time.perf_counter()
        head = head_from_spec(self.spec.head)
        worst = {output.name: 0.0 for output in self.spec.outputs}
        for expected, got in zip(self.expected, _run(self.spec, model, self.feeds), strict=True):
            for name, difference in zip(worst, _differences(head, expected, got), strict=True):
                worst[name] = max(worst[name], difference)
        scores = OutputScores(self.images, time.perf_counter() - start, worst)
        return Verdict(1.0 - max(worst.values()), scores)


def output_judge(spec: ModelSpec, model: onnx.ModelProto, paths: Sequence[Path]) -> OutputJudge:
    """Return the judge by a float network's outputs on pictures."""
    engine = target_engine(spec, model)
    feeds = list(read_feeds(spec, engine, paths))
    engine.close()
    return OutputJudge(spec, feeds, _run(spec, model, feeds), len(paths))


def _run(spec: ModelSpec, model: onnx.ModelProto, feeds: Sequence[Feed]) -> list[list[Array]]:
    engine = target_engine(spec, model)
    try:
        return [engine.infer(*feed.tensors) for feed in feeds]
    finally:
        engine.close()


def _differences(head: Head, expected: list[Array], got: list[Array]) -> list[float]:
    found = [_output_difference(head, index, a, b) for index, (a, b) in enumerate(zip(expected, got, strict=True))]
    # Lists of objects may stand in another order, and end elsewhere.
    for end in (None, _END):
        for index, pair in enumerate(pair_objects(head, expected, got, end) or ()):
            found[index] = min(found[index], _output_difference(head, index, *pair))
    return found


def _output_difference(head: Head, index: int, expected: Array, got: Array) -> float:
    if expected.shape != got.shape:
        return 1.0
    if isinstance(head, ClassMapHead):
        return float((expected != got).mean())
    pairs = zip(split_quantities(head, index, expected), split_quantities(head, index, got), strict=True)
    return max(_relative(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)


def _relative(expected: Array, got: Array) -> float:
    if not expected.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        error = np.where(expected == got, 0.0, got - expected)
    if not np.isfinite(error).all():
        return 1.0
    scale = np.sqrt(np.mean(np.square(expected[np.isfinite(expected)])))
    return min(float(np.sqrt(np.mean(error**2)) / max(scale, SMALLEST_SCALE)), 1.0)
