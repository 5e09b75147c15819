"""FastestDet against a plain loop over the cells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, file_outputs, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.fastestdet import FastestDet
from edgedet.runtime.selection import Selection

SIZE = (352, 256)
CELLS = (22, 16)


def raw_output(classes: int = 5) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    shape = CELLS[::-1]
    scores = rng.random((classes, *shape))
    parts = [rng.random((1, *shape)), rng.normal(0, 2, (4, *shape)), scores / scores.sum(axis=0)]
    return np.concatenate(parts).astype(np.float32)


def plain_decode(output: npt.NDArray[np.float32], selection: Selection, powers: tuple[float, float]) -> list[Row]:
    """Cell by cell, as the author's own post-processing does it."""
    rows: list[Row] = []
    for row in range(CELLS[1]):
        for column in range(CELLS[0]):
            objectness, tx, ty, tw, th, *classes = output[:, row, column].tolist()
            cx, cy = (column + math.tanh(tx)) / CELLS[0], (row + math.tanh(ty)) / CELLS[1]
            w, h = 1 / (1 + math.exp(-tw)), 1 / (1 + math.exp(-th))
            box = [(cx - w / 2) * SIZE[0], (cy - h / 2) * SIZE[1], (cx + w / 2) * SIZE[0], (cy + h / 2) * SIZE[1]]
            scores = [(objectness ** powers[0] * p ** powers[1], class_id) for class_id, p in enumerate(classes)]
            passing = [
                pair
                for pair in scores
                if pair[0] >= selection.confidence and (selection.class_ids is None or pair[1] in selection.class_ids)
            ]
            for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
                rows.append((box[0], box[1], box[2], box[3], score, class_id))
    return rows


@pytest.mark.parametrize("powers", [(0.6, 0.4), (1.0, 1.0)])
@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.45),
        Selection(0.45, multi_label=True),
        Selection(0.3, class_ids=(1, 4)),
        Selection(0.0),
    ],
    ids=str,
)
def test_is_the_plain_loop(selection: Selection, powers: tuple[float, float]) -> None:
    output = raw_output()
    if powers == (1.0, 1.0):
        output[5:] = output[5:] ** 0.3
    found = FastestDet(*powers).decode([output], SIZE, selection)
    assert_same_candidates(found, plain_decode(output, selection, powers))


def test_nan_and_negative_scores_never_pass() -> None:
    output = np.zeros((7, 2, 2), np.float32)
    output[0] = 0.9
    output[5:, 0, 0] = [np.nan, 0.9]
    output[5:, 0, 1] = [np.nan, -0.1]
    output[5:, 1, 0] = [0.9, 0.1]
    output[0, 1, 0] = np.nan
    found = FastestDet().decode([output], (32, 32), Selection(0.5))
    assert found.class_id.tolist() == [1]


def test_check_takes_the_shapes_that_fit() -> None:
    FastestDet().check([tensor(1, 85, 22, 22)], 80, (352, 352))
    FastestDet().check([tensor(-1, 85, -1, -1)], 80, (352, 352))
    FastestDet().check([tensor(1, 6, 16, 22)], 1, SIZE)


@pytest.mark.parametrize(
    ("shapes", "classes", "message"),
    [
        ([(1, 85, 22, 22)], 20, r"25 = 1 objectness \+ 4 box \+ 20 class scores for 20 class names .* got 85"),
        ([(1, 85, 22, 30)], 80, r"proportions of the 352x352 input, got 30x22 cells"),
        ([(1, 85, 484)], 80, r"4 axes \(batch, channels, rows, columns\)"),
        ([(1, 85, 22, 22), (1, 85, 11, 11)], 80, r"1 output \(feature map\), got 2"),
    ],
)
def test_check_refuses(shapes: list[tuple[int, ...]], classes: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        FastestDet().check([tensor(*shape) for shape in shapes], classes, (352, 352))


def test_spec_round_trip_and_bad_power() -> None:
    head = FastestDet(objectness_power=0.5)
    assert head_from_spec(head.spec()) == head
    with pytest.raises(SpecError, match="class_power"):
        FastestDet(class_power=0)


def test_fits_the_real_file(shared: Path) -> None:
    FastestDet().check(list(file_outputs(shared / "models/FastestDet.onnx").values()), 80, (352, 352))
