"""Proposal boxes against torchvision's BoxCoder and a loop over the formulas of the papers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.model_spec import HeadSpec, ProposalSpec, TensorSpec
from edgedet.runtime.heads import HEADS, ProposalBoxes, head_from_spec
from edgedet.runtime.heads.proposal_boxes import check_stage
from edgedet.runtime.selection import Selection

SIZE = (320, 240)
CLASSES = 3
REGIONS = 40


def regions_of(random: np.random.Generator, count: int = REGIONS) -> np.ndarray:
    start = random.uniform(0, 150, (count, 2))
    return np.concatenate([start, start + random.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)


def expected_of(
    head: ProposalBoxes, scores: np.ndarray, offsets: np.ndarray | None, regions: np.ndarray, least: float
) -> list[tuple[int, int, float, list[float]]]:
    """Every (region, class) that scores enough, as plain loops: region, class id, score, box."""
    found = []
    for row, (raw, region) in enumerate(zip(scores.astype(float), regions.astype(float), strict=True)):
        values = list(raw)
        if head.activation == "softmax":
            powers = [math.exp(value - max(raw)) for value in raw]
            values = [power / sum(powers) for power in powers]
        elif head.activation == "sigmoid":
            values = [1 / (1 + math.exp(-value)) for value in raw]
        columns = [column for column in range(len(values)) if column != head.background]
        for class_id, column in enumerate(columns):
            if values[column] < least:
                continue
            box = list(region)
            if offsets is not None:
                per_class = offsets.shape[1] // 4
                at = 0 if not head.class_specific else column if per_class == len(values) else class_id
                tx, ty, tw, th = (t * v for t, v in zip(offsets[row, 4 * at :][:4], head.variances, strict=True))
                width, height = region[2] - region[0], region[3] - region[1]
                x, y = region[0] + width / 2 + tx * width, region[1] + height / 2 + ty * height
                width, height = width * math.exp(tw), height * math.exp(th)
                box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            found.append((row, class_id, values[column], box))
    return found


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize(
    ("parameters", "score_columns", "offset_columns"),
    [
        ({}, CLASSES + 1, 4 * CLASSES),
        ({}, CLASSES + 1, 4 * (CLASSES + 1)),
        ({"background": 3}, CLASSES + 1, 4 * (CLASSES + 1)),
        ({"background": 1}, CLASSES + 1, 4 * CLASSES),
        ({"background": 1, "activation": "none"}, CLASSES + 1, 4 * (CLASSES + 1)),
        ({"class_specific": False}, CLASSES + 1, 4),
        ({"activation": "sigmoid", "background": None, "variances": [1, 1, 1, 1]}, CLASSES, 4 * CLASSES),
        ({"activation": "softmax", "background": None, "class_specific": False}, CLASSES, 4),
        ({"activation": "sigmoid", "background": None}, CLASSES, None),
    ],
)
def test_candidates_are_those_of_the_formulas(
    parameters: dict[str, Any], score_columns: int, offset_columns: int | None, multi_label: bool
) -> None:
    random = np.random.default_rng(1)
    head = head_from_spec(HeadSpec("proposal_boxes", parameters))
    assert isinstance(head, ProposalBoxes)
    regions = regions_of(random)
    scores = random.normal(0, 2, (REGIONS, score_columns)).astype(np.float32)
    if head.activation == "none":
        scores = 1 / (1 + np.exp(-scores))
    offsets = None if offset_columns is None else random.normal(0, 0.5, (REGIONS, offset_columns)).astype(np.float32)
    outputs = [value for value in (scores, offsets) if value is not None]
    names = [TensorSpec(f"output{i}", (-1, value.shape[1]), "float32") for i, value in enumerate(outputs)]
    head.check(names, CLASSES, SIZE)

    selection = Selection(confidence=0.3, multi_label=multi_label)
    found = head.decode([*outputs, regions], SIZE, selection)

    wanted = expected_of(head, scores, offsets, regions, 0.3)
    if not multi_label:
        best = {row: max(score for at, _, score, _ in wanted if at == row) for row, *_ in wanted}
        wanted = [item for item in wanted if item[2] == best[item[0]]]
    got = sorted(zip(found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True))
    assert len(got) == len(wanted) > 10
    for one, other in zip(got, sorted((class_id, score, box) for _, class_id, score, box in wanted), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], abs=1e-6)
        np.testing.assert_allclose(one[2], other[2], atol=2e-3)


def test_boxes_are_those_of_torchvision() -> None:
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection._utils")
    random = np.random.default_rng(2)
    regions = regions_of(random)
    offsets = random.normal(0, 2, (REGIONS, 4)).astype(np.float32)
    offsets[:5, 2] = 30
    assert (offsets[:, 2] * 0.2 > math.log(1000 / 16)).sum() == 5
    coder = detection.BoxCoder((10.0, 10.0, 5.0, 5.0))
    wanted = coder.decode(torch.from_numpy(offsets), [torch.from_numpy(regions)])[:, 0].numpy()
    scores = np.tile(np.array([[-9, 9]], np.float32), (REGIONS, 1))
    found = ProposalBoxes(class_specific=False).decode([scores, offsets, regions], SIZE, Selection())
    np.testing.assert_allclose(found.xyxy, wanted, rtol=1e-5, atol=2e-3)


def test_margins_keep_their_order_and_zero_is_a_half() -> None:
    margins = np.array([[-30], [-1], [0], [0.5], [1], [30]], np.float32)
    regions = regions_of(np.random.default_rng(3), len(margins))
    head = ProposalBoxes(activation="sigmoid", background=None)
    score = head.decode([margins, regions], SIZE, Selection(confidence=0)).score
    assert (np.diff(score) > 0).all()
    assert score[2] == 0.5
    assert score.min() >= 0 and score.max() <= 1


def test_only_wanted_classes_and_whatever_is_not_a_number_is_left_out() -> None:
    scores = np.array([[0, 9, 0], [0, 0, 9], [np.nan, np.nan, np.nan]], np.float32)
    regions = regions_of(np.random.default_rng(4), 3)
    found = ProposalBoxes().decode([scores, regions], SIZE, Selection(class_ids=(1,)))
    assert found.class_id.tolist() == [1]
    np.testing.assert_array_equal(found.xyxy, regions[1:2])


def test_no_region_that_passes_is_no_candidate() -> None:
    scores, offsets = np.array([[9, 0, 0]], np.float32), np.zeros((1, 12), np.float32)
    found = ProposalBoxes().decode([scores, offsets, np.zeros((1, 4), np.float32)], SIZE, Selection())
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("parameters", "shapes", "message"),
    [
        ({}, [(-1, 3), (-1, 12)], r"4 = 1 background \+ 3 class scores"),
        ({}, [(-1, 4), (-1, 8)], r"4 offsets for each class on axis 1 .* got 8"),
        ({"background": None}, [(-1, 3), (-1, 16)], r"4 offsets for each class on axis 1"),
        ({"class_specific": False}, [(-1, 4), (-1, 12)], r"4 offsets on axis 1 .*class_specific"),
        ({}, [(1, -1, 4), (-1, 12)], r"2 axes \(regions, classes\)"),
        ({}, [(-1, 4), (-1, 12), (-1, 4)], r"1 to 2 outputs"),
        ({"background": 4}, [(-1, 4), (-1, 12)], r"head\.background in 0\.\.3"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    parameters: dict[str, Any], shapes: list[tuple[int, ...]], message: str
) -> None:
    outputs = [TensorSpec(f"output{index}", shape, "float32") for index, shape in enumerate(shapes)]
    with pytest.raises(SpecError, match=message):
        head_from_spec(HeadSpec("proposal_boxes", parameters)).check(outputs, CLASSES, SIZE)


def test_the_head_and_the_stage_go_together() -> None:
    crops = ProposalSpec("crops")
    check_stage(ProposalBoxes(), crops)
    check_stage(HEADS["fastestdet"](), None)
    with pytest.raises(SpecError, match=r"proposals in the spec .* got none"):
        check_stage(ProposalBoxes(), None)
    with pytest.raises(SpecError, match=r"the head proposal_boxes .* got fastestdet"):
        check_stage(HEADS["fastestdet"](), crops)
