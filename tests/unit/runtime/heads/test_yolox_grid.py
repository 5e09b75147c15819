"""YoloxGrid against a plain loop over the cells and against YOLOX's own decode."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, file_outputs, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.yolox_grid import YoloxGrid
from edgedet.runtime.selection import Selection

SIZE = (96, 64)
LOCATIONS = 12 * 8 + 6 * 4 + 3 * 2


def raw_output(classes: int = 5, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.normal(0, 1, (LOCATIONS, 4)), rng.random((LOCATIONS, 1 + classes))], axis=1, dtype=np.float32
    )


def plain_decode(output: npt.NDArray[Any], confidence: float, *, activated: bool, multi_label: bool) -> list[Row]:
    """Cell by cell, from the paper."""
    rows: list[Row] = []
    values = iter(output.tolist())
    for stride in (8, 16, 32):
        for row in range(SIZE[1] // stride):
            for column in range(SIZE[0] // stride):
                tx, ty, tw, th, *scores = next(values)
                if not activated:
                    scores = [1 / (1 + math.exp(-score)) for score in scores]
                cx, cy = (tx + column) * stride, (ty + row) * stride
                w, h = math.exp(tw) * stride, math.exp(th) * stride
                products = [(scores[0] * score, class_id) for class_id, score in enumerate(scores[1:])]
                passing = [pair for pair in products if pair[0] >= confidence]
                for score, class_id in passing if multi_label else sorted(passing)[-1:]:
                    rows.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id))
    assert next(values, None) is None
    return rows


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("confidence", [0.0, 0.3, 0.7])
def test_is_the_plain_loop(confidence: float, multi_label: bool, activated: bool) -> None:
    output = raw_output()
    if not activated:
        output[:, 4:] = output[:, 4:] * 8 - 4
    found = YoloxGrid(activated=activated).decode([output], SIZE, Selection(confidence, multi_label=multi_label))
    assert_same_candidates(found, plain_decode(output, confidence, activated=activated, multi_label=multi_label))


def test_agrees_with_the_decode_of_yolox() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    yolo_head = pytest.importorskip("yolox.models.yolo_head")
    output = raw_output(classes=1, seed=4)
    output[:, 4:] = 1
    levels = SimpleNamespace(hw=[(8, 12), (4, 6), (2, 3)], strides=[8, 16, 32])
    expected = yolo_head.YoloxHead.decode_outputs(levels, torch.from_numpy(output.copy())[None], "torch.FloatTensor")[0]
    found = YoloxGrid().decode([output], SIZE, Selection(0.5))
    center, size = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2, found.xyxy[:, 2:] - found.xyxy[:, :2]
    np.testing.assert_allclose(np.concatenate([center, size], axis=1), expected[:, :4].numpy(), atol=1e-3)


def test_nan_never_passes_and_overflow_is_quiet() -> None:
    output = np.zeros((LOCATIONS, 7), np.float32)
    output[3] = [0, 0, 500, 0, 0.9, 0.9, 0.1]
    output[4] = [0, 0, 0, 0, np.nan, 0.9, 0.1]
    output[5] = [0, 0, 0, 0, 0.9, np.nan, 0.8]
    found = YoloxGrid().decode([output], SIZE, Selection(0.5))
    assert found.class_id.tolist() == [0, 1]
    assert not np.isfinite(found.xyxy[0]).all()


def test_class_filter() -> None:
    output = raw_output()
    found = YoloxGrid().decode([output], SIZE, Selection(0.3, class_ids=(2,)))
    everything = plain_decode(output, 0.3, activated=True, multi_label=True)
    assert_same_candidates(found, [row for row in everything if row[5] == 2])


def test_check_takes_the_shapes_that_fit() -> None:
    YoloxGrid().check([tensor(1, 3549, 85)], 80, (416, 416))
    YoloxGrid().check([tensor(-1, -1, 85)], 80, (416, 416))
    YoloxGrid().check([tensor(1, 52 * 40 + 26 * 20 + 13 * 10, 6)], 1, (416, 320))


@pytest.mark.parametrize(
    ("shapes", "classes", "message"),
    [
        ([(1, 3549, 85)], 3, r"8 = 4 box \+ 1 objectness \+ 3 class scores for 3 class names on axis 2 .* got 85"),
        ([(1, 8400, 85)], 80, r"3549 locations for an input of 416x416 at strides 8, 16, 32 on axis 1 .* got 8400"),
        ([(1, 85, 52, 52)], 80, r"3 axes \(batch, locations, channels\)"),
        ([(1, 3549, 85)] * 2, 80, r"1 output .* got 2"),
    ],
)
def test_check_refuses(shapes: list[tuple[int, ...]], classes: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        YoloxGrid().check([tensor(*shape) for shape in shapes], classes, (416, 416))


def test_spec_round_trip_and_bad_strides() -> None:
    head = YoloxGrid(strides=(16, 32), activated=False)
    assert head_from_spec(head.spec()) == head
    with pytest.raises(SpecError, match=r"head\.strides"):
        YoloxGrid(strides=())


def test_fits_the_real_file(shared: Path) -> None:
    outputs = file_outputs(shared / "models/yolox_nano_416.onnx")
    YoloxGrid().check(list(outputs.values()), 80, (416, 416))
