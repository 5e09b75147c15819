"""Query masks: by hand, against the papers' procedures written plainly, and against transformers' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads import QueryMasks
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

NAMES = ("sky", "road", "car", "person")
SKY, ROAD, CAR, PERSON = range(4)
NOTHING = len(NAMES)
WEIGHTED = QueryMasks(thing_classes=(CAR, PERSON))
SOFTMAX = QueryMasks(thing_classes=(CAR, PERSON), assignment="softmax", score_threshold=0.85, smallest_area=4)


def class_logits(*answers: tuple[int, float]) -> np.ndarray:
    """Logits of queries that answer with a class and its probability, the rest shared by the others."""
    rows = []
    for class_id, score in answers:
        rest = (1 - score) / NOTHING
        row = np.full(NOTHING + 1, np.log(rest), np.float32)
        row[class_id] = np.log(score)
        rows.append(row)
    return np.array(rows, np.float32)


def columns(first: int, last: int, *, inside: float = 6, outside: float = -6) -> np.ndarray:
    """A mask of some of ten columns, four rows high."""
    mask = np.full((4, 10), outside, np.float32)
    mask[:, first:last] = inside
    return mask


def decode(
    head: QueryMasks, logits: np.ndarray, masks: list[np.ndarray], selection: Selection | None = None
) -> PanopticMap:
    height, width = masks[0].shape
    placement = Placement(width, height, 0, 0, width, height)
    return head.decode_map([logits, np.stack(masks)], placement, (width, height), selection or Selection(), NAMES)


def table(found: PanopticMap) -> list[tuple[str, bool, int]]:
    assert [item.id for item in found.segments] == list(range(1, len(found.segments) + 1))
    assert [item.area for item in found.segments] == [int(found.mask(item).sum()) for item in found.segments]
    return [(NAMES[item.class_id], item.is_thing, item.area) for item in found.segments]


@pytest.mark.parametrize("head", [WEIGHTED, SOFTMAX], ids=["weighted", "softmax"])
def test_segments_of_a_small_picture(head: QueryMasks) -> None:
    logits = class_logits((SKY, 0.95), (CAR, 0.9), (CAR, 0.95), (SKY, 0.9), (PERSON, 0.5), (NOTHING, 0.99))
    masks = [columns(0, 2), columns(2, 4), columns(4, 7), columns(7, 10), columns(0, 10), columns(0, 10, inside=20)]
    found = decode(head, logits, masks)
    # Two cars, one sky of two queries; a low score and an answer of nothing take no part.
    assert table(found) == [("sky", False, 20), ("car", True, 8), ("car", True, 12)]
    assert [item.score for item in found.segments] == pytest.approx([0.95, 0.9, 0.95], abs=1e-6)
    assert found.segment_id.dtype == np.int32
    assert found.segment_id[0].tolist() == [1, 1, 2, 2, 3, 3, 3, 1, 1, 1]


@pytest.mark.parametrize(
    ("head", "classes"),
    [
        # The second car shows 3 of its 4 columns: .75 of its mask.
        (WEIGHTED, [("car", True, 16)]),
        (replace(WEIGHTED, overlap_threshold=0.75), [("car", True, 16), ("car", True, 12)]),
        (SOFTMAX, [("car", True, 16), ("car", True, 12)]),
    ],
    ids=["weighted", "laxer", "softmax"],
)
def test_a_hidden_mask_is_dropped(head: QueryMasks, classes: list[tuple[str, bool, int]]) -> None:
    masks = [columns(0, 4, inside=9), columns(3, 7)]
    found = decode(head, class_logits((CAR, 0.95), (CAR, 0.9)), masks)
    assert [row for row in table(found) if row[2] <= 16][: len(classes)][0][0] == "car"
    if head.assignment == "weighted":
        assert table(found) == classes
        assert (found.segment_id[:, 7:] == 0).all()
    else:
        # Nothing bounds a softmax: the pixels outside of all masks go to the least unlikely one.
        assert sum(row[2] for row in table(found)) == 40


def test_a_small_segment_of_detr_leaves_its_pixels_to_the_others() -> None:
    speck = np.full((4, 10), -9, np.float32)
    speck[1, 1:5] = 9
    found = decode(SOFTMAX, class_logits((CAR, 0.9), (PERSON, 0.9)), [columns(0, 10), speck])
    assert table(found) == [("car", True, 40)]
    speck[2, 1] = 9
    found = decode(SOFTMAX, class_logits((CAR, 0.9), (PERSON, 0.9)), [columns(0, 10), speck])
    assert table(found) == [("car", True, 35), ("person", True, 5)]


def test_small_stuff_of_one_class_counts_as_one() -> None:
    parts = [np.full((4, 10), -9, np.float32) for _ in range(2)]
    parts[0][0, 0:3] = parts[1][3, 0:3] = 9
    found = decode(SOFTMAX, class_logits((ROAD, 0.9), (SKY, 0.9), (SKY, 0.9)), [columns(0, 10), *parts])
    assert table(found) == [("road", False, 34), ("sky", False, 6)]


@pytest.mark.parametrize(
    ("confidence", "count"), [(0.0, 2), (0.25, 2), (0.88, 1), (0.97, 0)], ids=["none", "default", "higher", "highest"]
)
def test_the_confidence_only_raises_the_heads_own(confidence: float, count: int) -> None:
    logits = class_logits((CAR, 0.85), (CAR, 0.95), (PERSON, 0.7))
    masks = [columns(0, 3), columns(3, 6), columns(6, 10)]
    assert len(decode(WEIGHTED, logits, masks, Selection(confidence=confidence)).segments) == count


def test_classes_that_are_not_wanted_leave_their_place_empty() -> None:
    logits = class_logits((CAR, 0.95), (PERSON, 0.95), (SKY, 0.9))
    masks = [columns(0, 4, inside=3), columns(2, 6, inside=9), columns(6, 10)]
    head = replace(WEIGHTED, overlap_threshold=0.4)
    everything = decode(head, logits, masks)
    found = decode(head, logits, masks, Selection(class_ids=(CAR, SKY)))
    assert table(found) == [("car", True, 8), ("sky", False, 16)]
    assert (found.mask(found.segments[0]) == everything.mask(everything.segments[0])).all()


def test_nothing_found() -> None:
    found = decode(WEIGHTED, class_logits((NOTHING, 0.9)), [columns(0, 10)])
    assert found.segments == ()
    assert not found.segment_id.any()


def test_broken_numbers_take_no_part() -> None:
    logits = class_logits((CAR, 0.95), (PERSON, 0.95), (SKY, 0.9))
    logits[1] = np.nan
    found = decode(WEIGHTED, logits, [columns(0, 5), columns(0, 10), np.full((4, 10), np.nan, np.float32)])
    assert table(found) == [("car", True, 20)]


def rounded_scene(seed: int, scores: tuple[float, ...] = (0.6, 0.9, 0.95, 0.99)) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping round masks of random classes and scores, (Q, C+1) and (Q, 40, 40) logits."""
    random, queries = np.random.default_rng(seed), 12
    answers = [
        (int(random.integers(NOTHING + 1)), float(random.choice(scores) - random.uniform(0, 0.005)))
        for _ in range(queries)
    ]
    down, across = np.mgrid[0:40, 0:40]
    center, radius = random.uniform(0, 40, (queries, 2, 1, 1)), random.uniform(3, 15, (queries, 1, 1))
    away = np.hypot(down - center[:, 0], across - center[:, 1])
    masks = np.clip(2 * (radius - away), -9, 9) + random.normal(0, 0.2, (queries, 40, 40))
    return class_logits(*answers), masks.astype(np.float32)


