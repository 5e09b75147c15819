"""The single-object localiser against the formula of the lecture, and at the end of a real export."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.localizer import Localizer
from edgedet.runtime.selection import Selection

SIZE = (320, 200)
CLASSES = 4


def plain_activation(values: list[float], kind: str) -> list[float]:
    if kind == "sigmoid":
        return [1 / (1 + math.exp(-value)) for value in values]
    if kind == "softmax":
        total = sum(map(math.exp, values))
        return [math.exp(value) / total for value in values]
    return values


def plain_decode(
    head: Localizer, classes: list[float], box: list[float], p_c: float, selection: Selection
) -> list[Row]:
    """Number by number, as the lecture writes y = [p_c, b_x, b_y, b_h, b_w, c_1, ..., c_n]."""
    if head.box_format == "xyxy":
        left, top, right, bottom = box
    else:
        cx, cy, first, second = box
        w, h = (first, second) if head.box_format == "cxcywh" else (second, first)
        left, top, right, bottom = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    if head.normalized:
        left, top, right, bottom = left * SIZE[0], top * SIZE[1], right * SIZE[0], bottom * SIZE[1]
    scores = plain_activation(classes, head.class_activation)
    if head.background is not None:
        del scores[head.background]
    if head.objectness:
        p_c = plain_activation([p_c], head.objectness_activation)[0]
        scores = [p_c * score for score in scores]
    passing = [
        (score, class_id)
        for class_id, score in enumerate(scores)
        if score >= selection.confidence and (selection.class_ids is None or class_id in selection.class_ids)
    ]
    chosen = passing if selection.multi_label else sorted(passing)[-1:]
    return [(left, top, right, bottom, score, class_id) for score, class_id in chosen]


HEADS = [
    Localizer(class_activation="softmax"),
    Localizer(class_activation="softmax", background=0),
    Localizer(class_activation="sigmoid", background=CLASSES, box_format="cxcywh"),
    Localizer(objectness=True, objectness_activation="sigmoid", class_activation="softmax", normalized=False),
    Localizer("vector", "cxcyhw", objectness=True),
    Localizer("vector", "cxcyhw", objectness=True, objectness_activation="sigmoid", class_activation="sigmoid"),
    Localizer("vector", "cxcywh", class_activation="softmax"),
]


def raw(head: Localizer, seed: int) -> tuple[list[npt.NDArray[np.float32]], tuple[list[float], list[float], float]]:
    """Random raw outputs that fit a head, and the same numbers one by one."""
    rng = np.random.default_rng(seed)
    count = CLASSES + (head.background is not None)
    classes = rng.normal(0, 2, count) if head.class_activation != "none" else rng.random(count)
    box = np.array([0.2, 0.3, 0.6, 0.9]) * (np.array(SIZE * 2) if not head.normalized else 1) + rng.normal(0, 0.02, 4)
    p_c = rng.normal(2, 1) if head.objectness_activation == "sigmoid" else rng.random()
    classes, box = classes.astype(np.float32), box.astype(np.float32)
    if head.layout == "vector":
        outputs = [np.concatenate([[p_c] if head.objectness else [], box, classes]).astype(np.float32)]
    else:
        outputs = [classes, box, *([np.array([p_c], np.float32)] if head.objectness else [])]
    return outputs, (classes.tolist(), box.tolist(), float(p_c))


@pytest.mark.parametrize(
    "selection", [Selection(0.0), Selection(0.0, multi_label=True), Selection(0.0, class_ids=(1, 2))]
)
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_is_the_plain_formula(head: Localizer, selection: Selection) -> None:
    for seed in range(5):
        outputs, plain = raw(head, seed)
        assert_same_candidates(head.decode(outputs, SIZE, selection), plain_decode(head, *plain, selection))


def test_what_scores_too_low_is_no_answer() -> None:
    head = Localizer("vector", "cxcyhw", objectness=True)
    output = np.array([0.4, 0.5, 0.5, 0.2, 0.4, 0.1, 0.9, 0.0], np.float32)
    found = head.decode([output], (100, 100), Selection(0.35))
    np.testing.assert_allclose(found.xyxy, [[30, 40, 70, 60]], rtol=1e-5)
    assert found.class_id.tolist() == [1]
    assert len(head.decode([output], (100, 100), Selection(0.37))) == 0
    output[0] = np.nan
    assert len(head.decode([output], (100, 100), Selection(0.0))) == 0


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        (Localizer(), [(1, 3), (1, 4)]),
        (Localizer(background=3), [(-1, 4), (-1, 4)]),
        (Localizer(objectness=True), [(1, 3), (1, 4), (1, 1)]),
        (Localizer(objectness=True), [(1, 3), (1, 4), (1,)]),
        (Localizer("vector", objectness=True), [(1, 8)]),
        (Localizer("vector"), [(1, 7)]),
    ],
)
def test_check_takes_the_shapes_that_fit(head: Localizer, shapes: list[tuple[int, ...]]) -> None:
    head.check([tensor(*shape) for shape in shapes], 3, SIZE)


@pytest.mark.parametrize(
    ("head", "shapes", "message"),
    [
        (Localizer("vector", objectness=True), [(1, 9)], r"8 = 1 p_c \+ 4 box \+ 3 class scores .* got 9"),
        (Localizer(background=0), [(1, 3), (1, 4)], r"4 = 1 no object \+ 3 class scores .* got 3"),
        (Localizer(), [(1, 4), (1, 3)], "3 class scores"),
        (Localizer(), [(1, 3), (1, 5)], "4 box values"),
        (Localizer(objectness=True), [(1, 3), (1, 4)], r"3 outputs \(class scores, box, p_c\), got 2"),
        (Localizer(objectness=True), [(1, 3), (1, 4), (1, 2)], "one p_c"),
        (Localizer(background=4), [(1, 4), (1, 4)], r"head\.background in 0\.\.3"),
        (Localizer("vector"), [(1, 7, 1)], "2 axes"),
    ],
)
def test_check_refuses(head: Localizer, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check([tensor(*shape) for shape in shapes], 3, SIZE)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_spec_round_trip(head: Localizer) -> None:
    assert head_from_spec(head.spec()) == head


def test_an_activation_without_what_it_activates_is_refused() -> None:
    with pytest.raises(SpecError, match=r"head\.objectness"):
        Localizer(objectness_activation="sigmoid")
