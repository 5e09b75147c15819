"""fastestdet on the device against the NumPy decode; powers, tanh and exp differ by their last bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.fastestdet import FastestDet
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (352, 256)
CELLS = (22, 16)
PIXELS = 1e-3  # 2e-6 of the input's width

HEADS = {"as trained": FastestDet(), "plain product": FastestDet(objectness_power=1.0, class_power=1.0)}


def raw(classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    output = rng.random((pictures, 5 + classes, CELLS[1], CELLS[0]), np.float32)
    output[:, 1:5] = rng.normal(0, 2, (pictures, 4, CELLS[1], CELLS[0]))
    output[:, 5:] /= output[:, 5:].sum(axis=1, keepdims=True)
    output[:, 5, ::3, ::2] = 1
    output[:, 5:, ::5] *= -1  # as a quantised network may answer
    return [output]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw()
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=PIXELS, score=2e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_not_finite(kernels: HostKernels, multi_label: bool) -> None:
    selection = Selection(0.4, multi_label=multi_label)
    counts = assert_decoded(kernels, FastestDet(), poisoned(raw(11)), SIZE, 11, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0
