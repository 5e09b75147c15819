"""distance_distributions on the device against the NumPy decode; softmaxes are summed in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.distance_distributions import DistanceDistributions
from edgedet.runtime.heads.grids import level_sizes
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (100, 64)
PIXELS = 2e-3  # 4e-6 of the longest distance, 64 * 7

HEADS = {
    "picodet": DistanceDistributions(),
    "nanodet-plus": DistanceDistributions(packing="concatenated", cell_offset=0.0, activated=False),
    "raw scores apart": DistanceDistributions(strides=(16, 8), bins=17, activated=False),
    "activated together": DistanceDistributions(strides=(16, 32), bins=2, packing="concatenated"),
}


def raw(head: DistanceDistributions, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    levels = []
    for columns, rows in level_sizes(SIZE, head.strides):
        scores = rng.normal(-1, 2, (pictures, columns * rows, classes)).astype(np.float32)
        scores[:, ::7] = 0  # a score of exactly one half
        scores = 1 / (1 + np.exp(-scores)) if head.activated else scores
        levels.append((scores, rng.normal(0, 2, (pictures, columns * rows, 4 * head.bins)).astype(np.float32)))
    if head.packing == "concatenated":
        return [np.concatenate([np.concatenate(level, axis=2) for level in levels], axis=1)]
    return [level[part] for part in (0, 1) for level in levels]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=PIXELS, score=2e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["picodet", "nanodet-plus"])
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=35), share=0.005)
    selection = Selection(0.6, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 35, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0


@pytest.mark.parametrize("classes", [1, 2, 5, 80])
def test_any_number_of_classes(kernels: HostKernels, classes: int) -> None:
    head = HEADS["raw scores apart"]
    outputs = raw(head, classes, pictures=1)
    (count,) = assert_decoded(kernels, head, outputs, SIZE, classes, Selection(0.5), pixels=PIXELS, score=2e-6)
    assert count > 0
