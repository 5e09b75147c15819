"""localizer on the device: the bits of the NumPy boxes, scores up to the last bits of exp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.localizer import Localizer
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
PICTURES = 40

HEADS = {
    "classes and box": Localizer(class_activation="softmax"),
    "background": Localizer(class_activation="softmax", background=1, box_format="cxcywh"),
    "with p_c": Localizer(objectness=True, objectness_activation="sigmoid", class_activation="sigmoid"),
    "activated p_c": Localizer(objectness=True, background=4, normalized=False),
    "vector": Localizer(layout="vector", objectness=True, box_format="cxcyhw"),
    "vector without p_c": Localizer(layout="vector", class_activation="softmax", background=0),
}


def raw(head: Localizer, classes: int = 4) -> list[Array]:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (PICTURES, classes + (head.background is not None))).astype(np.float32)
    scores = 1 / (1 + np.exp(-scores)) if head.class_activation == "none" else scores
    box = rng.random((PICTURES, 4), np.float32)
    p_c = rng.random((PICTURES, 1), np.float32)
    p_c[::3] = 1
    p_c = p_c * 20 - 10 if head.objectness_activation == "sigmoid" else p_c
    if head.layout == "vector":
        return [np.concatenate([*([p_c] if head.objectness else []), box, scores], axis=1)]
    return [scores, box, *([p_c] if head.objectness else [])]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, halved(outputs)):
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, score=2e-6)


def test_p_c_without_an_axis_of_its_own(kernels: HostKernels) -> None:
    scores, box, p_c = raw(HEADS["with p_c"])
    outputs = [scores, box, np.ascontiguousarray(p_c[:, 0])]
    counts = assert_decoded(kernels, HEADS["with p_c"], outputs, SIZE, 4, Selection(0.5), score=2e-6)
    assert set(counts) == {0, 1}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=50), share=0.004)
    selection = Selection(0.1, multi_label=multi_label)
    assert max(assert_decoded(kernels, HEADS[name], outputs, SIZE, 50, selection, score=2e-6)) > 0


def test_a_thousand_classes(kernels: HostKernels) -> None:
    (outputs) = raw(HEADS["classes and box"], classes=1000)
    outputs[0][:, 700] = 12
    counts = assert_decoded(kernels, HEADS["classes and box"], outputs, SIZE, 1000, Selection(0.5), score=2e-6)
    assert counts == [1] * PICTURES
