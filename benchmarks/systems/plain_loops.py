"""Raw outputs read by plain loops over the papers' formulas, with a pre-processing and an NMS written out beside them.

Nothing here is of edgedet: pictures are fed, outputs decoded and boxes suppressed as the papers say, one cell after
another, so that an error has to be made twice to go unnoticed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.results import Detections
from edgedet.runtime.selection import Selection
from systems.comparison import Case, Image, System
from systems.exporting import export
from systems.patch_network import PatchNetwork, run

__all__ = ["SYSTEMS"]

USUAL = Selection(confidence=0.3, iou=0.5)
FEW = Selection(confidence=0.5, iou=0.5)

FloatArray = npt.NDArray[np.float32]
Row = tuple[float, float, float, float, float, int]
"""Left, top, right, bottom in pixels of the network's input, score, class."""
Decode = Callable[[list[FloatArray], tuple[int, int], float], Iterator[Row]]
"""Outputs, width and height of the input, threshold -> rows at or above it."""


@dataclass(frozen=True)
class Feed:
    """How pictures become tensors.

    Attributes:
        width, height: of the input.
        letterbox: fit the picture into the middle, instead of stretching it.
        pad: grey beside it.
        rgb: whether the channels are turned around.
        mean, std: of the channels in the tensor's order.
    """

    width: int
    height: int
    letterbox: bool = False
    pad: int = 114
    rgb: bool = True
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (255, 255, 255)

    def place(self, picture: Image) -> tuple[int, int, int, int]:
        """Return left, top, width and height of the picture in the input."""
        if not self.letterbox:
            return 0, 0, self.width, self.height
        rows, columns = picture.shape[:2]
        scale = min(self.width / columns, self.height / rows)
        width, height = round(columns * scale), round(rows * scale)
        return (self.width - width) // 2, (self.height - height) // 2, width, height

    def tensor(self, picture: Image) -> FloatArray:
        """Return (1, 3, height, width)."""
        left, top, width, height = self.place(picture)
        canvas = np.full((self.height, self.width, 3), self.pad, np.uint8)
        canvas[top : top + height, left : left + width] = cv2.resize(picture, (width, height))
        pixels = canvas[:, :, ::-1] if self.rgb else canvas
        values = (pixels.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


@dataclass(frozen=True)
class Recipe:
    """A network of this file.

    Attributes:
        feed: how pictures reach it.
        build: adds its outputs.
        decode: the paper's formula.
        options: of the export.
        selection: what is answered with.
        suppress: whether its boxes need NMS.
    """

    feed: Feed
    build: Callable[[PatchNetwork], None]
    decode: Decode
    options: dict[str, Any]
    selection: Selection = USUAL
    suppress: bool = True


def _prepare(folder: Path, pictures: Sequence[Image], recipe: Recipe) -> Case:
    network = PatchNetwork(np.concatenate([recipe.feed.tensor(picture) for picture in pictures]))
    recipe.build(network)
    source = folder / "source.onnx"
    network.save(source)
    exported = export(source, folder, pictures, **recipe.options)
    return Case(exported, functools.partial(_answer, recipe, source), recipe.selection)


def _answer(recipe: Recipe, source: Path, picture: Image) -> Detections:
    feed, selection = recipe.feed, recipe.selection
    outputs = run(source, feed.tensor(picture))
    rows = list(recipe.decode([output[0] for output in outputs], (feed.width, feed.height), selection.confidence))
    rows.sort(key=lambda row: -row[4])
    kept = _suppressed(rows, selection.iou) if recipe.suppress else rows
    left, top, width, height = feed.place(picture)
    across, down = picture.shape[1] / width, picture.shape[0] / height
    boxes = [
        (
            min(max((row[0] - left) * across, 0), picture.shape[1]),
            min(max((row[1] - top) * down, 0), picture.shape[0]),
            min(max((row[2] - left) * across, 0), picture.shape[1]),
            min(max((row[3] - top) * down, 0), picture.shape[0]),
        )
        for row in kept[: selection.max_detections]
    ]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([row[4] for row in kept[: selection.max_detections]], np.float32),
        np.array([row[5] for row in kept[: selection.max_detections]], np.int64),
    )


