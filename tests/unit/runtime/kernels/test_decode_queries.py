"""queries on the device: the bits of the NumPy boxes, scores up to the last bits of exp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.queries import Queries
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
QUERIES = 70

HEADS = {
    "detr": Queries(activation="softmax", no_object=True),
    "rt-detr": Queries(activation="sigmoid", no_object=False),
    "sigmoid with no object": Queries(activation="sigmoid", no_object=True, box_format="xyxy", normalized=False),
    "softmax of all": Queries(activation="softmax", no_object=False, mask_logits=True),
}


def raw(head: Queries, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (pictures, QUERIES, classes + head.no_object)).astype(np.float32)
    logits[:, ::9] = 0  # a sigmoid of exactly one half
    boxes = rng.random((pictures, QUERIES, 4), np.float32)
    return [logits, boxes, np.zeros((pictures, QUERIES, 4, 4), np.float32)][: 2 + head.mask_logits]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, score=2e-6)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str) -> None:
    outputs = poisoned(raw(HEADS[name], classes=10), share=0.01)
    assert min(assert_decoded(kernels, HEADS[name], outputs, SIZE, 10, Selection(0.3), score=2e-6)) > 0


@pytest.mark.parametrize("classes", [1, 91])
@pytest.mark.parametrize("name", ["detr", "rt-detr"])
def test_any_number_of_classes(kernels: HostKernels, name: str, classes: int) -> None:
    outputs = raw(HEADS[name], classes, pictures=1)
    (count,) = assert_decoded(kernels, HEADS[name], outputs, SIZE, classes, Selection(0.3), score=2e-6)
    assert count > 0
