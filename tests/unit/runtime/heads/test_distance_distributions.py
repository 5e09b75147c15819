"""DistanceDistributions against a plain loop over grid points, sides and bins."""

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
from edgedet.runtime.heads.distance_distributions import DistanceDistributions
from edgedet.runtime.selection import Selection

SIZE = (72, 56)
"""No multiple of 16: levels are rounded up."""

CLASSES = 5


def raw_levels(strides: tuple[int, ...], bins: int) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Return scores (N, C) and distances (N, 4*bins) of each level."""
    rng = np.random.default_rng(0)
    counts = [math.ceil(SIZE[0] / stride) * math.ceil(SIZE[1] / stride) for stride in strides]
    return [
        (rng.random((n, CLASSES)).astype(np.float32), rng.normal(0, 3, (n, 4 * bins)).astype(np.float32))
        for n in counts
    ]


def plain_decode(head: DistanceDistributions, levels: list[tuple[Any, Any]], selection: Selection) -> list[Row]:
    """Point by point, from the Generalized Focal Loss paper."""
    rows: list[Row] = []
    for stride, (all_scores, all_distances) in zip(head.strides, levels, strict=True):
        columns = math.ceil(SIZE[0] / stride)
        for index, (raw, distances) in enumerate(zip(all_scores.tolist(), all_distances.tolist(), strict=True)):
            x = (index % columns + head.cell_offset) * stride
            y = (index // columns + head.cell_offset) * stride
            sides = []
            for side in range(4):
                powers = [math.exp(value) for value in distances[side * head.bins : (side + 1) * head.bins]]
                sides.append(stride * sum(k * power for k, power in enumerate(powers)) / sum(powers))
            scores = raw if head.activated else [1 / (1 + math.exp(-score)) for score in raw]
            wanted = range(CLASSES) if selection.class_ids is None else selection.class_ids
            passing = [(scores[class_id], class_id) for class_id in wanted if scores[class_id] >= selection.confidence]
            for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
                rows.append((x - sides[0], y - sides[1], x + sides[2], y + sides[3], score, class_id))
    return rows


def packed(head: DistanceDistributions, levels: list[tuple[Any, Any]]) -> list[npt.NDArray[np.float32]]:
    if head.packing == "concatenated":
        return [np.concatenate([np.concatenate(level, axis=1) for level in levels])]
    return [level[0] for level in levels] + [level[1] for level in levels]


@pytest.mark.parametrize(
    "selection",
    [Selection(0.8), Selection(0.6, multi_label=True), Selection(0.5, class_ids=(0, 3)), Selection(0.0)],
    ids=str,
)
@pytest.mark.parametrize(
    "head",
    [
        DistanceDistributions(),
        DistanceDistributions(packing="concatenated", cell_offset=0, activated=True),
        DistanceDistributions(strides=(8, 16, 32), bins=17, activated=False),
        DistanceDistributions(strides=(16, 8), packing="concatenated", bins=11, activated=False),
    ],
    ids=str,
)
def test_is_the_plain_loop(head: DistanceDistributions, selection: Selection) -> None:
    levels = raw_levels(head.strides, head.bins)
    if not head.activated:
        levels = [(scores * 8 - 4, distances) for scores, distances in levels]
    found = head.decode(packed(head, levels), SIZE, selection)
    assert_same_candidates(found, plain_decode(head, levels, selection))


def test_nan_never_passes() -> None:
    scores = np.float32([[np.nan, 0.9], [np.nan, 0.1], [0.1, np.nan]])
    head = DistanceDistributions(strides=(8,), bins=2)
    found = head.decode([scores, np.zeros((3, 8), np.float32)], (24, 8), Selection(0.5))
    assert_same_candidates(found, [(0, 0, 8, 8, 0.9, 1)])


PICODET = [(1, n, 80) for n in (2704, 676, 169, 49)] + [(1, n, 32) for n in (2704, 676, 169, 49)]


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        (DistanceDistributions(), PICODET),
        (DistanceDistributions(), [(-1, -1, -1)] * 8),
        (DistanceDistributions(packing="concatenated"), [(1, 3598, 112)]),
    ],
)
def test_check_takes_the_shapes_that_fit(head: DistanceDistributions, shapes: list[tuple[int, ...]]) -> None:
    head.check([tensor(*shape) for shape in shapes], 80, (416, 416))


@pytest.mark.parametrize(
    ("head", "shapes", "message"),
    [
        (DistanceDistributions(), PICODET[:4], r"8 outputs \(scores of stride 8, .*distances of stride 64\), got 4"),
        (DistanceDistributions(), PICODET[4:] + PICODET[:4], r"80 = 80 class scores for 80 class names .* got 32"),
        (DistanceDistributions(bins=17), PICODET, r"68 distance bins \(4 sides of 17\) on axis 2 .* got 32"),
        (DistanceDistributions(), [PICODET[1], *PICODET[1:]], r"2704 locations for .* 416x416 at stride 8 .* got 676"),
        (DistanceDistributions(), [(1, 80, 52, 52), *PICODET[1:]], r"3 axes \(batch, locations, channels\)"),
        (
            DistanceDistributions(packing="concatenated"),
            [(1, 3598, 84)],
            r"112 = 32 distance bins .* \+ 80 class scores",
        ),
        (DistanceDistributions(packing="concatenated"), [(1, 2125, 112)], r"3598 locations .* strides 8, 16, 32, 64"),
        (DistanceDistributions(packing="concatenated"), [(1, 2125)], r"3 axes"),
        (DistanceDistributions(packing="concatenated"), PICODET, r"1 output .* got 8"),
    ],
)
def test_check_refuses(head: DistanceDistributions, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check([tensor(*shape) for shape in shapes], 80, (416, 416))


def test_spec_round_trip_and_bad_parameters() -> None:
    head = DistanceDistributions(strides=(8, 16), bins=17, packing="concatenated", activated=False, cell_offset=0)
    assert head_from_spec(head.spec()) == head
    with pytest.raises(SpecError, match=r"head\.bins"):
        DistanceDistributions(bins=1)
    with pytest.raises(SpecError, match=r"head\.strides"):
        DistanceDistributions(strides=(0,))


def test_fits_the_real_file(shared: Path) -> None:
    outputs = list(file_outputs(shared / "models/picodet_s_416_coco.onnx").values())
    DistanceDistributions().check(outputs, 80, (416, 416))