def _suppressed(rows: Sequence[Row], iou: float) -> list[Row]:
    """Keep what no better one of its class overlaps by more."""
    kept: list[Row] = []
    for row in rows:
        if all(other[5] != row[5] or _iou(other, row) <= iou for other in kept):
            kept.append(row)
    return kept


def _iou(a: Row, b: Row) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _softmax(values: Sequence[float]) -> list[float]:
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def _best(scores: Sequence[float]) -> tuple[float, int]:
    class_id = max(range(len(scores)), key=scores.__getitem__)
    return scores[class_id], class_id


# Anchor grids: YOLOv2 (arXiv 1612.08242), v3 (1804.02767), v4 (2004.10934), v5, v7 (2207.02696).

V2 = (
    (
        (1.3221 * 32, 1.73145 * 32),
        (3.19275 * 32, 4.00944 * 32),
        (5.05587 * 32, 8.09892 * 32),
        (9.47112 * 32, 4.84053 * 32),
        (11.2364 * 32, 10.0071 * 32),
    ),
)
V3 = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
V4 = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


@dataclass(frozen=True)
class Grids:
    """Levels of K anchors a cell."""

    anchors: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...]
    classes: int
    squared: bool = False
    softmax: bool = False
    scales: tuple[float, ...] = (1.0, 1.0, 1.0)

    def build(self, network: PatchNetwork) -> None:
        """Add a map a level: offsets around their middle, some cells with an object, one class or another."""
        means = (0, 0, 0, 0, -3, *[-1.0] * self.classes)
        spreads = (1, 1, 0.4, 0.4, 2, *[2.0] * self.classes)
        for stride, anchors in zip(self.strides, self.anchors, strict=True):
            cells = network.map(stride, means * len(anchors), spreads * len(anchors))
            network.output(cells, f"grid_{stride}")

    def decode(self, outputs: list[FloatArray], size: tuple[int, int], threshold: float) -> Iterator[Row]:
        """Read cell by cell and anchor by anchor."""
        for output, stride, anchors, scale in zip(outputs, self.strides, self.anchors, self.scales, strict=False):
            channels = 5 + self.classes
            for index, anchor in enumerate(anchors):
                block = output[index * channels : (index + 1) * channels].tolist()
                for row in range(len(block[0])):
                    for column in range(len(block[0][0])):
                        cell = [channel[row][column] for channel in block]
                        found = self._cell(cell, anchor, stride, (column, row), scale)
                        if found[4] >= threshold:
                            yield found

    def _cell(
        self, cell: list[float], anchor: tuple[float, float], stride: int, at: tuple[int, int], scale: float
    ) -> Row:
        x, y, w, h = (_sigmoid(value) for value in cell[:4])
        if self.squared:
            center = [(2 * place - 0.5 + corner) * stride for place, corner in zip((x, y), at, strict=True)]
            extent = [side * (2 * value) ** 2 for side, value in zip(anchor, (w, h), strict=True)]
        else:
            center = [
                (scale * place - (scale - 1) / 2 + corner) * stride for place, corner in zip((x, y), at, strict=True)
            ]
            extent = [side * math.exp(value) for side, value in zip(anchor, cell[2:4], strict=True)]
        classes = _softmax(cell[5:]) if self.softmax else [_sigmoid(value) for value in cell[5:]]
        score, class_id = _best(classes)
        return (
            center[0] - extent[0] / 2,
            center[1] - extent[1] / 2,
            center[0] + extent[0] / 2,
            center[1] + extent[1] / 2,
            _sigmoid(cell[4]) * score,
            class_id,
        )


def _grids(grids: Grids, feed: Feed, family: str, selection: Selection = USUAL) -> Recipe:
    return Recipe(feed, grids.build, grids.decode, {"family": family, "class_names": _names(grids.classes)}, selection)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


# NanoDet: distances to the four sides as distributions (Generalized Focal Loss, arXiv 2006.04388).

BINS = 8
NANODET = Feed(320, 320, rgb=False, mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395))
NANODET_FIRST = Feed(320, 320, True, 0, False, NANODET.mean, NANODET.std)


def _build_nanodet(network: PatchNetwork, strides: tuple[int, ...], classes: int, plus: bool) -> None:
    parts: list[str] = []
    for stride in strides:
        scores = network.node("Sigmoid", [network.rows(network.map(stride, [-3] * classes, [1.5] * classes), classes)])
        sides = network.rows(network.map(stride, [0] * 4 * BINS, [1.5] * 4 * BINS), 4 * BINS)
        if plus:
            parts.append(network.node("Concat", [scores, sides], axis=2))
        else:
            network.output(scores, f"cls_pred_stride_{stride}")
            network.output(sides, f"dis_pred_stride_{stride}")
    if plus:
        network.output(network.node("Concat", parts, axis=1), "output")


