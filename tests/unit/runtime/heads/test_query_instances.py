"""Query instances: by hand, and against transformers' own answers for Mask2Former and EoMT."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.results import Detections
from edgedet.runtime.heads import QueryInstances
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

NAMES = ("ant", "bee", "cow")
ANT, BEE, COW = range(3)
NOTHING = len(NAMES)
HEAD = QueryInstances()


def class_logits(*answers: dict[int, float]) -> np.ndarray:
    """Logits of queries that answer with probabilities of some classes, the rest being "no object"."""
    rows = np.zeros((len(answers), NOTHING + 1), np.float32)
    for row, answer in zip(rows, answers, strict=True):
        row[list(answer)] = list(answer.values())
        row[NOTHING] = 1 - row.sum()
    return np.log(np.maximum(rows, 1e-30))


def rectangle(left: int, top: int, right: int, bottom: int, inside: float = 6.0) -> np.ndarray:
    """A map of 10 x 8 cells, positive in some."""
    mask = np.full((8, 10), -6, np.float32)
    mask[top:bottom, left:right] = inside
    return mask


def decode(
    logits: np.ndarray,
    maps: list[np.ndarray],
    selection: Selection | None = None,
    placement: Placement | None = None,
) -> Detections:
    height, width = maps[0].shape
    placement = placement or Placement(width, height, 0, 0, width, height)
    return HEAD.decode_objects([logits, np.stack(maps)], placement, (width, height), selection or Selection(), NAMES)


def test_boxes_hold_the_masks_and_scores_count_them() -> None:
    logits = class_logits({BEE: 0.9}, {ANT: 0.6, COW: 0.39}, {COW: 0.1}, {COW: 0.95})
    maps = [rectangle(2, 1, 5, 4, 6), rectangle(6, 0, 10, 8, 2), rectangle(0, 0, 3, 3), rectangle(0, 0, 0, 0)]
    found = decode(logits, maps)
    # Query 1 answers twice, 2 is improbable, 3 has no pixel.
    assert found.xyxy.tolist() == [[2, 1, 5, 4], [6, 0, 10, 8], [6, 0, 10, 8]]
    assert found.class_id.tolist() == [BEE, ANT, COW]
    mean = [1 / (1 + np.exp(-value)) for value in (6, 2, 2)]
    assert found.score == pytest.approx([0.9 * mean[0], 0.6 * mean[1], 0.39 * mean[2]], abs=1e-5)
    assert found.masks is not None
    assert found.masks.area.tolist() == [9, 32, 32]
    assert (found.masks.bitmap(0) == (maps[0] > 0)).all()


@pytest.mark.parametrize(
    ("selection", "classes"),
    [
        (Selection(), [BEE, ANT]),
        (Selection(confidence=0.7), [BEE]),
        (Selection(max_detections=1), [BEE]),
        (Selection(class_ids=(COW, ANT)), [ANT, COW]),
        (Selection(confidence=0.92), []),
    ],
)
def test_the_selection_chooses(selection: Selection, classes: list[int]) -> None:
    logits = class_logits({BEE: 0.9}, {ANT: 0.6, COW: 0.39})
    found = decode(logits, [rectangle(2, 1, 5, 4), rectangle(6, 0, 10, 8)], selection)
    assert found.class_id.tolist() == classes
    assert found.masks is not None
    assert len(found.masks) == len(found) == len(found.xyxy)


def test_a_score_that_only_the_class_reaches_does_not_pass() -> None:
    logits = class_logits({BEE: 0.6})
    assert len(decode(logits, [rectangle(0, 0, 4, 4, inside=0.5)], Selection(confidence=0.5))) == 0


def test_the_papers_take_as_many_answers_as_there_are_queries() -> None:
    found = decode(class_logits({ANT: 0.5, BEE: 0.3, COW: 0.2}), [rectangle(0, 0, 4, 4)], Selection(confidence=0.1))
    assert found.class_id.tolist() == [ANT]


def test_broken_numbers_take_no_part() -> None:
    logits = class_logits({ANT: 0.9}, {BEE: 0.9}, {COW: 0.9})
    logits[1] = np.nan
    found = decode(logits, [rectangle(0, 0, 4, 4), rectangle(0, 0, 4, 4), np.full((8, 10), np.nan, np.float32)])
    assert found.class_id.tolist() == [ANT]


def test_padding_is_left_out() -> None:
    # The picture is the upper half of the input; the second mask lies below it.
    found = decode(
        class_logits({ANT: 0.9}, {BEE: 0.9}),
        [rectangle(0, 0, 10, 8), rectangle(0, 6, 10, 8)],
        placement=Placement(100, 40, 0, 0, 10, 4),
    )
    assert found.xyxy.tolist() == [[0, 0, 100, 40]]
    assert found.class_id.tolist() == [ANT]


def round_scene(seed: int, queries: int = 12, cells: int = 96) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:cells, 0:cells]
    center, radius = random.uniform(0, cells, (queries, 2, 1, 1)), random.uniform(2, cells / 3, (queries, 1, 1))
    maps = (
        radius - np.hypot(down - center[:, 0], across - center[:, 1]) + random.normal(0, 0.3, (queries, cells, cells))
    )
    return random.normal(0, 2, (queries, NOTHING + 1)).astype(np.float32), (maps / 4).astype(np.float32)


def assert_same(found: Detections, bitmaps: np.ndarray, segments: list[dict[str, Any]]) -> None:
    order = sorted(range(len(segments)), key=lambda index: -segments[index]["score"])
    assert found.class_id.tolist() == [segments[index]["label_id"] for index in order]
    assert found.score == pytest.approx([segments[index]["score"] for index in order], abs=2e-6)
    assert found.masks is not None
    differing = [(found.masks.bitmap(k) != bitmaps[index]).sum() for k, index in enumerate(order)]
    # A mixture within rounding of 0 falls to either side.
    assert max(differing) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_that_of_mask2former(seed: int) -> None:
    torch: Any = pytest.importorskip("torch")
    package: Any = pytest.importorskip("transformers.models.mask2former.image_processing_mask2former")
    logits, maps = round_scene(seed)
    answer = SimpleNamespace(
        class_queries_logits=torch.from_numpy(logits)[None], masks_queries_logits=torch.from_numpy(maps)[None]
    )
    # It makes its masks at 384 x 384 pixels whatever the picture.
    (wanted,) = package.Mask2FormerImageProcessor().post_process_instance_segmentation(
        answer, threshold=0.1, target_sizes=[(384, 384)], return_binary_maps=True
    )
    placement = Placement(384, 384, 0, 0, 512, 512)
    found = HEAD.decode_objects([logits, maps], placement, (512, 512), Selection(confidence=0.1), NAMES)
    assert len(wanted["segments_info"]) > 5
    assert_same(found, wanted["segmentation"].numpy() > 0, wanted["segments_info"])


@pytest.mark.parametrize("source", [(160, 120), (333, 250), (120, 160)])
def test_the_answer_is_that_of_eomt(source: tuple[int, int]) -> None:
    torch: Any = pytest.importorskip("torch")
    package: Any = pytest.importorskip("transformers.models.eomt.image_processing_eomt")
    logits, maps = round_scene(7, cells=40)
    width, height = source
    side = 160
    answer = SimpleNamespace(
        class_queries_logits=torch.from_numpy(logits)[None], masks_queries_logits=torch.from_numpy(maps)[None]
    )
    processor = package.EomtImageProcessor(
        size={"shortest_edge": side, "longest_edge": side}, do_split_image=False, do_pad=True
    )
    scale = min(side / width, side / height)
    inside = (round(width * scale), round(height * scale))
    (wanted,) = processor.post_process_instance_segmentation(answer, target_sizes=[(height, width)], threshold=0.5)
    placement = Placement(width, height, 0, 0, *inside)
    found = HEAD.decode_objects([logits, maps], placement, (side, side), Selection(confidence=0.5), NAMES)
    # Above one half only a query's best class passes, which is the one that it takes. Later segments hide earlier ones.
    order = sorted(wanted["segments_info"], key=lambda item: -item["score"])
    assert found.class_id.tolist() == [item["label_id"] for item in order]
    assert len(order) > 2
    assert found.score == pytest.approx([item["score"] for item in order], abs=2e-3 if max(source) != side else 2e-6)
    assert found.masks is not None
    painted = np.full((height, width), -1)
    for item in sorted(wanted["segments_info"], key=lambda item: item["id"]):
        painted[found.masks.bitmap(order.index(item))] = item["id"]
    assert (painted == wanted["segmentation"].numpy()).mean() > (0.9995 if max(source) == side else 0.99)


LOGITS, MASKS = TensorSpec("logits", (1, 9, 4), "float32"), TensorSpec("masks", (1, 9, 16, 16), "float32")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([LOGITS], "2 outputs"),
        ([MASKS, LOGITS], "3 axes"),
        ([TensorSpec("logits", (1, 9, 3), "float32"), MASKS], r"4 = 1 no object \+ 3 class scores"),
        ([TensorSpec("logits", (1, 8, 4), "float32"), MASKS], "8 queries"),
    ],
)
def test_outputs_that_do_not_fit(outputs: list[TensorSpec], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        HEAD.check(outputs, len(NAMES), (64, 64))
    HEAD.check([LOGITS, MASKS], len(NAMES), (64, 64))
