"""AnchorGrid against a plain loop over cells and anchors, written from the papers' formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.anchor_grid import AnchorGrid
from edgedet.runtime.selection import Selection

SIZE = (96, 64)
CLASSES = 4
V3_ANCHORS = (((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)), ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)))

HEADS = {
    "v2": AnchorGrid(
        anchors=(((42.0, 55.0), (102.0, 128.0), (256.0, 190.0), (20.0, 20.0), (300.0, 61.0)),),
        strides=(32,),
        class_activation="softmax",
    ),
    "v3": AnchorGrid(anchors=V3_ANCHORS, strides=(8, 16)),
    "v3, coarse level first": AnchorGrid(anchors=V3_ANCHORS[::-1], strides=(16, 8), layout="NHWC"),
    "v4": AnchorGrid(anchors=V3_ANCHORS, strides=(8, 16), scale_xy=(1.2, 1.1)),
    "v5": AnchorGrid(anchors=V3_ANCHORS, strides=(8, 16), box_decode="sigmoid_squared", layout="NKHWC"),
    "v7": AnchorGrid(anchors=V3_ANCHORS, strides=(8, 16), box_decode="sigmoid_squared"),
}


def raw_levels(head: AnchorGrid) -> list[npt.NDArray[np.float32]]:
    """Return each level as (H, W, K, 5+C)."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(0, 1.5, (SIZE[1] // stride, SIZE[0] // stride, len(anchors), 5 + CLASSES)).astype(np.float32)
        for stride, anchors in zip(head.strides, head.anchors, strict=True)
    ]


def laid_out(level: npt.NDArray[np.float32], layout: str) -> npt.NDArray[np.float32]:
    rows, columns, anchors, channels = level.shape
    if layout == "NHWC":
        return level.reshape(rows, columns, anchors * channels)
    if layout == "NKHWC":
        return np.ascontiguousarray(level.transpose(2, 0, 1, 3))
    return np.ascontiguousarray(level.reshape(rows, columns, anchors * channels).transpose(2, 0, 1))


def s(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def plain_decode(head: AnchorGrid, levels: list[npt.NDArray[Any]], selection: Selection) -> list[Row]:
    rows: list[Row] = []
    for index, level in enumerate(levels):
        stride = head.strides[index]
        for row, column, anchor in np.ndindex(*level.shape[:3]):
            tx, ty, tw, th, objectness, *raw = level[row, column, anchor].tolist()
            anchor_w, anchor_h = head.anchors[index][anchor]
            if head.box_decode == "exp":
                scale = head.scale_xy[index] if head.scale_xy else 1.0
                cx = (scale * s(tx) - (scale - 1) / 2 + column) * stride
                cy = (scale * s(ty) - (scale - 1) / 2 + row) * stride
                w, h = anchor_w * math.exp(tw), anchor_h * math.exp(th)
            else:
                cx, cy = (2 * s(tx) - 0.5 + column) * stride, (2 * s(ty) - 0.5 + row) * stride
                w, h = anchor_w * (2 * s(tw)) ** 2, anchor_h * (2 * s(th)) ** 2
            total = sum(math.exp(value) for value in raw)
            softmax = head.class_activation == "softmax"
            scores = [s(objectness) * (math.exp(value) / total if softmax else s(value)) for value in raw]
            wanted = range(CLASSES) if selection.class_ids is None else selection.class_ids
            passing = [(scores[class_id], class_id) for class_id in wanted if scores[class_id] >= selection.confidence]
            for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
                rows.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id))
    return rows


@pytest.mark.parametrize(
    "selection",
    [Selection(0.3), Selection(0.3, multi_label=True), Selection(0.2, class_ids=(0, 3)), Selection(0.0)],
    ids=str,
)
@pytest.mark.parametrize("name", HEADS)
def test_is_the_plain_loop(name: str, selection: Selection) -> None:
    head = HEADS[name]
    levels = raw_levels(head)
    found = head.decode([laid_out(level, head.layout) for level in levels], SIZE, selection)
    assert_same_candidates(found, plain_decode(head, levels, selection))