def _decode_nanodet(
    outputs: list[FloatArray],
    size: tuple[int, int],
    threshold: float,
    *,
    strides: tuple[int, ...],
    classes: int,
    plus: bool,
) -> Iterator[Row]:
    offset = 0.0 if plus else 0.5
    cells = [
        (stride, row, column)
        for stride in strides
        for row in range(size[1] // stride)
        for column in range(size[0] // stride)
    ]
    if plus:
        rows = outputs[0].tolist()
    else:
        rows = [
            [*score, *side]
            for scores, sides in zip(outputs[::2], outputs[1::2], strict=True)
            for score, side in zip(scores.tolist(), sides.tolist(), strict=True)
        ]
    for (stride, row, column), values in zip(cells, rows, strict=True):
        score, class_id = _best(values[:classes])
        if score < threshold:
            continue
        x, y = (column + offset) * stride, (row + offset) * stride
        left, top, right, bottom = (
            stride
            * sum(k * p for k, p in enumerate(_softmax(values[classes + side * BINS : classes + (side + 1) * BINS])))
            for side in range(4)
        )
        yield x - left, y - top, x + right, y + bottom, score, class_id


def _nanodet(strides: tuple[int, ...], classes: int, *, plus: bool) -> Recipe:
    known = {"strides": strides, "classes": classes, "plus": plus}
    return Recipe(
        NANODET if plus else NANODET_FIRST,
        functools.partial(_build_nanodet, **known),
        functools.partial(_decode_nanodet, **known),
        {"family": "nanodet"},
    )


# The course's n x n grid, localiser and sliding windows: y = [p_c, b_x, b_y, b_h, b_w, c_1, ...] in units of a cell.

GRID_STRIDE, GRID_CLASSES = 32, 10
COURSE = Feed(320, 256, letterbox=True)


def _course_options(name: str, task: str, **parameters: object) -> dict[str, Any]:
    spec = {
        "task": task,
        "head": {"name": name, "parameters": parameters},
        "input": {"width": COURSE.width, "height": COURSE.height, "std": list(COURSE.std)},
        "class_names": list(_names(GRID_CLASSES)),
    }
    return {"family": "edgedet", "fragment": spec}


def _build_cells(network: PatchNetwork) -> None:
    cells = network.map(GRID_STRIDE, (0, 0, 0, 0.5, 0.5, *[0] * GRID_CLASSES), (2, 1, 1, 0.5, 0.5, *[3] * GRID_CLASSES))
    network.output(network.node("Transpose", [cells], perm=[0, 2, 3, 1]), "grid")


def _decode_cells(outputs: list[FloatArray], size: tuple[int, int], threshold: float) -> Iterator[Row]:
    grid = outputs[0].tolist()
    unit_width, unit_height = size[0] / len(grid[0]), size[1] / len(grid)
    for row, line in enumerate(grid):
        for column, (p_c, b_x, b_y, b_h, b_w, *classes) in enumerate(line):
            score, class_id = _best(_softmax(classes))
            score *= _sigmoid(p_c)
            if score >= threshold:
                x, y = (column + _sigmoid(b_x)) * unit_width, (row + _sigmoid(b_y)) * unit_height
                w, h = math.exp(b_w) * unit_width, math.exp(b_h) * unit_height
                yield x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, class_id


def _build_localizer(network: PatchNetwork) -> None:
    means = (1, 0.5, 0.5, 0.4, 0.3, *[0] * GRID_CLASSES)
    spreads = (1, 0.05, 0.05, 0.05, 0.05, *[3] * GRID_CLASSES)
    pooled = network.node("GlobalAveragePool", [network.map(GRID_STRIDE, means, spreads)])
    network.output(network.node("Flatten", [pooled]), "vector")


def _decode_localizer(outputs: list[FloatArray], size: tuple[int, int], threshold: float) -> Iterator[Row]:
    p_c, b_x, b_y, b_h, b_w, *classes = outputs[0].tolist()
    score, class_id = _best(_softmax(classes))
    score *= _sigmoid(p_c)
    if score >= threshold:
        width, height = size
        yield (
            (b_x - b_w / 2) * width,
            (b_y - b_h / 2) * height,
            (b_x + b_w / 2) * width,
            (b_y + b_h / 2) * height,
            score,
            class_id,
        )


WINDOW, WINDOW_STRIDE = 64, 16


def _build_windows(network: PatchNetwork) -> None:
    count = GRID_CLASSES + 1
    network.output(network.map(WINDOW_STRIDE, [2, *[0] * GRID_CLASSES], [2.0] * count, window=WINDOW), "scores")


def _decode_windows(outputs: list[FloatArray], size: tuple[int, int], threshold: float) -> Iterator[Row]:
    scores = outputs[0].tolist()
    for row in range(len(scores[0])):
        for column in range(len(scores[0][0])):
            score, class_id = _best(_softmax([channel[row][column] for channel in scores])[1:])
            if score >= threshold:
                x, y = column * WINDOW_STRIDE, row * WINDOW_STRIDE
                yield x, y, x + WINDOW, y + WINDOW, score, class_id


STRETCHED, BOXED = Feed(320, 320), Feed(320, 256, letterbox=True)
LEVELS = (8, 16, 32)
RECIPES = {
    "yolov2": (
        "[YOLOv2](https://arxiv.org/abs/1612.08242)",
        "one raw grid, 5 anchors a cell, VOC's classes",
        _grids(Grids(V2, (32,), 20, softmax=True), STRETCHED, "yolov2:yolov2-voc"),
    ),
    "yolov3": (
        "[YOLOv3](https://arxiv.org/abs/1804.02767)",
        "three raw grids",
        _grids(Grids(V3, LEVELS, 10), STRETCHED, "yolov3", FEW),
    ),
    "yolov4": (
        "[YOLOv4](https://arxiv.org/abs/2004.10934)",
        "three raw grids",
        _grids(Grids(V4, LEVELS, 10, scales=(1.2, 1.1, 1.05)), STRETCHED, "yolov3:yolov4", FEW),
    ),
    "yolov5": (
        "YOLOv5's repository",
        "three raw grids",
        _grids(Grids(V3, LEVELS, 10, squared=True), BOXED, "yolov5", FEW),
    ),
    "yolov7": (
        "[YOLOv7](https://arxiv.org/abs/2207.02696)",
        "three raw grids",
        _grids(Grids(V4, LEVELS, 10, squared=True), BOXED, "yolov7", FEW),
    ),
    "nanodet": ("NanoDet's repository", "three levels of scores and distances", _nanodet(LEVELS, 80, plus=False)),
    "nanodet-plus": ("NanoDet's repository", "one row a cell of four levels", _nanodet((*LEVELS, 64), 80, plus=True)),
    "grid-cells": (
        "the n x n grid of [YOLO](https://arxiv.org/abs/1506.02640), as courses put it",
        "p_c, b_x, b_y, b_h, b_w and classes of each cell",
        Recipe(
            COURSE,
            _build_cells,
            _decode_cells,
            _course_options(
                "grid_cells",
                "detect",
                center_activation="sigmoid",
                objectness_activation="sigmoid",
                size_activation="exp",
                class_activation="softmax",
            ),
        ),
    ),
    "localizer": (
        "classification with localisation, as courses put it",
        "p_c, one box and classes",
        Recipe(
            COURSE,
            _build_localizer,
            _decode_localizer,
            _course_options(
                "localizer",
                "localize",
                layout="vector",
                box_format="cxcyhw",
                objectness=True,
                objectness_activation="sigmoid",
                class_activation="softmax",
            ),
            Selection(confidence=0.05),
            suppress=False,
        ),
    ),
    "class-windows": (
        "the convolutional sliding window of [OverFeat](https://arxiv.org/abs/1312.6229)",
        "class scores of each place",
        Recipe(
            COURSE,
            _build_windows,
            _decode_windows,
            _course_options(
                "class_windows", "detect", window=[WINDOW, WINDOW], stride=[WINDOW_STRIDE] * 2, background=0
            ),
        ),
    ),
}
SYSTEMS = [
    System(name, definition, "a plain loop", exported, functools.partial(_prepare, recipe=recipe))
    for name, (definition, exported, recipe) in RECIPES.items()
]
