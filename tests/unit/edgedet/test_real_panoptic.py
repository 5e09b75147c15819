"""Labels of real pictures, turned into what a network without fault answers with, reach a panoptic quality of 1."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.class_match import match_classes
from edgedet.dataset.coco_panoptic import PanopticLabels, read_panoptic_set
from edgedet.panoptic_quality import evaluate_panoptic
from edgedet.runtime.heads import MapHead, PanopticDeeplab, QueryMasks
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

PICTURES = 4


def query_outputs(labels: PanopticLabels, classes: int) -> list[np.ndarray]:
    logits = np.full((len(labels.segments) + 1, classes + 1), -9, np.float32)
    masks = np.full((len(logits), *labels.segment_id.shape), -9, np.float32)
    # The last query answers with nothing, and covers what is void so that no other one does.
    logits[-1, classes] = 9
    for index, segment in enumerate(labels.segments):
        logits[index, segment.class_id] = 9
        masks[index][labels.segment_id == segment.id] = 9
    return [logits, masks]


def deeplab_outputs(labels: PanopticLabels, classes: int) -> list[np.ndarray]:
    semantic = np.zeros((classes, *labels.segment_id.shape), np.float32)
    # What is void becomes stuff: as a thing it would be voted into one of the objects.
    semantic[labels.is_thing.index(False)] = 1
    heatmap = np.zeros((1, *labels.segment_id.shape), np.float32)
    offsets = np.zeros((2, *labels.segment_id.shape), np.float32)
    for segment in labels.segments:
        rows, columns = np.nonzero(labels.segment_id == segment.id)
        semantic[segment.class_id, rows, columns] = 20
        if labels.is_thing[segment.class_id]:
            # Any pixel may be the center, as long as no other object has the same one.
            row, column = int(rows[len(rows) // 2]), int(columns[len(rows) // 2])
            heatmap[0, row, column] = 1
            offsets[:, rows, columns] = row - rows, column - columns
    return [semantic, heatmap, offsets]


@pytest.mark.parametrize("name", ["weighted", "softmax", "deeplab"])
def test_perfect_answers_reach_1(shared: Path, name: str) -> None:
    labelled = read_panoptic_set(shared / "coco" / "val")
    classes = len(labelled.class_names)
    pairs = []
    for image in labelled.images[:PICTURES]:
        height, width = cv2.imread(str(image.path)).shape[:2]
        labels = image.sized(width=width, height=height)
        things = tuple(np.flatnonzero(labels.is_thing).tolist())
        head: MapHead
        if name == "deeplab":
            outputs = deeplab_outputs(labels, classes)
            head = PanopticDeeplab(thing_classes=things, nms_kernel=1, stuff_area=0)
        else:
            outputs = query_outputs(labels, classes)
            head = QueryMasks(things, "softmax" if name == "softmax" else "weighted", smallest_area=0)
        found = head.decode_map(
            outputs, Placement(width, height, 0, 0, width, height), (width, height), Selection(), labelled.class_names
        )
        pairs.append((labels, found))
    scores = evaluate_panoptic(pairs, match_classes(labelled.class_names, labelled.class_names))
    assert (scores.all.pq, scores.things.pq, scores.stuff.pq) == (1, 1, 1)
    assert scores.images == PICTURES
    assert scores.segments > 20