def test_v2_output_of_19_by_19_cells_and_5_anchors_of_85_channels() -> None:
    """The lecture's 19x19x5x85: one certain object in the middle cell of its grid."""
    output = np.full((19, 19, 5, 85), -12, np.float32)
    output[9, 9, 2] = 0
    output[9, 9, 2, 4] = 12
    output[9, 9, 2, 5 + 17] = 20
    head = AnchorGrid(anchors=(((16.0, 16.0),) * 5,), strides=(32,), class_activation="softmax", layout="NHWC")
    head.check([tensor(1, 19, 19, 5 * 85)], 80, (608, 608))
    found = head.decode([output.reshape(19, 19, 5 * 85)], (608, 608), Selection(0.5))
    assert_same_candidates(found, [(296, 296, 312, 312, 1.0, 17)], score=1e-4)


def test_nan_never_passes_and_overflow_is_quiet() -> None:
    head = AnchorGrid(anchors=(((16.0, 16.0),),), strides=(32,))
    output = np.full((7, 1, 3), 5, np.float32)
    output[4, 0, 0] = np.nan
    output[5, 0, 1] = np.nan
    output[2, 0, 2] = 200
    found = head.decode([output], (96, 32), Selection(0.5))
    assert found.class_id.tolist() == [1, 0]
    assert np.isfinite(found.xyxy).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize("name", HEADS)
def test_check_takes_the_shapes_that_fit(name: str) -> None:
    head = HEADS[name]
    levels = [laid_out(level, head.layout) for level in raw_levels(head)]
    head.check([tensor(1, *level.shape) for level in levels], CLASSES, SIZE)
    head.check([tensor(*[-1] * (level.ndim + 1)) for level in levels], CLASSES, SIZE)


@pytest.mark.parametrize(
    ("name", "shapes", "classes", "message"),
    [
        (
            "v2",
            [(1, 425, 2, 3)],
            20,
            r"125 = 5 x \(4 box \+ 1 objectness \+ 20 class scores\) for 20 class names .* 425",
        ),
        (
            "v5",
            [(1, 3, 8, 12, 85), (1, 3, 4, 6, 85)],
            4,
            r"9 = 4 box \+ 1 objectness \+ 4 class scores .* axis 4 .* 85",
        ),
        ("v5", [(1, 4, 8, 12, 9), (1, 3, 4, 6, 9)], 4, r"3 anchors on axis 1 .* got 4"),
        ("v5", [(1, 27, 8, 12), (1, 27, 4, 6)], 4, r"5 axes \(batch, anchors, rows, columns, channels\)"),
        ("v3", [(1, 27, 4, 6), (1, 27, 8, 12)], 4, r"8 rows of cells on axis 2 .* got 4"),
        ("v3", [(1, 27, 8, 8), (1, 27, 4, 4)], 4, r"12 columns of cells on axis 3 .* got 8"),
        ("v3", [(1, 27, 8, 12)], 4, r"2 outputs \(level of stride 8, level of stride 16\), got 1"),
    ],
)
def test_check_refuses(name: str, shapes: list[tuple[int, ...]], classes: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        HEADS[name].check([tensor(*shape) for shape in shapes], classes, SIZE)


@pytest.mark.parametrize("name", HEADS)
def test_spec_round_trip(name: str) -> None:
    assert head_from_spec(HEADS[name].spec()) == HEADS[name]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strides": ()}, r"head\.strides"),
        ({"anchors": V3_ANCHORS[:1]}, r"head\.anchors for each of the 2"),
        ({"anchors": (V3_ANCHORS[0], ())}, r"head\.anchors for each of the 2"),
        ({"scale_xy": (1.1,)}, r"head\.scale_xy"),
        ({"scale_xy": (1.1, 1.1), "box_decode": "sigmoid_squared"}, r"head\.scale_xy"),
    ],
)
def test_parameters_that_contradict_each_other(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AnchorGrid(**{"anchors": V3_ANCHORS, "strides": (8, 16), **parameters})
