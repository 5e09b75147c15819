"""Everything that is measured for the report of a quantised network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgedet.errors import EngineError, MissingDependencyError, SpecError
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.report.builder_share import BuilderShare, build_and_count
from edgedet.export.quantisation.report.latency import Latency, measure_latency
from edgedet.export.quantisation.report.picture_pairs import PicturePairs, compare_pictures
from edgedet.model_spec import ModelSpec

__all__ = ["Measurements", "measure"]

COMPARED = 32
"""Pictures among which the most different are looked for."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of a float network and its quantised form.

    Attributes:
        float_size: bytes of the float file.
        size: bytes of the quantised file.
        latency: time of a run on a CPU.
        builder: what TensorRT-RTX's builder made of it; None where that was not asked.
        builder_note: why not, in a sentence without a full stop; empty where it was asked.
        pictures: on which the answers differ most.
    """

    float_size: int
    size: int
    latency: Latency
    builder: BuilderShare | None
    builder_note: str
    pictures: PicturePairs

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {
            "float_size": self.float_size,
            "size": self.size,
            "latency": self.latency.to_json(),
            "builder": None if self.builder is None else self.builder.to_json(),
            "builder_note": self.builder_note,
            "most_different": [
                {"picture": str(path), "disagreement": round(apart, 4)} for path, apart in self.pictures.compared
            ],
        }


def measure(
    model: onnx.ModelProto,
    outcome: QuantisationOutcome,
    spec: ModelSpec,
    tell: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> Measurements:
    """Measure a float network beside its quantised form.

    Args:
        model: the float network as it would be written.
        outcome: what quantisation made of it; its model carries the spec.
        spec: how both are fed and read.
        tell: told about the slow parts.
    """
    pictures = compare_pictures(
        spec,
        outcome.float_model,
        outcome.model,
        _spread(outcome.judged, COMPARED),
        lambda done, of: tell("compare the answers", done, of),
    )
    latency = measure_latency(
        spec,
        model,
        outcome.model,
        pictures.compared[0][0],
        lambda done, of: tell("time both networks", done, of),
    )
    tell("build for TensorRT-RTX", 0, 1)
    builder, note = _ask_builder(outcome)
    tell("build for TensorRT-RTX", 1, 1)
    return Measurements(model.ByteSize(), outcome.model.ByteSize(), latency, builder, note, pictures)


def _ask_builder(outcome: QuantisationOutcome) -> tuple[BuilderShare | None, str]:
    if outcome.request.precision == "float16":
        return None, "Asked about networks in INT8 only"
    if outcome.request.target != "tensorrt":
        return None, "Asked about networks for TensorRT only (--target tensorrt)"
    try:
        return build_and_count(outcome.model, outcome.float_model), ""
    except MissingDependencyError as error:
        return None, error.action
    except (EngineError, SpecError) as error:
        return None, str(error)


def _spread(paths: Sequence[Path], count: int) -> tuple[Path, ...]:
    count = min(count, len(paths))
    return tuple(paths[index * len(paths) // count] for index in range(count))
