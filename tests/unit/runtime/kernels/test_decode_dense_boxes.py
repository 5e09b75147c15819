"""dense_boxes on the device: the bits of the NumPy decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, Device, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
LOCATIONS = 131

HEADS = {
    "v8": DenseBoxes(),
    "v8, transposed": DenseBoxes(layout="anchors_first"),
    "v8 with masks": DenseBoxes(mask_coefficients=5),
    "v5": DenseBoxes(layout="anchors_first", objectness=True),
    "v5, transposed": DenseBoxes(objectness=True, mask_coefficients=3),
    "corners in 0..1": DenseBoxes(box_format="xyxy", normalized=True),
    "rows of corners in 0..1": DenseBoxes(layout="anchors_first", normalized=True, mask_coefficients=2),
}


def raw(head: DenseBoxes, classes: int = 4, pictures: int = 2, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    channels = 4 + head.objectness + classes + head.mask_coefficients
    rows = rng.random((pictures, LOCATIONS, channels), np.float32)
    rows[..., :4] *= 1 if head.normalized else 64
    # Half of the locations are empty, and some scores are equal or just at a threshold.
    rows[:, ::2, 4:] *= 0.1
    rows[:, 5::11, 4:] = 0.5
    output = rows if head.layout == "anchors_first" else np.ascontiguousarray(rows.transpose(0, 2, 1))
    return [output, np.zeros((pictures, head.mask_coefficients, 8, 8), np.float32)][: 1 + head.has_masks]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_bits(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection)


@pytest.mark.parametrize("classes", [1, 2, 31, 33, 80])
@pytest.mark.parametrize("name", ["v8", "v8, transposed", "v5"])
def test_any_number_of_classes(kernels: HostKernels, name: str, classes: int) -> None:
    outputs = raw(HEADS[name], classes, pictures=1)
    (count,) = assert_decoded(kernels, HEADS[name], outputs, SIZE, classes, Selection(0.5))
    assert count > 0


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["v8", "v8, transposed", "v5"])
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=40))
    selection = Selection(0.6, multi_label=multi_label)
    assert min(assert_decoded(kernels, HEADS[name], outputs, SIZE, 40, selection)) > 0


@pytest.mark.parametrize("name", ["v8", "v8, transposed"])
def test_least_confidence_takes_all_that_is_a_number(kernels: HostKernels, name: str) -> None:
    (output,) = raw(HEADS[name], pictures=1)
    output[...] = 0
    assert assert_decoded(kernels, HEADS[name], [output], SIZE, 4, Selection(0.0)) == [LOCATIONS]
    output[...] = np.nan
    assert assert_decoded(kernels, HEADS[name], [output], SIZE, 4, Selection(0.0)) == [0]


def test_more_than_there_is_room_for_are_counted(kernels: HostKernels) -> None:
    head, outputs = HEADS["v8"], raw(HEADS["v8"])
    selection = Selection(0.5, multi_label=True)
    for order in (0, 1):
        device = Device(kernels, order)
        whole = device.decode(head, outputs, SIZE, 4, selection)
        part = device.decode(head, outputs, SIZE, 4, selection, capacity=5)
        for all_, some in zip(whole, part, strict=True):
            assert some.count == all_.count > len(some.score) == 5
            at = np.searchsorted(all_.rank, some.rank)
            assert all_.rank[at].tolist() == some.rank.tolist()
            assert all_.xyxy[at].tolist() == some.xyxy.tolist()
            assert all_.score[at].tolist() == some.score.tolist()
