"""anchor_grid on the device against the NumPy decode; exponentials differ by their last bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.anchor_grid import AnchorGrid
from edgedet.runtime.heads.grids import level_sizes
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
PIXELS = 2e-3  # 2e-6 of the longest side, 119 * exp(2)
V3 = (((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)), ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)))

HEADS = {
    "v2": AnchorGrid(anchors=(((42.0, 55.0), (20.0, 20.0), (60.0, 61.0)),), strides=(32,), class_activation="softmax"),
    "v3": AnchorGrid(anchors=V3, strides=(8, 16)),
    "v3, coarse level first": AnchorGrid(anchors=V3[::-1], strides=(16, 8), layout="NHWC"),
    "v4": AnchorGrid(anchors=V3, strides=(8, 16), scale_xy=(1.2, 1.1)),
    "v5": AnchorGrid(anchors=V3, strides=(8, 16), box_decode="sigmoid_squared", layout="NKHWC"),
    "v7": AnchorGrid(anchors=(V3[0][:1], V3[1]), strides=(8, 16), box_decode="sigmoid_squared"),
}


def raw(head: AnchorGrid, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    outputs = []
    for anchors, (columns, rows) in zip(head.anchors, level_sizes(SIZE, head.strides), strict=True):
        cells = rng.normal(0, 0.7, (pictures, len(anchors), rows, columns, 5 + classes)).astype(np.float32)
        cells[..., 4:] *= 5
        cells[..., ::5, 4:] = (30, *[0] * classes)  # a score of exactly one half by sigmoids
        channels = {"NCHW": (0, 1, 4, 2, 3), "NHWC": (0, 2, 3, 1, 4), "NKHWC": (0, 1, 2, 3, 4)}[head.layout]
        shape = {"NCHW": (pictures, -1, rows, columns), "NHWC": (pictures, rows, columns, -1)}.get(head.layout)
        output = np.ascontiguousarray(cells.transpose(channels))
        outputs.append(output if shape is None else output.reshape(shape))
    return outputs


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=PIXELS, score=2e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["v2", "v3", "v5"])
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=11), share=0.01)
    selection = Selection(0.3, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 11, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_any_number_of_classes(kernels: HostKernels, classes: int) -> None:
    outputs = raw(HEADS["v7"], classes, pictures=1)
    selection = Selection(0.25)
    (count,) = assert_decoded(kernels, HEADS["v7"], outputs, SIZE, classes, selection, pixels=PIXELS, score=2e-6)
    assert count > 0
