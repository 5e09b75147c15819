"""The one-stage networks: what their losses teach is what edgedet's heads read.

Outputs are fitted themselves, without a network: where a loss and a head disagree about a cell, an anchor or a scale,
no output that satisfies the loss decodes to the objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from box_samples import collate_boxes
from networks import recipe
from networks.anchor_yolo import AnchorYoloConfig, anchor_loss
from networks.anchor_yolo import match as match_anchors
from networks.grid_yolo import GridYoloConfig, boxes_of_cells, grid_loss
from networks.ssd import SsdConfig, default_boxes, hard_negatives, match, multibox_loss
from networks.task_alignment import Targets, pairwise_iou
from plain_boxes import DecodeConfig, select
from pycocotools import mask as coco_mask
from torch import Tensor

from edgedet.model_spec import HeadSpec
from edgedet.runtime.heads import BoxHead, head_from_spec
from edgedet.runtime.selection import Selection

BOXES = (
    np.array([[30, 40, 42, 58], [100, 80, 160, 170], [5, 200, 30, 240], [299, 280, 320, 310]], np.float32),
    np.array([[120, 20, 140, 60], [121, 200, 228, 319]], np.float32),
)
LABELS = (np.array([3, 0, 9, 9]), np.array([5, 1]))


def batch() -> tuple[Tensor, Targets]:
    pixels = np.zeros((320, 320, 3), np.uint8)
    return collate_boxes([(pixels, boxes, labels) for boxes, labels in zip(BOXES, LABELS, strict=True)])


def activated_cells(raw: Tensor) -> Tensor:
    return torch.cat([raw[..., :3].sigmoid(), raw[..., 3:5].exp(), raw[..., 5:].softmax(dim=-1)], dim=-1)


def ssd_loss(outputs: list[Tensor], targets: Targets) -> Tensor:
    return multibox_loss(outputs[0], outputs[1], default_boxes(SsdConfig()), targets, SsdConfig())


@dataclass(frozen=True)
class Fit:
    """Shapes of a network's raw outputs for two pictures, their loss, and what the network makes of them."""

    shapes: tuple[tuple[int, ...], ...]
    loss: Callable[[list[Tensor], Targets], Tensor]
    finish: Callable[[Tensor], Tensor] = lambda raw: raw


FITS = {
    "ssd": Fit(((2, 11600, 4), (2, 11600, 11)), ssd_loss),
    "anchor_yolo": Fit(
        ((2, 45, 40, 40), (2, 45, 20, 20), (2, 45, 10, 10)),
        lambda outputs, targets: anchor_loss(tuple(outputs), targets, AnchorYoloConfig()),
    ),
    "grid_yolo": Fit(
        ((2, 20, 20, 15),),
        lambda outputs, targets: grid_loss(outputs[0], targets, GridYoloConfig()),
        activated_cells,
    ),
}


def head_of(name: str) -> BoxHead:
    chosen = recipe(name)
    head = head_from_spec(HeadSpec(**chosen.describe(chosen.build())["head"]))
    assert isinstance(head, BoxHead)
    return head


def fitted(fit: Fit) -> list[Tensor]:
    """Lower the loss of outputs that start at 0 until they satisfy it."""
    outputs = [torch.zeros(shape, requires_grad=True) for shape in fit.shapes]
    _, targets = batch()
    optimiser = torch.optim.Adam(outputs, lr=0.3)
    for _ in range(50):
        optimiser.zero_grad()
        loss = fit.loss(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return [fit.finish(output.detach()) for output in outputs]


def matching_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """pycocotools' IoU of matching rows, x1, y1, x2, y2."""
    corner_size = [np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1) for boxes in (first, second)]
    return np.diagonal(coco_mask.iou(*(rows.astype(np.float64) for rows in corner_size), [0] * len(second)))


