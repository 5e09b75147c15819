"""end_to_end on the device: the bits of the NumPy decode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.errors import SpecError
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
ROWS = 100

HEADS = {
    "v10": EndToEnd(),
    "class before score, masks": EndToEnd(columns="xyxy_class_score", mask_coefficients=3, normalized=True),
    "apart": EndToEnd(packing="separate"),
    "torchvision": EndToEnd(packing="separate", batch_axis=False, class_offset=-1, roi_masks=True),
}
LABELS = (np.float32, np.float16, np.int32, np.int64)


def raw(head: EndToEnd, labels: npt.DTypeLike = np.float32) -> list[Array]:
    rng = np.random.default_rng(0)
    pictures = 2 if head.batch_axis else 1
    boxes = rng.random((pictures, ROWS, 4), np.float32)
    score = rng.random((pictures, ROWS), np.float32)
    score[:, ::9] = 0.5
    label = rng.integers(-1, 5, (pictures, ROWS)).astype(labels)
    if head.packing == "rows":
        pair = (score, label) if head.columns == "xyxy_score_class" else (label, score)
        rest = rng.random((pictures, ROWS, head.mask_coefficients), np.float32)
        return [np.concatenate([boxes, pair[0][..., None], pair[1][..., None], rest], axis=2).astype(np.float32)]
    outputs = [boxes, score, label]
    return outputs if head.batch_axis else [output[0] for output in outputs]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_bits(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection)


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("name", ["apart", "torchvision"])
def test_labels_of_any_type(kernels: HostKernels, name: str, labels: npt.DTypeLike) -> None:
    assert min(assert_decoded(kernels, HEADS[name], raw(HEADS[name], labels), SIZE, 4, Selection(0.3))) > 0


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str) -> None:
    outputs = poisoned(raw(HEADS[name]))
    assert min(assert_decoded(kernels, HEADS[name], outputs, SIZE, 4, Selection(0.3))) > 0


def test_labels_that_are_not_whole_or_not_classes(kernels: HostKernels) -> None:
    head = HEADS["v10"]
    (rows,) = raw(head)
    rows[..., 4] = 0.9
    rows[0, :8, 5] = (-0.5, 0.99, -1.01, 2.5, -3e9, -1e30, 16777216, -0.0)
    counts = assert_decoded(kernels, head, [rows], SIZE, 4, Selection(0.5, class_ids=(0, 2, 16777216, 2**40)))
    assert min(counts) > 4


def test_class_ids_beyond_int32_are_dropped(kernels: HostKernels) -> None:
    from device_decode import Device

    boxes, score, label = raw(HEADS["apart"], np.int64)
    score[...] = 0.9
    label[0, :4] = (2**31 - 1, 2**31, 2**63 - 1, -(2**63))
    found, _ = Device(kernels).decode(HEADS["apart"], [boxes, score, label], SIZE, 4, Selection(0.5))
    assert found.class_id[0] == 2**31 - 1
    assert found.location[:2].tolist() == [0, 4 + int((label[0, 4:] < 0).argmin())]


def test_other_labels_are_refused(kernels: HostKernels) -> None:
    with pytest.raises(SpecError, match=r"labels of type float32, float16, int32, int64, got uint8\. Decode this"):
        assert_decoded(kernels, HEADS["apart"], raw(HEADS["apart"], np.uint8), SIZE, 4, Selection(0.3))
