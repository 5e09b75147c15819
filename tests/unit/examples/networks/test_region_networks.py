"""The R-CNN family: what the losses teach is what the networks, and edgedet's heads, make of it.

Outputs are fitted themselves, without a network: where a loss and the decoding disagree about an anchor, a class or a
scale, no output that satisfies the loss decodes to the objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from box_deltas import PLAIN, SCALED, Variances
from box_samples import collate_boxes
from networks import recipe
from networks.faster_rcnn import FasterRCNN, Regions, draw_regions, region_loss
from networks.proposed_regions import Lesson, best_digit, lesson, proposed_loss
from networks.region_loss import draw_rows, overlaps
from networks.region_proposals import ProposalConfig, RegionProposals
from networks.regions import RegionConfig
from networks.task_alignment import Targets
from region_samples import RegionRule
from region_samples import draw_regions as sample_regions
from torch import Tensor

from edgedet.model_spec import HeadSpec
from edgedet.runtime.heads import BoxHead, head_from_spec
from edgedet.runtime.selection import Selection

BOXES = (
    np.array([[30, 40, 42, 58], [100, 80, 160, 170], [5, 200, 30, 240], [299, 280, 320, 310]], np.float32),
    np.array([[120, 20, 140, 60], [121, 200, 228, 319]], np.float32),
)
LABELS = (np.array([3, 0, 9, 9]), np.array([5, 1]))


def targets() -> Targets:
    pixels = np.zeros((320, 320, 3), np.uint8)
    return collate_boxes([(pixels, boxes, labels) for boxes, labels in zip(BOXES, LABELS, strict=True)])[1]


def lower(tensors: list[Tensor], loss: Callable[[], Tensor], steps: int, rate: float) -> list[float]:
    """Lower a loss and return its course."""
    optimiser = torch.optim.Adam([tensor for tensor in tensors if tensor.requires_grad], lr=rate)
    course = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        course.append(float(value.detach()))
    return course


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    network = FasterRCNN(proposals=ProposalConfig(proposals=600))
    return network.eval()


def test_proposals_that_satisfy_the_loss_are_the_objects(detector: FasterRCNN) -> None:
    torch.manual_seed(0)
    kinds = 8
    objectness = torch.full((2, kinds, 40, 40), -2.0, requires_grad=True)
    offsets = torch.zeros(2, 40 * 40 * kinds, 4, requires_grad=True)
    proposals = detector.proposals
    lower([objectness, offsets], lambda: proposals.loss(objectness, offsets, targets()), 60, 0.3)
    found = proposals.propose(objectness.detach(), offsets.detach())
    assert found.shape == (2, 600, 4)
    for picture, boxes in enumerate(BOXES):
        best = overlaps(found[picture : picture + 1], one(boxes))[0].amax(dim=1)
        assert (best > 0.9).all()


def one(boxes: np.ndarray) -> Targets:
    rows = torch.from_numpy(boxes)[None]
    return Targets(rows, torch.zeros(rows.shape[:2], dtype=torch.int64), torch.ones(rows.shape[:2], dtype=torch.bool))


def test_only_the_highest_of_nine_cells_proposes() -> None:
    proposals = RegionProposals(RegionConfig(side=64), ProposalConfig(scales=(16.0,), ratios=(1.0,), proposals=2))
    objectness = torch.full((1, 1, 8, 8), -5.0)
    objectness[0, 0, 2, 2], objectness[0, 0, 2, 3], objectness[0, 0, 6, 6] = 3.0, 2.9, 1.0
    found = proposals.propose(objectness, torch.zeros(1, 64, 4))
    assert found[0].tolist() == [[12, 12, 28, 28], [44, 44, 60, 60]]


def test_regions_are_drawn_for_what_they_overlap() -> None:
    torch.manual_seed(0)
    goals = targets()
    regions = draw_regions(torch.rand(2, 100, 4) * 160 + torch.tensor([0.0, 0, 160, 160]), goals)
    shared = overlaps(regions.boxes, goals)
    drawn = regions.drawn
    assert drawn.positive.any(dim=1).all() and (drawn.counted | ~drawn.positive).all()
    quality, owner = shared.max(dim=1)
    assert (quality[drawn.positive] >= 0.5).all()
    assert (quality[drawn.counted & ~drawn.positive] < 0.5).all()
    assert (owner == regions.owner)[drawn.positive].all()


def test_second_stage_outputs_that_satisfy_the_loss_are_the_objects(detector: FasterRCNN) -> None:
    torch.manual_seed(0)
    goals = targets()
    regions: Regions = draw_regions(torch.rand(2, 60, 4) * 160 + torch.tensor([0.0, 0, 160, 160]), goals)
    count = regions.boxes.shape[1]
    logits, offsets = torch.zeros(2 * count, 11, requires_grad=True), torch.zeros(2 * count, 4, requires_grad=True)
    lower([logits, offsets], lambda: region_loss(logits, offsets, regions, goals), 150, 0.2)
    boxes = detector.refine(offsets.detach(), regions.boxes)
    head = head_of("faster_rcnn")
    for picture in range(2):
        rows = regions.drawn.positive[picture]
        outputs = [boxes[picture][rows].numpy(), logits.detach().unflatten(0, (2, count))[picture][rows].numpy()]
        found = head.decode(outputs, (320, 320), Selection(confidence=0.5))
        owner = regions.owner[picture][rows].numpy()
        assert len(found) == len(owner)
        np.testing.assert_array_equal(found.class_id, LABELS[picture][owner])
        np.testing.assert_allclose(found.xyxy, BOXES[picture][owner], atol=1.5)


@dataclass(frozen=True)
class Configured:
    """What `describe` looks at of a network, without building one."""

    config: RegionConfig = field(default_factory=RegionConfig)


def head_of(name: str) -> BoxHead:
    head = head_from_spec(HeadSpec(**recipe(name).describe(Configured())["head"]))
    assert isinstance(head, BoxHead)
    return head


@pytest.mark.parametrize(("name", "variances"), [("fast_rcnn", SCALED), ("rcnn", PLAIN)])
def test_outputs_for_given_regions_that_satisfy_the_loss_are_the_objects(name: str, variances: Variances) -> None:
    drawn = sample_regions(np.random.default_rng(0), BOXES[0], LABELS[0], (320, 320), RegionRule())
    regions: Lesson = lesson([drawn])
    count = len(drawn.boxes)
    logits, offsets = torch.zeros(count, 11, requires_grad=True), torch.zeros(count, 40, requires_grad=True)
    rate = 0.2 if variances == SCALED else 0.02
    lower([logits, offsets], lambda: proposed_loss(logits, offsets, regions, variances), 200, rate)
    positive = drawn.labels > 0
    digits = logits.detach().softmax(dim=1)[:, 1:]
    boxes, scores, labels = best_digit(digits, offsets.detach(), regions.boxes, variances)
    np.testing.assert_array_equal(scores > 0.5, positive)
    np.testing.assert_array_equal(labels[positive], drawn.labels[positive] - 1)
    np.testing.assert_allclose(boxes[positive], drawn.goals[positive], atol=1.5)
    outputs = [logits.detach().numpy(), offsets.detach().numpy(), drawn.boxes]
    found = head_of(name).decode(outputs, (320, 320), Selection(confidence=0.5))
    np.testing.assert_array_equal(found.class_id, labels[positive])
    np.testing.assert_allclose(found.xyxy, boxes[positive], atol=1e-3)


def test_rows_are_drawn_once_each_and_only_where_they_may() -> None:
    torch.manual_seed(0)
    positive = torch.zeros(2, 50, dtype=torch.bool)
    positive[0, :3] = positive[1, :30] = True
    negative = torch.zeros_like(positive)
    negative[0, 10:30] = negative[1, 40:] = True
    drawn = draw_rows(positive, negative, count=16, most_positive=8)
    assert drawn.positive.sum(dim=1).tolist() == [3, 8]
    assert drawn.counted.sum(dim=1).tolist() == [11, 16]
    assert drawn.rows(positive)[drawn.positive].all()
    assert drawn.rows(negative)[drawn.counted & ~drawn.positive].all()
    for row, counted in zip(drawn.index, drawn.counted, strict=True):
        assert len(row[counted].unique()) == counted.sum()


@pytest.mark.parametrize("name", ["faster_rcnn", "fast_rcnn", "rcnn"])
def test_five_steps_on_one_batch_lower_the_loss(name: str) -> None:
    chosen = recipe(name)
    torch.manual_seed(0)
    model = chosen.build().train()
    batch = chosen.collate([chosen.draw(0, index) for index in range(2)])
    course = lower(list(model.parameters()), lambda: chosen.loss(model, batch), 6, 1e-3)
    assert course[-1] < course[0]


def test_a_picture_without_objects_has_a_loss_without_nan(detector: FasterRCNN) -> None:
    pixels = np.zeros((320, 320, 3), np.uint8)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    batch = collate_boxes([(pixels, *nothing), (pixels, BOXES[0], LABELS[0])])
    loss = recipe("faster_rcnn").loss(detector, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
