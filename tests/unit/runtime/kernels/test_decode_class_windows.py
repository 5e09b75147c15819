"""class_windows on the device: the same windows, scores up to the last bits of exp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.class_windows import ClassWindows
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (100, 64)

HEADS = {
    "softmax": ClassWindows(window=(28, 28), stride=(8, 6)),
    "softmax with background": ClassWindows(window=(28, 20), stride=(8, 6), background=4, layout="NHWC"),
    "sigmoid": ClassWindows(window=(28, 28), stride=(8, 6), first=(-4, -3), class_activation="sigmoid", layout="NHWC"),
    "sigmoid with background": ClassWindows(
        window=(28, 28), stride=(9, 6), first=(-4, -3), class_activation="sigmoid", background=0
    ),
    "activated": ClassWindows(window=(28, 28), stride=(8, 6), class_activation="none", background=1),
    "activated rows": ClassWindows(window=(28, 28), stride=(8, 6), class_activation="none", layout="NHWC"),
}


def raw(head: ClassWindows, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    columns, rows = (
        (side - 2 * first - window) // stride + 1
        for side, first, window, stride in zip(SIZE, head.first, head.window, head.stride, strict=True)
    )
    field = rng.normal(-1, 2, (pictures, rows, columns, classes + (head.background is not None))).astype(np.float32)
    field[:, 1, ::2] = 0  # a sigmoid of exactly one half
    field = 1 / (1 + np.exp(-field)) if head.class_activation == "none" else field
    return [np.ascontiguousarray(field.transpose(0, 3, 1, 2)) if head.layout == "NCHW" else field]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    score = 0 if HEADS[name].class_activation == "none" else 2e-6
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, score=score)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=10), share=0.01)
    selection = Selection(0.2, multi_label=multi_label)
    assert min(assert_decoded(kernels, HEADS[name], outputs, SIZE, 10, selection, score=2e-6)) > 0
