"""grid_cells on the device: the bits of the NumPy decode where nothing is left to be activated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.grid_cells import GridCells
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (100, 64)
CELLS = (13, 7)
PIXELS = 1e-3  # 2e-6 of the longest side

EXACT = {
    "of courses": GridCells(),
    "of the paper": GridCells(layout="NCHW", size_order="wh", size_unit="input", size_activation="square"),
}
HEADS = {
    **EXACT,
    "all raw": GridCells(
        center_activation="sigmoid",
        size_activation="exp",
        objectness_activation="sigmoid",
        class_activation="softmax",
        layout="NCHW",
    ),
    "raw classes": GridCells(class_activation="sigmoid", size_order="wh"),
    "raw objectness": GridCells(class_activation="sigmoid", objectness_activation="sigmoid", size_unit="input"),
}


def raw(head: GridCells, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    cells = rng.normal(0, 1, (pictures, *CELLS[::-1], 5 + classes)).astype(np.float32)
    cells[..., 5:] *= 3
    cells[:, ::3, ::3, 0] = 30 if head.objectness_activation == "sigmoid" else 1.1  # a p_c above 1 prunes nothing
    if head.objectness_activation == "none":
        cells[:, 1::3, :, 0] = 1
    if head.class_activation == "none":
        cells[..., 5:] = 1 / (1 + np.exp(-cells[..., 5:]))
        cells[:, 2, ::2, 5:] = 0.5
    return [np.ascontiguousarray(cells.transpose(0, 3, 1, 2)) if head.layout == "NCHW" else cells]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    pixels, score = (0.0, 0.0) if name in EXACT else (PIXELS, 2e-6)
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=pixels, score=score)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=9))
    selection = Selection(0.2, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 9, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0


@pytest.mark.parametrize("confidence", [0.9, 0.999, 0.9999, 1.0])
def test_sigmoids_at_a_high_confidence(kernels: HostKernels, confidence: float) -> None:
    """Logits on both sides of where float32 sigmoids reach the confidence."""
    head = HEADS["raw classes"]
    cells = np.ones((1, *CELLS[::-1], 6), np.float32)
    centre = 16.6 if confidence == 1 else np.log(confidence / (1 - confidence))
    cells[..., 5] = centre + np.linspace(-2, 2, CELLS[0] * CELLS[1]).reshape(CELLS[::-1])
    selection = Selection(confidence)
    (count,) = assert_decoded(kernels, head, [cells], SIZE, 1, selection, pixels=PIXELS, score=2e-6)
    assert 0 < count < CELLS[0] * CELLS[1]
