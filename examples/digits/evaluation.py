"""Measure a digit detector on COCO pictures: letterbox, forward, non-maximum suppression, pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from archive import load_archive
from letterbox import Letterbox, boxes_to_picture, letterbox
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class DecodeConfig:
    """Limits of decoding: least score (0..1), greatest IoU (0..1) of two boxes of one class, boxes per picture."""

    min_score: float = 0.001
    max_iou: float = 0.6
    max_boxes: int = 100


@dataclass(frozen=True)
class Detections:
    """Boxes float32 [N, 4] (x1, y1, x2, y2 in input pixels), scores float32 [N] and labels int64 [N], best first."""

    boxes: FloatArray
    scores: FloatArray
    labels: NDArray[np.int64]


def to_tensor(pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack uint8 [side, side, 3] RGB pictures into float32 [B, 3, side, side], 0..1."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255.0


def decode(output: FloatArray, config: DecodeConfig) -> Detections:
    """Turn one picture's network output, float32 [4 + classes, A], into detections, one class per position."""
    scores, labels = output[4:].max(axis=0), output[4:].argmax(axis=0)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= config.min_score]
    centre, half = output[:2, order].T, output[2:4, order].T / 2.0
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    kept = _suppress(boxes, labels[order], config)
    return Detections(boxes[kept], scores[order][kept], labels[order][kept])


def _suppress(boxes: FloatArray, labels: NDArray[np.int64], config: DecodeConfig) -> list[int]:
    """Return the rows that no better row of the same class overlaps too much; rows are sorted best first."""
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for row in range(len(boxes)):
        if not alive[row]:
            continue
        kept.append(row)
        if len(kept) == config.max_boxes:
            break
        alive &= (_iou(boxes[row], boxes) <= config.max_iou) | (labels != labels[row])
    return kept


def _iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0.0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(shared / ((box[2:] - box[:2]).prod() + areas - shared + 1e-9), dtype=np.float32)


@torch.no_grad()
def detect(
    forward: Forward, pictures: Sequence[NDArray[np.uint8]], side: int, config: DecodeConfig
) -> list[Detections]:
    """Detect in uint8 [H, W, 3] RGB pictures; boxes are mapped back to x, y, width, height in picture pixels."""
    fitted = [letterbox(pixels, side) for pixels in pictures]
    outputs = forward(to_tensor([pixels for pixels, _ in fitted])).numpy()
    return [_in_picture(decode(output, config), mapping) for output, (_, mapping) in zip(outputs, fitted, strict=True)]


def _in_picture(found: Detections, mapping: Letterbox) -> Detections:
    return Detections(boxes_to_picture(found.boxes, mapping), found.scores, found.labels)


def evaluate(
    forward: Forward, pictures: Iterable[NDArray[np.uint8]], truth: dict[str, Any], side: int, batch: int = 16
) -> dict[str, float]:
    """Return COCO "mAP" and "mAP50" (0..1) of a forward function on the pictures of a COCO dataset, in its order."""
    rows: list[dict[str, Any]] = []
    identifiers = iter(image["id"] for image in truth["images"])
    for group in _batches(pictures, batch):
        for found in detect(forward, group, side, DecodeConfig()):
            rows += _result_rows(next(identifiers), found)
    return coco_metrics(truth, rows)


def _batches(pictures: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    iterator = iter(pictures)
    while group := list(islice(iterator, size)):
        yield group


def _result_rows(image_id: int, found: Detections) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [float(value) for value in box],
            "score": float(score),
        }
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


def coco_metrics(truth: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return COCO "mAP" and "mAP50" (0..1) of detection rows in COCO's results form."""
    if not rows:
        return {"mAP": 0.0, "mAP50": 0.0}
    # pycocotools prints its progress unconditionally.
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = truth
        ground.createIndex()
        judge = COCOeval(ground, ground.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"mAP": float(judge.stats[0]), "mAP50": float(judge.stats[1])}


def read_pictures(data: Path, truth: dict[str, Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of a COCO folder as uint8 [H, W, 3], RGB, in the order of its annotations."""
    for image in truth["images"]:
        path = data / "images" / image["file_name"]
        pixels = cv2.imread(str(path))
        if pixels is None:
            raise FileNotFoundError(f"no readable picture at {path}")
        yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8)


@click.command()
@click.option("--model", "archive", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Archive.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), required=True, help="COCO folder.")
def main(archive: Path, data: Path) -> None:
    """Measure a detector archive on a folder with images/ and annotations.json."""
    module, description = load_archive(archive)
    truth = json.loads((data / "annotations.json").read_text())
    metrics = evaluate(module, read_pictures(data, truth), truth, description["input"]["width"])
    click.echo(f"mAP50 {metrics['mAP50']:.4f}  mAP {metrics['mAP']:.4f}  on {len(truth['images'])} pictures")


if __name__ == "__main__":
    main()
