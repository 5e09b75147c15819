"""Queries against the post-processing of transformers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.queries import Queries
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

SIZE = (640, 480)
DETR = Queries(activation="softmax", no_object=True)
RT_DETR = Queries(activation="sigmoid", no_object=False)
SEGM = Queries(activation="softmax", no_object=True, mask_logits=True)


def raw_outputs(queries: int = 60, columns: int = 12, seed: int = 0) -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(0.2, 0.8, (queries, 2)), rng.uniform(0.02, 0.4, (queries, 2))], axis=1)
    return [rng.normal(-1, 3, (queries, columns)).astype(np.float32), boxes.astype(np.float32)]


def transformers_rows(processor: str, outputs: list[npt.NDArray[Any]], threshold: float) -> list[Row]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    transformers = pytest.importorskip("transformers")
    logits, boxes = (torch.from_numpy(output)[None] for output in outputs)
    answer = SimpleNamespace(logits=logits, pred_boxes=boxes)
    (result,) = getattr(transformers, processor)().post_process_object_detection(
        answer, threshold=threshold, target_sizes=[(SIZE[1], SIZE[0])]
    )
    return [
        (*box, score, label)
        for box, score, label in zip(
            result["boxes"].tolist(), result["scores"].tolist(), result["labels"].tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7])
def test_softmax_agrees_with_detr_of_transformers(threshold: float) -> None:
    outputs = raw_outputs()
    expected = transformers_rows("DetrImageProcessor", outputs, threshold)
    assert_same_candidates(DETR.decode(outputs, SIZE, Selection(threshold)), expected)


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_sigmoid_agrees_with_rtdetr_of_transformers(threshold: float) -> None:
    """Theirs first takes as many pairs as there are queries, the best ones; here fewer than that pass."""
    outputs = raw_outputs(queries=150, columns=3, seed=1)
    outputs[0] -= 2
    expected = transformers_rows("RTDetrImageProcessor", outputs, threshold)
    assert len(expected) < 150
    assert_same_candidates(RT_DETR.decode(outputs, SIZE, Selection(threshold)), expected)


def plain_decode(head: Queries, outputs: list[npt.NDArray[Any]], selection: Selection) -> list[Row]:
    rows: list[Row] = []
    for raw, values in zip(outputs[0].tolist(), outputs[1].tolist(), strict=True):
        total = sum(math.exp(value) for value in raw)
        softmax = head.activation == "softmax"
        scores = [math.exp(value) / total if softmax else 1 / (1 + math.exp(-value)) for value in raw]
        if head.no_object:
            scores.pop()
        a, b, c, d = (value * SIZE[axis % 2] if head.normalized else value for axis, value in enumerate(values))
        box = (a, b, c, d) if head.box_format == "xyxy" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
        wanted = range(len(scores)) if selection.class_ids is None else selection.class_ids
        passing = [(scores[class_id], class_id) for class_id in wanted if scores[class_id] >= selection.confidence]
        for score, class_id in sorted(passing)[-1:] if softmax else passing:
            rows.append((*box, score, class_id))
    return rows


@pytest.mark.parametrize(
    "selection",
    [Selection(0.3), Selection(0.3, multi_label=True), Selection(0.1, class_ids=(1, 4)), Selection(0.0)],
    ids=str,
)
@pytest.mark.parametrize(
    "head",
    [
        DETR,
        RT_DETR,
        Queries(activation="softmax", no_object=False, box_format="xyxy"),
        Queries(activation="sigmoid", no_object=True, normalized=False),
    ],
    ids=str,
)
def test_is_the_plain_loop(head: Queries, selection: Selection) -> None:
    outputs = raw_outputs()
    assert_same_candidates(head.decode(outputs, SIZE, selection), plain_decode(head, outputs, selection))


@pytest.mark.parametrize("head", [DETR, RT_DETR], ids=str)
def test_nan_never_passes(head: Queries) -> None:
    logits = np.float32([[np.nan] * 3, [9, -9, -9]])
    assert head.decode([logits, np.full((2, 4), 0.5)], SIZE, Selection(0.1)).class_id.tolist() == [0]


@pytest.mark.parametrize("picture", [(640, 480), (123, 77)])
def test_masks_are_rfdetrs_inside_the_boxes(picture: tuple[int, int]) -> None:
    """RF-DETR's PostProcess: logits interpolated to the picture, set above 0; here cut off at each box."""
    torch = pytest.importorskip("torch")
    head = Queries(activation="sigmoid", no_object=False, mask_logits=True)
    logits, boxes = raw_outputs(queries=12)
    random = np.random.default_rng(3)
    maps = random.normal(0.3, 1, (12, 5, 6)).repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    outputs = [logits, boxes, maps]
    candidates = head.decode(outputs, SIZE, Selection(0.7))
    assert candidates.location is not None and len(candidates) > 5
    width, height = picture
    placement = Placement(width, height, 0, 0, *SIZE)
    xyxy = placement.to_source(candidates.xyxy)
    masks = head.masks(outputs, candidates.location, xyxy, placement, SIZE)
    assert masks is not None
    whole = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size=(height, width), mode="bilinear")[0] > 0
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    for bitmap, query, (left, top, right, bottom) in zip(
        masks.bitmaps(), candidates.location.tolist(), xyxy.tolist(), strict=True
    ):
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        assert bitmap.any()
        assert (bitmap != (whole[query].numpy() & inside)).sum() <= 1  # a mixture within rounding of 0
    assert head.masks(outputs[:2], candidates.location, xyxy, placement, SIZE) is None


