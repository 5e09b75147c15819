"""EndToEnd against a plain loop over the rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, file_outputs, tensor

from edgedet.errors import SpecError
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.preprocess import place
from edgedet.runtime.prototype_masks import prototype_masks
from edgedet.runtime.roi_masks import paste_masks
from edgedet.runtime.selection import Selection

SIZE = (320, 240)
HEADS = {
    "v10": EndToEnd(),
    "segmenter": EndToEnd(mask_coefficients=3),
    "class before score": EndToEnd(columns="xyxy_class_score", normalized=True),
    "separate": EndToEnd(packing="separate"),
    "torchvision": EndToEnd(packing="separate", batch_axis=False, class_offset=-1),
    "mask r-cnn": EndToEnd(packing="separate", batch_axis=False, class_offset=-1, roi_masks=True),
    "masks in batches": EndToEnd(packing="separate", normalized=True, roi_masks=True),
}


def raw_outputs(head: EndToEnd, count: int = 80) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 1 if head.normalized else 240, (count, 4)).astype(np.float32)
    score = rng.random(count).astype(np.float32)
    label = rng.integers(-1, 5, count)
    if head.packing == "separate":
        squares = rng.random((count, *(() if head.batch_axis else (1,)), 28, 28), np.float32)
        return [boxes, score, label, squares] if head.roi_masks else [boxes, score, label]
    pair = [score, label] if head.columns == "xyxy_score_class" else [label, score]
    rows = np.column_stack([boxes, *pair, rng.random((count, head.mask_coefficients))])
    return [rows.astype(np.float32)]


def plain_decode(head: EndToEnd, outputs: list[npt.NDArray[Any]], selection: Selection) -> list[Row]:
    if head.packing == "separate":
        rows = [
            [*box, score, label] for box, score, label in zip(*(output.tolist() for output in outputs[:3]), strict=True)
        ]
    else:
        rows = [row[:6] for row in outputs[0].tolist()]
        if head.columns == "xyxy_class_score":
            rows = [[*row[:4], row[5], row[4]] for row in rows]
    found: list[Row] = []
    for left, top, right, bottom, score, label in rows:
        class_id = int(label) + head.class_offset
        unwanted = selection.class_ids is not None and class_id not in selection.class_ids
        if score >= selection.confidence and class_id >= 0 and not unwanted:
            x, y = SIZE if head.normalized else (1, 1)
            found.append((left * x, top * y, right * x, bottom * y, score, class_id))
    return found


@pytest.mark.parametrize(
    "selection",
    [Selection(0.5), Selection(0.2, class_ids=(1, 3)), Selection(0.0), Selection(0.3, multi_label=True)],
    ids=str,
)
@pytest.mark.parametrize("name", HEADS)
def test_is_the_plain_loop(name: str, selection: Selection) -> None:
    head = HEADS[name]
    outputs = raw_outputs(head)
    assert_same_candidates(head.decode(outputs, SIZE, selection), plain_decode(head, outputs, selection))


@pytest.mark.parametrize("label", [math.nan, math.inf, -math.inf, -1.0])
def test_a_label_that_is_none_never_passes(label: float) -> None:
    rows = np.float32([[0, 0, 9, 9, 0.9, label], [0, 0, 9, 9, math.nan, 1], [0, 0, 9, 9, 0.9, 1]])
    assert_same_candidates(EndToEnd().decode([rows], SIZE, Selection(0.5)), [(0, 0, 9, 9, 0.9, 1)])


def test_half_precision_scores_are_held_against_the_confidence_itself() -> None:
    """0.1 rounded to float16 lies below 0.1: a score of that size is too low."""
    rows = np.array([[0, 0, 9, 9, 0.1, 1], [0, 0, 9, 9, 0.1001, 1]], np.float16)
    assert rows[0, 4] < np.float32(0.1) < rows[1, 4]
    assert len(EndToEnd().decode([rows], SIZE, Selection(0.1))) == 1


def test_nothing_found() -> None:
    outputs = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)]
    assert len(HEADS["torchvision"].decode(outputs, SIZE, Selection())) == 0


@pytest.mark.parametrize("name", ["mask r-cnn", "masks in batches"])
def test_squares_are_pasted_into_their_whole_boxes(name: str) -> None:
    head = HEADS[name]
    outputs = raw_outputs(head, 12)
    outputs[0][:, 2:] += outputs[0][:, :2]  # some reach beyond the picture
    found = head.decode(outputs, SIZE, Selection(0.2))
    at = place(200, 100, InputSpec(*SIZE, pad_position="bottom_right"))
    assert found.location is not None and head.has_masks
    kept = found.location[::-1]
    masks = head.masks(outputs, kept, at.to_source(found.xyxy[::-1]), at, SIZE)
    scale = np.array([200 / at.width, 100 / at.height] * 2, np.float32)
    expected = paste_masks(outputs[3][kept].reshape(-1, 28, 28), found.xyxy[::-1] * scale, 200, 100)
    assert masks is not None
    np.testing.assert_array_equal(masks.bitmaps(), expected.bitmaps())
    assert masks.area.sum() > 0


def test_rows_have_prototypes() -> None:
    head = HEADS["segmenter"]
    rows = raw_outputs(head)[0]
    rows[:, 2:4] += rows[:, :2]
    prototypes = np.random.default_rng(2).normal(size=(3, 60, 80)).astype(np.float32)
    found = head.decode([rows, prototypes], SIZE, Selection(0.5))
    at = place(640, 480, InputSpec(*SIZE))
    assert found.location is not None
    xyxy = at.to_source(found.xyxy)
    masks = head.masks([rows, prototypes], found.location, xyxy, at, SIZE)
    assert masks is not None
    expected = prototype_masks(prototypes, rows[found.location, 6:], xyxy, at, SIZE)
    np.testing.assert_array_equal(masks.bitmaps(), expected.bitmaps())


@pytest.mark.parametrize("name", ["segmenter", "mask r-cnn"])
def test_no_masks_where_their_output_is_left_out(name: str) -> None:
    outputs = raw_outputs(HEADS[name])[:3]
    at = place(64, 48, InputSpec(*SIZE))
    assert HEADS[name].masks(outputs, np.arange(1), np.zeros((1, 4), np.float32), at, SIZE) is None
    assert not HEADS["v10"].has_masks


def test_only_torchvision_has_no_batch_axis_and_none_needs_nms() -> None:
    assert [name for name, head in HEADS.items() if not head.batched] == ["torchvision", "mask r-cnn"]
    assert not EndToEnd.needs_nms


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("v10", [(1, 300, 6)]),
        ("v10", [(-1, -1, -1)]),
        ("segmenter", [(1, 300, 9), (1, 3, 80, 80)]),
        ("segmenter", [(1, 300, 9)]),
        ("separate", [(1, 100, 4), (1, 100), (1, 100)]),
        ("torchvision", [(-1, 4), (-1,), (-1,)]),
        ("mask r-cnn", [(-1, 4), (-1,), (-1,), (-1, 1, 28, 28)]),
        ("mask r-cnn", [(-1, 4), (-1,), (-1,), (-1, -1, -1, -1)]),
        ("mask r-cnn", [(-1, 4), (-1,), (-1,)]),
        ("masks in batches", [(1, 100, 4), (1, 100), (1, 100), (1, 100, 28, 28)]),
    ],
)
def test_check_takes(name: str, shapes: list[tuple[int, ...]]) -> None:
    HEADS[name].check([tensor(*shape) for shape in shapes], 80, SIZE)


@pytest.mark.parametrize(
    ("name", "shapes", "message"),
    [
        ("v10", [(1, 84, 8400)], r"6 = 4 box \+ 1 score \+ 1 class columns on axis 2 .* got 8400"),
        ("segmenter", [(1, 300, 6)], r"9 = 4 box \+ 1 score \+ 1 class \+ 3 mask coefficients columns .* got 6"),
        ("v10", [(300, 6)], r"3 axes \(batch, rows, columns\)"),
        ("v10", [(1, 300, 6)] * 2, r"1 output \(rows\), got 2"),
        ("separate", [(1, 300, 6)], r"3 outputs \(boxes, scores, labels\), got 1"),
        ("separate", [(1, 100), (1, 100, 4), (1, 100)], r"3 axes \(batch, objects, box\)"),
        ("separate", [(1, 100, 5), (1, 100), (1, 100)], r"4 box coordinates on axis 2 .* got 5"),
        ("separate", [(1, 100, 4), (1, 100), (1, 99)], r"100 objects as in 'output0' on axis 1 .* got 99"),
        ("torchvision", [(1, 100, 4), (1, 100), (1, 100)], r"2 axes \(objects, box\)"),
        ("torchvision", [(-1, 4), (-1,), (-1,), (-1, 1, 28, 28)], r"3 outputs \(boxes, scores, labels\), got 4"),
        ("mask r-cnn", [(-1, 4), (-1,), (-1,), (-1, 28)], r"3 axes \(objects, rows, columns\)"),
        ("mask r-cnn", [(-1, 4), (-1,), (-1,), (-1, 91, 28, 28)], r"1 class, each object's own on axis 1 .* got 91"),
        ("masks in batches", [(1, 9, 4), (1, 9), (1, 9), (1, 8, 28, 28)], r"9 objects as in 'output0' on axis 1"),
        ("segmenter", [(1, 300, 9), (1, 4, 80, 80)], r"3 mask prototypes, as many as head.mask_coefficients on axis 1"),
    ],
)
def test_check_refuses(name: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        HEADS[name].check([tensor(*shape) for shape in shapes], 80, SIZE)


@pytest.mark.parametrize("name", HEADS)
def test_spec_round_trip(name: str) -> None:
    assert head_from_spec(HEADS[name].spec()) == HEADS[name]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_axis": False}, "batch axis"),
        ({"mask_coefficients": -1}, "mask_coefficients"),
        ({"packing": "separate", "mask_coefficients": 32}, "mask_coefficients"),
        ({"roi_masks": True}, "roi_masks"),
    ],
)
def test_parameters_that_contradict_each_other(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        EndToEnd(**parameters)


def test_fits_the_real_file(shared: Path) -> None:
    EndToEnd().check(list(file_outputs(shared / "models/centernet_mobilenetv3_512.onnx").values()), 80, (512, 512))