def as_sets(segment_id: np.ndarray, classes: dict[int, int]) -> set[tuple[int, bytes]]:
    """Segments as class and bitmap, whatever their numbers."""
    return {(class_id, (segment_id == number).tobytes()) for number, class_id in classes.items()}


def found_sets(found: PanopticMap) -> set[tuple[int, bytes]]:
    return as_sets(found.segment_id, {item.id: item.class_id for item in found.segments})


@pytest.mark.parametrize("source", [(40, 40), (120, 120), (93, 71)])
@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_that_of_eomt(seed: int, source: tuple[int, int]) -> None:
    torch: Any = pytest.importorskip("torch")
    package: Any = pytest.importorskip("transformers.models.eomt.image_processing_eomt")
    logits, masks = rounded_scene(seed)
    width, height = source
    probability, label = torch.from_numpy(logits).softmax(-1).max(-1)
    full = torch.nn.functional.interpolate(torch.from_numpy(masks)[None], size=(height, width), mode="bilinear")[0]
    full, probability, label = package.remove_low_and_no_objects(full, probability, label, 0.8, NOTHING)
    answer, segments = package.compute_segments(
        full, probability, label, [SKY, ROAD], overlap_mask_area_threshold=0.5, target_size=(height, width)
    )
    head = replace(WEIGHTED, overlap_threshold=0.5)
    found = head.decode_map([logits, masks], Placement(width, height, 0, 0, 40, 40), (40, 40), Selection(), NAMES)
    assert found_sets(found) == as_sets(answer.numpy(), {item["id"]: item["label_id"] for item in segments})
    assert len(segments) > 2


