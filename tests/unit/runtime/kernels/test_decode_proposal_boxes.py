"""proposal_boxes on the device against the NumPy decode; exponentials differ by their last bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import SELECTIONS, assert_decoded, halved, poisoned
from host_kernels import HostKernels

from edgedet.runtime.heads.proposal_boxes import ProposalBoxes
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (96, 64)
REGIONS = 90
PIXELS = 2e-3  # 2e-6 of the longest side, 62.5 times a region's

HEADS = {
    "fast r-cnn": ProposalBoxes(),
    "background among the offsets": ProposalBoxes(background=2),
    "r-cnn with svms": ProposalBoxes(activation="sigmoid", background=None, variances=(1.0, 1.0, 1.0, 1.0)),
    "one box for all classes": ProposalBoxes(class_specific=False, background=4),
    "regions as they are": ProposalBoxes(activation="none", background=0),
    "sigmoids beside a background": ProposalBoxes(activation="sigmoid", background=1),
}


def raw(head: ProposalBoxes, classes: int = 4) -> list[Array]:
    rng = np.random.default_rng(0)
    columns = classes + (head.background is not None)
    scores = rng.normal(-1, 2, (REGIONS, columns)).astype(np.float32)
    scores[::9] = 0  # a sigmoid of exactly one half
    scores = 1 / (1 + np.exp(-scores)) if head.activation == "none" else scores
    own = columns if head.background == 2 else classes
    offsets = rng.normal(0, 3, (REGIONS, 4 * own if head.class_specific else 4)).astype(np.float32)
    corner = rng.uniform(0, 40, (REGIONS, 2)).astype(np.float32)
    regions = np.concatenate([corner, corner + rng.uniform(1, 50, (REGIONS, 2)).astype(np.float32)], axis=1)
    return [scores, *([] if head.activation == "none" else [offsets]), regions]


def moved(outputs: list[Array]) -> float:
    return PIXELS if len(outputs) == 3 else 0.0


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_same_candidates(kernels: HostKernels, name: str, selection: Selection) -> None:
    outputs = raw(HEADS[name])
    for tensors in (outputs, [*halved(outputs[:-1]), outputs[-1]]):
        score = 0 if HEADS[name].activation == "none" else 2e-6
        assert_decoded(kernels, HEADS[name], tensors, SIZE, 4, selection, pixels=moved(outputs), score=score)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_finite(kernels: HostKernels, name: str, multi_label: bool) -> None:
    outputs = poisoned(raw(HEADS[name], classes=9), share=0.01)
    selection = Selection(0.3, multi_label=multi_label)
    counts = assert_decoded(kernels, HEADS[name], outputs, SIZE, 9, selection, pixels=moved(outputs), score=2e-6)
    assert min(counts) > 0


def test_no_regions(kernels: HostKernels) -> None:
    outputs = [output[:0] for output in raw(HEADS["fast r-cnn"])]
    assert assert_decoded(kernels, HEADS["fast r-cnn"], outputs, SIZE, 4, Selection(0.0)) == [0]
