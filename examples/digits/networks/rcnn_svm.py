"""R-CNN as the paper has it in the end: a linear support vector machine for each class, on the network's features.

Source: Girshick et al., "Rich feature hierarchies" (R-CNN), arXiv 1311.2524, section 2.3 and appendix B.  The network
is the fine-tuned one.  A class learns its digits' own boxes, against those of the other digits and the regions that
overlap every digit by less than .3; what lies between is left out.  Of these regions a first share is learnt whole, and
of the others the hard ones, which the machines so far put on the wrong side of their margin or inside it.

One thing is added: a machine's margins are stretched so that their sigmoid is how likely a region shows the digit
(Platt, "Probabilistic outputs for support vector machines", 1999).  The ranking of its regions stays the same, and one
threshold means the same for all classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from box_samples import to_input
from dataset import PictureConfig, make_picture
from numpy.typing import NDArray
from region_crops import SIDE, warp_regions
from region_samples import RegionRule, draw_regions
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from source_digits import CLASS_NAMES
from torch import Tensor, nn
from torch.export import Dim

from networks.rcnn import FEATURES, RCNN, answer, describe_regions, draw
from networks.rcnn import RECIPE as SOFTMAX
from networks.recipe import Recipe, Schedule
from networks.regions import BACKGROUND, start_from

FloatArray = NDArray[np.float32]
Machines = tuple[FloatArray, FloatArray]
"""Weights [classes, 64] and biases [classes]: the margin is the features by the weights, and the bias."""

_RULE = RegionRule(count=40, most_positive=0)
_MEAN_NORM = 20.0
"""Features are brought to this mean length, as in the paper, so that its constant of regularisation means the same."""


@dataclass(frozen=True)
class SvmConfig:
    """Pictures to learn from, how many of them are learnt with all negatives, and the penalty of the machines.

    As many pictures as `calibration` says, others, tell what the margins mean.
    """

    pictures: int = 240
    first: int = 60
    calibration: int = 80
    penalty: float = 0.001
    negative: float = 0.3


@dataclass(frozen=True)
class Examples:
    """Features float32 [N, 64] and labels int64 [N], 0 for the background, d + 1 for digit d."""

    features: FloatArray
    labels: NDArray[np.int64]

    def where(self, rows: NDArray[np.bool_]) -> Examples:
        """Return the chosen rows."""
        return Examples(self.features[rows], self.labels[rows])


def examples(network: RCNN, config: SvmConfig, indices: Iterable[int]) -> Examples:
    """Describe the digits, and regions beside them, of some training pictures."""
    found = [_of_picture(network, config, index) for index in indices]
    return join(found)


def join(parts: list[Examples]) -> Examples:
    """Put examples one after the other."""
    return Examples(np.concatenate([part.features for part in parts]), np.concatenate([part.labels for part in parts]))


@torch.no_grad()
def _features(network: RCNN, crops: NDArray[np.uint8]) -> FloatArray:
    features: FloatArray = network.describe(to_input(torch.from_numpy(crops))).numpy()
    return features


def _of_picture(network: RCNN, config: SvmConfig, index: int) -> Examples:
    # A seed of its own: the network knows the pictures that it was trained on too well.
    picture = make_picture(PictureConfig(), "train", 1, index)
    boxes = picture.boxes()
    digits = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    regions = draw_regions(np.random.default_rng(index), digits, picture.labels, picture.owners.shape, _RULE)
    beside = regions.boxes[regions.overlap < config.negative]
    crops = warp_regions(picture.pixels, np.concatenate([digits, beside]))
    labels = np.concatenate([picture.labels + 1, np.full(len(beside), BACKGROUND)])
    return Examples(_features(network, crops), labels)


def fit_machines(known: Examples, later: Iterator[Examples], penalty: float) -> Machines:
    """Fit a machine for each digit, then again with the hard ones of later examples.

    A margin is 1 or more for the digit, -1 or less for all else, where the machines are sure.
    """
    weights, biases = _fit(known, penalty)
    for part in later:
        margins = part.features @ weights.T + biases
        hard = (part.labels != BACKGROUND) | (margins.max(axis=1) > -1.0)
        known = join([known, part.where(hard)])
    return _fit(known, penalty)


def calibrate(machines: Machines, seen: Examples) -> Machines:
    """Stretch and shift each machine's margins so that their sigmoid is how likely an example shows its digit."""
    weights, biases = machines
    margins = (seen.features @ weights.T + biases).astype(np.float64)
    fits = [
        LogisticRegression(C=1e6).fit(margins[:, digit, None], seen.labels == digit + 1)
        for digit in range(len(CLASS_NAMES))
    ]
    slopes = np.concatenate([fit.coef_[0] for fit in fits]).astype(np.float32)
    shifts = np.concatenate([fit.intercept_ for fit in fits]).astype(np.float32)
    return weights * slopes[:, None], biases * slopes + shifts


def _fit(known: Examples, penalty: float) -> Machines:
    scale = _MEAN_NORM / float(np.linalg.norm(known.features, axis=1).mean())
    scaled = (known.features * scale).astype(np.float64)
    machines = [
        LinearSVC(C=penalty, dual=True, intercept_scaling=10.0, random_state=0, max_iter=20_000).fit(
            scaled, known.labels == digit + 1
        )
        for digit in range(len(CLASS_NAMES))
    ]
    weights = np.concatenate([machine.coef_ for machine in machines]) * scale
    return weights.astype(np.float32), np.concatenate([machine.intercept_ for machine in machines]).astype(np.float32)


def _build() -> RCNN:
    network = RCNN()
    start_from(network, "rcnn")
    return network


def _finish(network: RCNN, config: SvmConfig | None = None) -> RCNN:
    """Put machines in the place of the softmax."""
    config = config or SvmConfig()
    first = examples(network, config, range(config.first))
    later = (examples(network, config, [index]) for index in range(config.first, config.pictures))
    machines = fit_machines(first, later, config.penalty)
    others = (draw(1, index) for index in range(config.pictures, config.pictures + config.calibration))
    seen = [Examples(_features(network, sample.crops), sample.regions.labels) for sample in others]
    weights, biases = calibrate(machines, join(seen))
    network.score = nn.Linear(FEATURES, len(CLASS_NAMES))
    network.score.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
    return network


RECIPE = Recipe(
    name="rcnn_svm",
    title="R-CNN with support vector machines",
    build=_build,
    draw=SOFTMAX.draw,
    collate=SOFTMAX.collate,
    loss=SOFTMAX.loss,
    # Nothing is learnt by gradients that the softmax network has not learnt.
    schedule=Schedule(steps=0),
    describe=lambda _: describe_regions("digits_rcnn_svm", {"activation": "sigmoid", "background": None}),
    sample=lambda _: (torch.zeros(2, 3, SIDE, SIDE),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=lambda forward, pixels: answer(forward, pixels, Tensor.sigmoid),
    finish=_finish,
)
