"""A trained model on mosaics of upscaled pictures: tiles find what the model finds in the pictures by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import edgedet
from edgedet.class_match import match_classes
from edgedet.dataset import LabelledImage, LabelledSet, read_labelled_set
from edgedet.evaluate import evaluate
from edgedet.results import Detections
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.capture import read_image
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiled_detector import TiledDetector
from edgedet.runtime.tiling import Tiling

pytest.importorskip("pycocotools")

Image = npt.NDArray[np.uint8]
Pairs = list[tuple[LabelledImage, Detections]]

CELL = 2560
"""Four times the longer side of most pictures: a tile of this size is to the network what the picture itself was."""


def mosaics(labelled: LabelledSet) -> Iterator[tuple[LabelledImage, Image]]:
    """2 x 2 pictures, each enlarged until its longer side is CELL, on grey."""
    for start in range(0, len(labelled.images), 4):
        canvas = np.full((2 * CELL, 2 * CELL, 3), 114, np.uint8)
        boxes, areas = [], []
        four = labelled.images[start : start + 4]
        for place, image in enumerate(four):
            picture = read_image(image.path)
            left, top = place % 2 * CELL, place // 2 * CELL
            scale = CELL / max(picture.shape[:2])
            large = cv2.resize(picture, None, fx=scale, fy=scale)[:CELL, :CELL]
            canvas[top : top + large.shape[0], left : left + large.shape[1]] = large
            sized = image.sized(picture.shape[1], picture.shape[0])
            boxes.append(sized.boxes * np.float32(scale) + np.array([left, top] * 2, np.float32))
            areas.append(sized.area * np.float32(scale**2))
        labels = LabelledImage(
            start,
            four[0].path,
            np.concatenate(boxes),
            np.concatenate([image.class_id for image in four]),
            np.concatenate([image.iscrowd for image in four]),
            np.concatenate(areas),
        )
        yield replace(labels, width=2 * CELL, height=2 * CELL), canvas


def test_a_mosaic_is_as_good_as_its_pictures(shared: Path, tmp_path: Path) -> None:
    edgedet.export_model(shared / "models/yolox_nano_416.onnx", tmp_path / "model.onnx", family="yolox")
    labelled = read_labelled_set(shared / "coco/val")
    selection = Selection(confidence=0.01, iou=0.6, max_detections=1200)
    pairs: dict[str, Pairs] = {name: [] for name in ("pictures", "nms", "wbf")}
    with edgedet.load(tmp_path / "model.onnx", selection=selection, threads=2, tiling=Tiling(CELL, CELL)) as detector:
        for image in labelled.images:
            picture = read_image(image.path)
            pairs["pictures"].append((image.sized(picture.shape[1], picture.shape[0]), detector.detector(picture)))
        averaging = TiledDetector(detector.detector, replace(detector.tiling, merge="wbf"))
        for labels, canvas in mosaics(labelled):
            raw = detector.infer(detector.preprocess([canvas]))
            pairs["nms"].append((labels, detector.postprocess(raw)[0]))
            pairs["wbf"].append((labels, averaging.postprocess(raw)[0]))
        classes = match_classes(detector.spec.class_names, labelled.class_names)
    reached = {name: round(evaluate(found, classes, max_detections=1200).mean_ap50, 4) for name, found in pairs.items()}
    assert reached["pictures"] == pytest.approx(0.516, abs=0.01)
    assert reached["wbf"] >= reached["pictures"], reached
    assert reached["nms"] >= reached["pictures"] - 0.002, reached


def test_a_bus_that_no_tile_shows_whole_is_found_once(shared: Path, tmp_path: Path) -> None:
    """The largest object of the set, through tiles without the whole picture."""
    edgedet.export_model(shared / "models/yolox_nano_416.onnx", tmp_path / "model.onnx", family="yolox")
    labelled = read_labelled_set(shared / "coco/val")
    bus = labelled.class_names.index("bus")
    found_whole = []
    with edgedet.load(tmp_path / "model.onnx", threads=2) as plain:
        for image in labelled.images:
            if bus not in image.class_id:
                continue
            picture = read_image(image.path)
            alone = plain(picture)
            chosen = np.flatnonzero((alone.class_id == bus) & (alone.score > 0.8))
            side = int(0.7 * picture.shape[1])
            large = alone.xyxy[chosen][alone.xyxy[chosen, 2] - alone.xyxy[chosen, 0] > side]
            if not len(large):
                continue
            tiled = TiledDetector(plain, Tiling(side, side, 0.4, whole=False))(picture)
            buses = tiled.xyxy[tiled.class_id == bus]
            found_whole.append((iou_matrix(large, buses) > 0.8).sum(axis=1).tolist())
    assert found_whole, "no large bus in the set"
    assert all(counts == [1] * len(counts) for counts in found_whole), found_whole
