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
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.selection import Selection

SIZE = (320, 240)
HEADS = {
    "v10": EndToEnd(),
    "segmenter": EndToEnd(mask_coefficients=3),
    "class before score": EndToEnd(columns="xyxy_class_score", normalized=True),
    "separate": EndToEnd(packing="separate"),
    "torchvision": EndToEnd(packing="separate", batch_axis=False, class_offset=-1),
}


def raw_outputs(head: EndToEnd, count: int = 80) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 1 if head.normalized else 240, (count, 4)).astype(np.float32)
    score = rng.random(count).astype(np.float32)
    label = rng.integers(-1, 5, count)
    if head.packing == "separate":
        return [boxes, score, label]
    pair = [score, label] if head.columns == "xyxy_score_class" else [label, score]
    rows = np.column_stack([boxes, *pair, rng.random((count, head.mask_coefficients))])
    return [rows.astype(np.float32)]


def plain_decode(head: EndToEnd, outputs: list[npt.NDArray[Any]], selection: Selection) -> list[Row]:
    if head.packing == "separate":
        rows = [
            [*box, score, label] for box, score, label in zip(*(output.tolist() for output in outputs), strict=True)
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


def test_nothing_found() -> None:
    outputs = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)]
    assert len(HEADS["torchvision"].decode(outputs, SIZE, Selection())) == 0


def test_only_torchvision_has_no_batch_axis_and_none_needs_nms() -> None:
    assert [name for name, head in HEADS.items() if not head.batched] == ["torchvision"]
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
    ],
)
def test_parameters_that_contradict_each_other(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        EndToEnd(**parameters)


def test_fits_the_real_file(shared: Path) -> None:
    EndToEnd().check(list(file_outputs(shared / "models/centernet_mobilenetv3_512.onnx").values()), 80, (512, 512))
