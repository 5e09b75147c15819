"""Engines that answer otherwise than ONNX Runtime are told from those that only round otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from bright_box import bright_box_model

from edgedet.errors import EngineError
from edgedet.export.engine.parity import compare_engines, parity_pictures
from edgedet.model_spec import ModelSpec
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

Change = Callable[[np.ndarray], np.ndarray]


class Changed:
    """ONNX Runtime's answers, changed: what a faulty engine would give."""

    def __init__(self, model: Path, change: Change) -> None:
        self._engine = OnnxRuntimeEngine(model)
        self._change = change
        self.name, self.inputs, self.outputs = "changed", self._engine.inputs, self._engine.outputs[::-1]

    def infer(self, *tensors: np.ndarray) -> list[np.ndarray]:
        return [self._change(output) for output in self._engine.infer(*tensors)][::-1]

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, ModelSpec]:
    """A network that finds the bright box of a picture."""
    built = bright_box_model()
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in built.metadata_props})
    assert spec is not None
    onnx.save(built, tmp_path / "bright.onnx")
    return tmp_path / "bright.onnx", spec


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Pictures with a bright box each."""
    paths = []
    for index in range(3):
        image = np.zeros((60, 80, 3), np.uint8)
        image[10 + 5 * index : 40, 20 : 40 + 5 * index] = 255
        paths.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        (lambda x: x, True),
        (lambda x: x * np.float32(1.001), True),
        (lambda x: x.astype(np.float16).astype(np.float32), True),
        (lambda x: x * np.float32(1.3), False),
        (np.zeros_like, False),
        (lambda x: np.full_like(x, np.nan), False),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 0, np.nan, x).astype(np.float32), False),
        (lambda x: x[..., ::-1].copy(), False),
    ],
)
def test_wrong_answers_are_told_from_rounding(
    model: tuple[Path, ModelSpec], pictures: list[Path], change: Change, holds: bool
) -> None:
    path, spec = model
    found = compare_engines(spec, OnnxRuntimeEngine(path), Changed(path, change), pictures)
    assert found.pictures == 3 and found.holds is holds
    if holds:
        found.check("m")
    else:
        with pytest.raises(EngineError, match="engine was not kept"):
            found.check("m")


def test_the_packages_own_pictures_or_those_of_a_folder(root: Path) -> None:
    assert len(parity_pictures(None)) == 2
    assert len(parity_pictures(root / "examples/digits/images")) == 8
