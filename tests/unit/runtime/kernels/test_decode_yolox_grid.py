"""yolox_grid on the device against the NumPy decode; sides differ by the last bits of exp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.grids import level_sizes
from edgedet.runtime.heads.yolox_grid import YoloxGrid
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (100, 64)
PIXELS = 1e-3  # 2e-6 of the longest side

HEADS = {
    "activated": YoloxGrid(),
    "raw": YoloxGrid(activated=False),
    "one level": YoloxGrid(strides=(16,)),
    "eight levels": YoloxGrid(strides=(8, 12, 16, 20, 24, 32, 48, 64), activated=False),
}


def raw(head: YoloxGrid, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    locations = sum(columns * rows for columns, rows in level_sizes(SIZE, head.strides))
    output = rng.normal(0, 1, (pictures, locations, 5 + classes)).astype(np.float32)
    output[..., 4:] *= 3
    output[:, 5::11, 4:] = (30, *[0] * classes)  # a score of exactly one half
    if head.activated:
        output[..., 4:] = 1 / (1 + np.exp(-output[..., 4:]))
    return [output]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=PIXELS, score=2e-6)


def test_activated_scores_are_the_same_bits(kernels: HostKernels) -> None:
    assert_decoded(kernels, HEADS["activated"], raw(HEADS["activated"]), SIZE, 4, Selection(0.3), pixels=PIXELS)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["activated", "raw"])
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=12))
    selection = Selection(0.3, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 12, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0


def test_sides_that_overflow_are_infinite_as_in_numpy(kernels: HostKernels) -> None:
    (output,) = raw(HEADS["raw"], classes=1, pictures=1)
    output[0, :, 2:4] = 88, -120
    output[0, :, 4:] = 5
    (count,) = assert_decoded(kernels, HEADS["raw"], [output], SIZE, 1, Selection(0.5), pixels=PIXELS, score=2e-6)
    assert count == output.shape[1]


def test_the_least_logits_have_scores_above_zero(kernels: HostKernels) -> None:
    """Below -87 the sigmoid is the one of -87, which float32 still holds."""
    (output,) = raw(HEADS["raw"], classes=2, pictures=1)
    output[0, :, 4:] = (100, -100, -np.inf)
    output[0, ::2, 4:] = (60, -86, -87.5)
    selection = Selection(0.0, multi_label=True)
    (count,) = assert_decoded(kernels, HEADS["raw"], [output], SIZE, 2, selection, pixels=PIXELS, score=2e-6)
    assert count == 2 * output.shape[1]
