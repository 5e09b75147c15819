"""A built engine against ONNX Runtime on real pictures: engines have been built that ran, and answered wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.feeding import detector_on
from edgedet.export.quantisation.judge import disagreement
from edgedet.export.verify import PICTURES
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import PICTURE_SUFFIXES, read_image
from edgedet.runtime.engines.engine import Engine
from edgedet.runtime.selection import Selection

__all__ = ["MOST_APART", "MOST_ERROR", "Parity", "compare_engines", "parity_pictures"]

MOST_APART = 0.05
"""Of the answers, see ``judge.disagreement``: rounding in other places moves scores by a percent or two."""

MOST_ERROR = 0.05
"""Mean error of an output, relative to the mean size of its values."""

_SELECTION = Selection(confidence=0.1, iou=0.6)


@dataclass(frozen=True)
class Parity:
    """How far an engine lies from ONNX Runtime.

    Attributes:
        pictures: how many were compared.
        errors: output -> mean difference of its elements, relative to their mean size.
        apart: how far the answers lie apart, 0 (the same) to 1.
    """

    pictures: int
    errors: Mapping[str, float]
    apart: float

    @property
    def holds(self) -> bool:
        """Whether the engine answers as the ONNX file does; a number that is none never does."""
        return self.apart <= MOST_APART and all(error <= MOST_ERROR for error in self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {
            "pictures": self.pictures,
            "errors": {name: round(error, 6) for name, error in self.errors.items()},
            "apart": round(self.apart, 6),
        }

    def check(self, name: str) -> None:
        """Refuse an engine that answers otherwise.

        Raises:
            EngineError: if it does; the message has the figures.
        """
        if self.holds:
            return
        worst = max(self.errors, key=lambda output: np.nan_to_num(self.errors[output], nan=np.inf))
        raise EngineError(
            f"an engine that answers as ONNX Runtime does on {self.pictures} pictures",
            f"'{name}': answers {self.apart:.1%} apart, output '{worst}' with a mean error of {self.errors[worst]:.2%}",
            "Build another precision (edgedet export --fp16, or without), or with another version of TensorRT; the "
            "engine was not kept",
        )


def compare_engines(spec: ModelSpec, reference: Engine, candidate: Engine, paths: Sequence[Path]) -> Parity:
    """Run two engines on the same pictures.

    Args:
        spec: of the model.
        reference: the engine to believe.
        candidate: the one to be judged; takes and gives the same tensors, outputs found by name.
        paths: picture files.

    Raises:
        EngineError: if one of them fails.
    """
    first = detector_on(spec, reference, _SELECTION)
    second = detector_on(spec, _InOrder(candidate, [output.name for output in reference.outputs]), _SELECTION)
    errors: dict[str, list[float]] = {output.name: [] for output in reference.outputs}
    answers: tuple[list[Any], list[Any]] = ([], [])
    for path in paths:
        image = read_image(path)
        prepared = first.preprocess([image])
        raw = first.infer(prepared), second.infer(second.preprocess([image]))
        for name, a, b in zip(errors, raw[0].outputs, raw[1].outputs, strict=True):
            errors[name].append(_error(a, b))
        answers[0].extend(first.postprocess(raw[0]))
        answers[1].extend(second.postprocess(raw[1]))
    return Parity(
        len(paths),
        {name: float(np.max(found)) for name, found in errors.items()},
        disagreement(answers[0], answers[1]),
    )


def parity_pictures(folder: Path | None, count: int = 8) -> tuple[Path, ...]:
    """Return the pictures to compare on: some of a folder, or the package's own.

    Raises:
        SourceError: if the folder holds fewer than eight that can be read.
    """
    if folder is not None:
        return find_pictures(folder, count).paths
    return tuple(sorted(path for path in PICTURES.iterdir() if path.suffix in PICTURE_SUFFIXES))


class _InOrder:
    """An engine whose outputs come in the order of names; the rest is left out."""

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self._engine = engine
        places = {output.name: index for index, output in enumerate(engine.outputs)}
        self._places = [places[name] for name in names]
        self.name = engine.name
        self.inputs = engine.inputs
        self.outputs = tuple(engine.outputs[place] for place in self._places)

    def infer(self, *tensors: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        outputs = self._engine.infer(*tensors)
        return [outputs[place] for place in self._places]

    def close(self) -> None:
        self._engine.close()


def _error(reference: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    """Return the mean difference relative to the mean size; of class ids, the share that differs."""
    if reference.shape != found.shape:
        return float("inf")
    if not np.issubdtype(reference.dtype, np.floating):
        return float((reference != found).mean()) if reference.size else 0.0
    a, b = reference.astype(np.float64), found.astype(np.float64)
    size = float(np.abs(a).mean()) if a.size else 0.0
    return float(np.abs(a - b).mean()) / max(size, 1e-12) if a.size else 0.0