def test_no_nms_is_needed() -> None:
    assert not DETR.needs_nms


def test_check_takes_the_shapes_that_fit() -> None:
    DETR.check([tensor(1, 100, 92), tensor(1, 100, 4)], 91, SIZE)
    SEGM.check([tensor(1, 100, 92), tensor(1, 100, 4), tensor(1, 100, 25, 25)], 91, SIZE)
    SEGM.check([tensor(1, 100, 92), tensor(1, 100, 4)], 91, SIZE)
    RT_DETR.check([tensor(-1, 300, 80), tensor(-1, -1, 4)], 80, SIZE)
    RT_DETR.check([tensor(-1, -1, -1), tensor(-1, -1, -1)], 80, SIZE)


@pytest.mark.parametrize(
    ("head", "shapes", "message"),
    [
        (DETR, [(1, 100, 91), (1, 100, 4)], r"92 = 1 no object \+ 91 class scores for 91 class names .* got 91"),
        (RT_DETR, [(1, 100, 92), (1, 100, 4)], r"91 = 91 class scores for 91 class names .* got 92"),
        (DETR, [(1, 100, 4), (1, 100, 92)], r"4 box coordinates on axis 2 .* got 92.* logits, then boxes"),
        (DETR, [(1, 100, 92), (1, 300, 4)], r"100 queries as in 'output0' on axis 1 .* got 300"),
        (DETR, [(100, 92), (100, 4)], r"3 axes \(batch, queries, classes\)"),
        (DETR, [(1, 100, 92), (100, 4)], r"3 axes \(batch, queries, box\)"),
        (DETR, [(1, 100, 92)], r"2 outputs \(logits, boxes\), got 1"),
        (DETR, [(1, 100, 92), (1, 100, 4), (1, 100, 25, 25)], r"2 outputs \(logits, boxes\), got 3"),
        (SEGM, [(1, 100, 92), (1, 100, 4), (1, 99, 25, 25)], r"100 queries as in 'output0' on axis 1 .* got 99"),
        (SEGM, [(1, 100, 92), (1, 100, 4), (1, 100, 625)], r"4 axes \(batch, queries, height, width\)"),
    ],
)
def test_check_refuses(head: Queries, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check([tensor(*shape) for shape in shapes], 91, SIZE)


def test_spec_round_trip_needs_the_two_parameters_that_have_no_default() -> None:
    assert head_from_spec(DETR.spec()) == DETR
    with pytest.raises(SpecError, match="activation, no_object"):
        head_from_spec(type(DETR.spec())("queries"))