def test_padding_is_left_out() -> None:
    # The picture is the upper half of the input; a mask in the lower half is not in it.
    upper, lower = columns(0, 10), columns(0, 10)
    upper[2:], lower[:2] = -6, -6
    found = WEIGHTED.decode_map(
        [class_logits((CAR, 0.9), (PERSON, 0.9)), np.stack([upper, lower])],
        Placement(100, 20, 0, 0, 40, 8),
        (40, 16),
        Selection(),
        NAMES,
    )
    assert found.segment_id.shape == (20, 100)
    assert table(found) == [("car", True, 2000)]


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_that_of_mask2former(seed: int) -> None:
    torch: Any = pytest.importorskip("torch")
    package: Any = pytest.importorskip("transformers.models.mask2former.image_processing_mask2former")
    # It counts a query's pixels by score times probability, the papers' code by probability alone: scores near 1.
    logits, masks = rounded_scene(seed, (0.6, 0.9999))
    probability, label = torch.from_numpy(logits).softmax(-1).max(-1)
    mask, probability, label = package.remove_low_and_no_objects(
        torch.from_numpy(masks).sigmoid(), probability, label, 0.8, NOTHING
    )
    answer, segments = package.compute_segments(
        mask, probability, label, overlap_mask_area_threshold=0.5, label_ids_to_fuse=set()
    )
    # All things: where it fuses stuff it gives the next segment a number that another one has.
    head = QueryMasks(thing_classes=(SKY, ROAD, CAR, PERSON), overlap_threshold=0.5)
    found = head.decode_map([logits, masks], Placement(40, 40, 0, 0, 40, 40), (40, 40), Selection(), NAMES)
    # It also keeps the pixels at which the winner's mask is improbable, which the papers' code leaves empty.
    confident = found.segment_id > 0
    wanted = {item["id"]: item["label_id"] for item in segments}
    assert found_sets(found) == as_sets(np.where(confident, answer.numpy(), 0), wanted)
    assert len(wanted) > 2


@pytest.mark.parametrize("seed", range(4))
def test_the_softmax_over_masks_is_detrs(seed: int) -> None:
    logits, masks = rounded_scene(seed)
    found = SOFTMAX.decode_map([logits, masks], Placement(40, 40, 0, 0, 40, 40), (40, 40), Selection(), NAMES)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    kept = (probability.argmax(1) != NOTHING) & (probability.max(1) > 0.85)
    winner = masks[kept].argmax(0)
    class_map = probability[kept].argmax(1)[winner]
    # Each pixel has the class of the highest mask, but for specks.
    painted = np.array([-1, *(item.class_id for item in found.segments)])[found.segment_id]
    assert (painted == class_map).mean() > 0.99
    for item in found.segments:
        if not item.is_thing:
            assert (found.mask(item) == (painted == item.class_id)).all()


LOGITS, MASKS = TensorSpec("logits", (1, 9, 5), "float32"), TensorSpec("masks", (1, 9, 16, 16), "float32")


@pytest.mark.parametrize(
    ("head", "outputs", "message"),
    [
        (WEIGHTED, [LOGITS], "2 outputs"),
        (WEIGHTED, [MASKS, LOGITS], "3 axes"),
        (WEIGHTED, [TensorSpec("logits", (1, 9, 4), "float32"), MASKS], r"5 = 1 no object \+ 4 class scores"),
        (WEIGHTED, [TensorSpec("logits", (1, 8, 5), "float32"), MASKS], "8 queries"),
        (QueryMasks(thing_classes=(4,)), [LOGITS, MASKS], r"thing_classes in 0\.\.3"),
        (QueryMasks(thing_classes=(), mask_threshold=1.5), [LOGITS, MASKS], r"mask_threshold in 0\.\.1"),
    ],
)
def test_outputs_that_do_not_fit(head: QueryMasks, outputs: list[TensorSpec], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check(outputs, len(NAMES), (64, 64))
    WEIGHTED.check([LOGITS, MASKS], len(NAMES), (64, 64))