@pytest.mark.parametrize("name", FITS)
def test_outputs_that_satisfy_the_loss_decode_to_the_objects(name: str) -> None:
    outputs, head = fitted(FITS[name]), head_of(name)
    for picture, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        found = head.decode([output[picture].numpy() for output in outputs], (320, 320), Selection(confidence=0.4))
        kept = select(found.xyxy, found.score, found.class_id, DecodeConfig(min_score=0.4, max_iou=0.5))
        order = np.lexsort((found.xyxy[kept, 0], found.class_id[kept]))
        expected = np.lexsort((boxes[:, 0], labels))
        assert found.class_id[kept][order].tolist() == labels[expected].tolist()
        assert matching_iou(found.xyxy[kept][order], boxes[expected]).min() > 0.8


@pytest.mark.parametrize("name", FITS)
def test_a_picture_without_objects_has_a_loss_without_nan(name: str) -> None:
    pixels = np.zeros((320, 320, 3), np.uint8)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    _, targets = collate_boxes([(pixels, *nothing), (pixels, BOXES[0], LABELS[0])])
    outputs = [torch.zeros(shape, requires_grad=True) for shape in FITS[name].shapes]
    loss = FITS[name].loss(outputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert all(output.grad is None or torch.isfinite(output.grad).all() for output in outputs)


def test_default_boxes_serve_the_objects_that_torchvision_matches() -> None:
    matcher = pytest.importorskip("torchvision.models.detection._utils").Matcher(
        0.5, 0.5, allow_low_quality_matches=True
    )
    _, targets = batch()
    boxes = default_boxes(SsdConfig())
    found = match(boxes, targets, 0.5)
    for picture in range(2):
        own = targets.boxes[picture][targets.present[picture]]
        overlaps = pairwise_iou(own[None], boxes[None])[0]
        expected = matcher(overlaps.clone())
        # An object's best default box may overlap another object more: SSD gives it to the first, torchvision does not.
        plain = ~(overlaps == overlaps.amax(dim=1, keepdim=True)).any(dim=0)
        assert torch.equal(found[picture][plain], expected.clamp(min=-1)[plain])
        assert set(found[picture].unique().tolist()) == {-1, *range(len(own))}


def test_the_worst_negatives_are_chosen_three_to_one() -> None:
    losses = torch.tensor([[9.0, 1.0, 5.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    positive = torch.tensor([[True, False, False, False, False, False], [False] * 6])
    assert hard_negatives(losses, positive, 3).tolist() == [[False, False, True, True, True, False], [False] * 6]


def test_a_cell_answers_in_the_units_of_the_course() -> None:
    # Half way into column 3, a quarter into row 1, two cells high, one and a half wide, cells of 16 pixels.
    box = boxes_of_cells(torch.tensor([0.5, 0.25, 2.0, 1.5]), torch.tensor([3.0, 1.0]), 16)
    assert box.tolist() == [44.0, 4.0, 68.0, 36.0]


def test_every_object_gets_anchors_in_reach() -> None:
    config = AnchorYoloConfig()
    _, targets = batch()
    served = set()
    for anchors, stride in zip(config.anchors, config.strides, strict=True):
        matches = match_anchors(targets, anchors, stride, config)
        picture, anchor, row, column = matches.place
        centre = (matches.boxes[:, :2] + matches.boxes[:, 2:]) / (2 * stride)
        inside = centre - torch.stack([column, row], dim=1)
        assert (inside > -0.5 - 1e-6).all() and (inside < 1.5 + 1e-6).all()
        ratio = (matches.boxes[:, 2:] - matches.boxes[:, :2]) / torch.tensor(anchors)[anchor]
        assert (ratio < config.max_ratio).all() and (1 / ratio < config.max_ratio).all()
        served |= {(int(which), *box) for which, box in zip(picture, matches.boxes.tolist(), strict=True)}
    assert len(served) == sum(len(labels) for labels in LABELS)


@pytest.mark.parametrize("name", ["ssd", "anchor_yolo", "grid_yolo", "localizer"])
def test_five_steps_on_one_batch_lower_the_loss(name: str) -> None:
    chosen = recipe(name)
    torch.manual_seed(0)
    model = chosen.build().train()
    samples: Any = chosen.collate([chosen.draw(0, index) for index in range(2)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = chosen.loss(model, samples)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
