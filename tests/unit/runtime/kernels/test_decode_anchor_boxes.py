"""anchor_boxes on the device against the NumPy decode; exponentials differ by their last bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.anchor_boxes import AnchorBoxes
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
LOCATIONS = 131
PIXELS = 1e-3  # 2e-6 of the longest side
ANCHORS = np.random.default_rng(7).uniform(4, 60, (LOCATIONS, 4)).astype(np.float32)

HEADS = {
    "ssd": AnchorBoxes(anchors=ANCHORS, activation="softmax", background=0),
    "ssd, background last": AnchorBoxes(anchors=ANCHORS, activation="softmax", background=4),
    "softmax of all": AnchorBoxes(anchors=ANCHORS, activation="softmax"),
    "tensorflow": AnchorBoxes(anchors=ANCHORS, box_order="yxhw", activation="sigmoid", background=0),
    "retinanet": AnchorBoxes(anchors=ANCHORS, variances=(1.0, 1.0, 1.0, 1.0), activation="sigmoid"),
    "background in the middle": AnchorBoxes(anchors=ANCHORS, activation="sigmoid", background=2),
    "decoded": AnchorBoxes(normalized=True, background=0),
    "decoded centres": AnchorBoxes(box_format="cxcywh", activation="softmax", background=0, roi_masks=True),
}


def raw(head: AnchorBoxes, classes: int = 4, pictures: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    boxes = rng.normal(0, 1, (pictures, LOCATIONS, 4)).astype(np.float32)
    scores = rng.normal(-1, 2, (pictures, LOCATIONS, classes + (head.background is not None))).astype(np.float32)
    scores[:, ::9] = 0  # a sigmoid of exactly one half
    if head.activation == "none":
        scores = 1 / (1 + np.exp(-scores))
    if head.background is not None:
        scores[:, ::2, head.background] += 3
    return [boxes, scores, np.zeros((pictures, LOCATIONS, 2, 2), np.float32)][: 2 + head.roi_masks]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    head = HEADS[name]
    outputs = raw(head)
    for tensors in (outputs, halved(outputs)):
        pixels, score = 0 if head.anchors is None else PIXELS, 0 if head.activation == "none" else 2e-6
        assert_decoded(kernels, head, tensors, SIZE, 4, selection, pixels=pixels, score=score)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["ssd", "softmax of all", "retinanet", "decoded"])
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=9), share=0.01)
    selection = Selection(0.3, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 9, selection, pixels=PIXELS, score=2e-6)
    assert min(counts) > 0


@pytest.mark.parametrize("classes", [1, 2, 31, 32, 90])
def test_any_number_of_classes(kernels: HostKernels, classes: int) -> None:
    outputs = raw(HEADS["ssd"], classes, pictures=1)
    (count,) = assert_decoded(kernels, HEADS["ssd"], outputs, SIZE, classes, Selection(0.3), pixels=PIXELS, score=2e-6)
    assert count > 0


def test_saturated_logits_are_chosen_by_the_logit(kernels: HostKernels) -> None:
    """Both sigmoids are 1 in float32; the larger logit is the class, as in the reference."""
    head = HEADS["retinanet"]
    boxes, scores = raw(head, pictures=1)
    scores[...] = (20, 30, 25, -40)
    (count,) = assert_decoded(kernels, head, [boxes, scores], SIZE, 4, Selection(1.0), pixels=PIXELS)
    assert count == LOCATIONS


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_a_hair_below_the_confidence_are_held_against_it_exactly(
    kernels: HostKernels, multi_label: bool
) -> None:
    """They reach the pruning threshold, which lies a hair lower, and their sigmoid does not reach one half."""
    head = HEADS["retinanet"]
    boxes, scores = raw(head, pictures=1)
    scores[...] = -1e-6
    scores[0, ::3, 1] = 0
    selection = Selection(0.5, multi_label=multi_label)
    (count,) = assert_decoded(kernels, head, [boxes, scores], SIZE, 4, selection, pixels=PIXELS)
    assert count == len(scores[0, ::3])
