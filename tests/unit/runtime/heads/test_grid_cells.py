"""The grid of the first YOLO against a plain loop over the cells."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.grid_cells import GridCells
from edgedet.runtime.selection import Selection

SIZE = (320, 200)
COLUMNS, ROWS = 5, 4
CLASSES = 3

HEADS = [
    GridCells(),
    GridCells("NCHW", "wh"),
    GridCells(size_activation="exp", center_activation="sigmoid", objectness_activation="sigmoid"),
    GridCells("NCHW", size_activation="exp", class_activation="softmax", objectness_activation="sigmoid"),
    GridCells(size_order="wh", size_unit="input", size_activation="square", class_activation="sigmoid"),
]


def raw_output(head: GridCells, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    grid = rng.normal(0, 1.5, (ROWS, COLUMNS, 5 + CLASSES))
    if head.objectness_activation == "none":
        grid[..., 0] = rng.random((ROWS, COLUMNS))
    if head.center_activation == "none":
        grid[..., 1:3] = rng.random((ROWS, COLUMNS, 2))
    if head.size_activation != "exp":
        grid[..., 3:5] = rng.uniform(0, 2.5, (ROWS, COLUMNS, 2))
    if head.class_activation == "none":
        grid[..., 5:] = rng.random((ROWS, COLUMNS, CLASSES))
    grid = grid.astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(grid, -1, 0)) if head.layout == "NCHW" else grid


def s(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def plain_decode(head: GridCells, output: npt.NDArray[np.float32], selection: Selection) -> list[Row]:
    """Cell by cell: b_x and b_y count from the cell's corner, sizes are in cells (or parts of the input)."""
    rows: list[Row] = []
    cell_w, cell_h = SIZE[0] / COLUMNS, SIZE[1] / ROWS
    for row in range(ROWS):
        for column in range(COLUMNS):
            values = (output[:, row, column] if head.layout == "NCHW" else output[row, column]).tolist()
            p_c, b_x, b_y, first, second, *classes = values
            if head.objectness_activation == "sigmoid":
                p_c = s(p_c)
            if head.center_activation == "sigmoid":
                b_x, b_y = s(b_x), s(b_y)
            b_h, b_w = (first, second) if head.size_order == "hw" else (second, first)
            if head.size_activation == "exp":
                b_w, b_h = math.exp(b_w), math.exp(b_h)
            elif head.size_activation == "square":
                b_w, b_h = b_w**2, b_h**2
            w, h = (b_w * cell_w, b_h * cell_h) if head.size_unit == "cell" else (b_w * SIZE[0], b_h * SIZE[1])
            if head.class_activation == "sigmoid":
                classes = [s(value) for value in classes]
            elif head.class_activation == "softmax":
                total = sum(map(math.exp, classes))
                classes = [math.exp(value) / total for value in classes]
            cx, cy = (column + b_x) * cell_w, (row + b_y) * cell_h
            passing = [
                (p_c * p, class_id)
                for class_id, p in enumerate(classes)
                if p_c * p >= selection.confidence and (selection.class_ids is None or class_id in selection.class_ids)
            ]
            for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
                rows.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id))
    return rows


@pytest.mark.parametrize(
    "selection", [Selection(0.3), Selection(0.2, multi_label=True), Selection(0.1, class_ids=(0, 2)), Selection(0.0)]
)
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_is_the_plain_loop(head: GridCells, selection: Selection) -> None:
    output = raw_output(head)
    assert_same_candidates(head.decode([output], SIZE, selection), plain_decode(head, output, selection))


def test_the_lecture_s_example() -> None:
    """A 3 x 3 grid on 300 x 300 pixels: centre at .4, .3 of the right cell of the middle row, .9 high and 1.5 wide."""
    grid = np.zeros((3, 3, 8), np.float32)
    grid[1, 2] = [1, 0.4, 0.3, 0.9, 1.5, 0, 1, 0]
    found = GridCells().decode([grid], (300, 300), Selection(0.5))
    np.testing.assert_allclose(found.xyxy, [[165, 85, 315, 175]], rtol=1e-6)
    assert (found.class_id.tolist(), found.score.tolist()) == ([1], [1.0])


def test_nan_never_passes() -> None:
    grid = np.full((2, 2, 7), 0.9, np.float32)
    grid[0, 0, 0] = np.nan
    grid[0, 1, 5] = np.nan
    grid[1, 0, 5:] = np.nan
    found = GridCells().decode([grid], (32, 32), Selection(0.5))
    assert found.class_id.tolist() == [1, 0]


def test_check_takes_the_shapes_that_fit() -> None:
    GridCells().check([tensor(1, 7, 7, 25)], 20, (448, 448))
    GridCells("NCHW").check([tensor(-1, 25, -1, -1)], 20, (448, 448))


@pytest.mark.parametrize(
    ("head", "shape", "message"),
    [
        (GridCells(), (1, 25, 7, 7), r"25 = 1 p_c \+ 4 box \+ 20 class scores for 20 class names .* got 7"),
        (GridCells("NCHW"), (1, 30, 7, 7), r"25 = 1 p_c \+ 4 box \+ 20 class scores .* got 30"),
        (GridCells(), (1, 49, 25), r"4 axes \(batch, rows, columns, channels\)"),
        (GridCells(), (1, 900, 7, 25), "at most one cell a pixel of the 448x448 input .* got 7x900 cells"),
    ],
)
def test_check_refuses(head: GridCells, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check([tensor(*shape)], 20, (448, 448))


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_spec_round_trip(head: GridCells) -> None:
    assert head_from_spec(head.spec()) == head
