"""ExportReport: what every step of an export did, as an object and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet.atomic_file import atomic_file
from edgedet.errors import AccuracyGateError, EdgedetError
from edgedet.export.engine.exported import EngineOutcome
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.report.figures import class_losses
from edgedet.export.quantisation.report.measure import Measurements
from edgedet.export.rewrite import Refusal
from edgedet.export.verify import OutputDifference
from edgedet.model_spec import ModelSpec

__all__ = ["ExportReport", "StepReport"]


@dataclass(frozen=True)
class StepReport:
    """One step: its name, how long it took in seconds, and what it found or did in a few words."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        source: the file that was exported.
        output: the ONNX file that was written, or would have been.
        size: its size in bytes.
        family: the family that read the source.
        spec: the ModelSpec in the file's metadata.
        steps: what was done, in order.
        differences: worst difference of each output between source and export.
        refusals: the nodes that TensorRT will refuse; the file runs on ONNX Runtime all the same.
        notes: choices that the user should know of.
        outcome: what quantisation did; None where it was not asked for.
        measurements: the float network beside the quantised one; None likewise.
        refusal: why no model was written: it lost more than it may.
        engine: what became of its TensorRT engine; None where it was not asked for.
    """

    source: Path
    output: Path
    size: int
    family: str
    spec: ModelSpec
    steps: tuple[StepReport, ...]
    differences: tuple[OutputDifference, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    outcome: QuantisationOutcome | None = None
    measurements: Measurements | None = None
    refusal: AccuracyGateError | None = None
    engine: EngineOutcome | None = None

    @property
    def fault(self) -> EdgedetError | None:
        """What the user asked for and did not get: the model itself, or its engine."""
        return self.refusal or (None if self.engine is None else self.engine.fault)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "source": str(self.source),
            "output": str(self.output),
            "size": self.size,
            "written": self.refusal is None,
            "refusal": None if self.refusal is None else str(self.refusal),
            "family": self.family,
            "spec": self.spec.to_json(),
            "steps": [asdict(step) for step in self.steps],
            "differences": [asdict(difference) for difference in self.differences],
            "tensorrt_refuses": [asdict(refusal) for refusal in self.refusals],
            "notes": list(self.notes),
            "engine": None if self.engine is None else self.engine.to_json(),
            **({} if self.outcome is None else {"quantisation": self._quantisation(self.outcome)}),
        }

    def _quantisation(self, outcome: QuantisationOutcome) -> dict[str, Any]:
        measured = {} if self.measurements is None else self.measurements.to_json()
        return {**outcome.to_json(), "class_losses": [item.to_json() for item in class_losses(outcome)], **measured}

    def write(self, path: Path) -> None:
        """Write the report as JSON, under a temporary name first.

        Raises:
            SinkError: if the file cannot be written.
        """
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
