"""DenseBoxes against a plain loop and Ultralytics' own post-processing."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, tensor

from edgedet.errors import SpecError
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import place
from edgedet.runtime.prototype_masks import prototype_masks
from edgedet.runtime.selection import Selection

SIZE = (640, 480)


def raw_output(seed: int, classes: int, locations: int, extra: int = 0) -> npt.NDArray[np.float32]:
    """Return (4+extra+C, A): few locations fire."""
    rng = np.random.default_rng(seed)
    center, size = rng.uniform(0, 480, (2, locations)), rng.uniform(4, 90, (2, locations))
    scores = rng.random((extra + classes, locations)) ** 4
    return np.concatenate([center, size, scores]).astype(np.float32)


def plain_decode(head: DenseBoxes, output: npt.NDArray[Any], selection: Selection) -> list[Row]:
    """Location by location, class by class, as the export formats describe it."""
    if head.layout == "channels_first":
        output = output.T
    rows: list[Row] = []
    for location in output.tolist():
        a, b, c, d = location[:4]
        if head.normalized:
            a, b, c, d = a * SIZE[0], b * SIZE[1], c * SIZE[0], d * SIZE[1]
        box = (a, b, c, d) if head.box_format == "xyxy" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
        rest = location[4 : len(location) - head.mask_coefficients]
        factor = rest.pop(0) if head.objectness else 1.0
        scores = [(factor * score, class_id) for class_id, score in enumerate(rest)]
        if selection.class_ids is not None:
            scores = [pair for pair in scores if pair[1] in selection.class_ids]
        passing = [pair for pair in scores if pair[0] >= selection.confidence]
        if passing and not selection.multi_label:
            passing = [max(passing, key=lambda pair: (pair[0], -pair[1]))]
        rows += [(*box, score, class_id) for score, class_id in passing]
    return rows


@pytest.mark.parametrize(
    "selection",
    [
        Selection(confidence=0.4),
        Selection(confidence=0.4, multi_label=True),
        Selection(confidence=0.3, class_ids=(5, 2)),
        Selection(confidence=0.3, class_ids=(5, 2), multi_label=True),
        Selection(confidence=0.0),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("head", "extra"),
    [
        (DenseBoxes(), 0),
        (DenseBoxes(layout="anchors_first"), 0),
        (DenseBoxes(box_format="xyxy", normalized=True), 0),
        (DenseBoxes(layout="anchors_first", objectness=True), 1),
        (DenseBoxes(objectness=True, mask_coefficients=4), 5),
        (DenseBoxes(mask_coefficients=4), 4),
        (DenseBoxes(layout="anchors_first", mask_coefficients=4, normalized=True), 4),
    ],
    ids=str,
)
def test_is_the_plain_loop(head: DenseBoxes, extra: int, selection: Selection) -> None:
    output = raw_output(0, 9, 150, extra)
    if head.normalized:
        output[:4] /= 480
    if head.layout == "anchors_first":
        output = np.ascontiguousarray(output.T)
    assert_same_candidates(head.decode([output], SIZE, selection), plain_decode(head, output, selection))


@pytest.mark.parametrize("multi_label", [False, True])
def test_with_nms_agrees_with_ultralytics(multi_label: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_AUTOINSTALL", "False")
    monkeypatch.setenv("YOLO_OFFLINE", "True")
    torch = pytest.importorskip("torch")
    ultralytics_nms = pytest.importorskip("ultralytics.utils.nms")
    output = raw_output(3, 12, 2000)
    selection = Selection(confidence=0.6, iou=0.5, multi_label=multi_label)
    (expected,) = ultralytics_nms.non_max_suppression(
        torch.from_numpy(output.copy())[None], conf_thres=0.6, iou_thres=0.5, multi_label=multi_label, nc=12
    )
    found = DenseBoxes().decode([output], SIZE, selection)
    kept = nms(found.xyxy, found.score, found.class_id, iou=0.5, max_detections=300)
    assert len(kept) > 50
    np.testing.assert_allclose(found.xyxy[kept], expected[:, :4].numpy(), atol=1e-3)
    np.testing.assert_allclose(found.score[kept], expected[:, 4].numpy(), atol=1e-6)
    assert found.class_id[kept].tolist() == expected[:, 5].long().tolist()


def test_an_unwanted_best_class_leaves_the_wanted_one() -> None:
    output = np.array([[10, 10, 4, 4, 0.9, 0.6, 0.1]], np.float32).T
    found = DenseBoxes().decode([output], SIZE, Selection(confidence=0.5, class_ids=(1,)))
    assert found.class_id.tolist() == [1]
    assert found.score.tolist() == pytest.approx([0.6])


@pytest.mark.parametrize("layout", ["channels_first", "anchors_first"])
def test_nan_never_passes_and_hides_no_other_class(layout: str) -> None:
    output = np.array(
        [[10, 10, 4, 4, np.nan, 0.6, 0.1], [10, 10, 4, 4, np.nan, np.nan, np.nan], [10, 10, 4, 4, 0.7, np.nan, 0.8]],
        np.float32,
    )
    head = DenseBoxes(layout="anchors_first" if layout == "anchors_first" else "channels_first")
    given = output if layout == "anchors_first" else output.T
    found = head.decode([given], SIZE, Selection(confidence=0.5))
    assert found.class_id.tolist() == [1, 2]
    found = head.decode([given], SIZE, Selection(confidence=0.5, multi_label=True))
    assert sorted(found.class_id.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("layout", ["channels_first", "anchors_first"])
def test_masks_are_made_of_what_was_kept(layout: Literal["channels_first", "anchors_first"]) -> None:
    head = DenseBoxes(layout=layout, mask_coefficients=3)
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=(3, 50)).astype(np.float32)
    output = np.concatenate([raw_output(0, 2, 50), coefficients])
    outputs = [output if layout == "channels_first" else output.T, rng.normal(size=(3, 120, 160)).astype(np.float32)]
    found = head.decode(outputs, SIZE, Selection(confidence=0.5))
    assert found.location is not None
    np.testing.assert_array_equal(found.score, output[4:6, found.location].max(axis=0))
    at = place(320, 240, InputSpec(*SIZE))
    kept = np.arange(len(found))[::-2]
    xyxy = at.to_source(found.xyxy[kept])
    masks = head.masks(outputs, found.location[kept], xyxy, at, SIZE)
    expected = prototype_masks(outputs[1], coefficients[:, found.location[kept]].T, xyxy, at, SIZE)
    assert head.has_masks and masks is not None
    np.testing.assert_array_equal(masks.bitmaps(), expected.bitmaps())
    assert masks.area.sum() > 0


def test_no_masks_without_prototypes() -> None:
    head = DenseBoxes(mask_coefficients=3)
    output, at = raw_output(0, 5, 9), place(64, 48, InputSpec(*SIZE))
    assert head.masks([output], np.arange(1), np.zeros((1, 4), np.float32), at, SIZE) is None
    assert not DenseBoxes().has_masks


def test_a_score_equal_to_the_confidence_passes() -> None:
    output = np.array([[10, 10, 4, 4, 0.3]], np.float32).T
    assert len(DenseBoxes().decode([output], SIZE, Selection(confidence=0.3))) == 1
    assert len(DenseBoxes().decode([output], SIZE, Selection(confidence=0.30001))) == 0


def test_half_precision_outputs_give_float32_candidates() -> None:
    found = DenseBoxes().decode([raw_output(0, 9, 150).astype(np.float16)], SIZE, Selection())
    assert len(found) > 0
    assert found.xyxy.dtype == found.score.dtype == np.float32


def test_unknown_class_id_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"class ids in 0\.\.8, got 2, 9"):
        DenseBoxes().decode([raw_output(0, 9, 10)], SIZE, Selection(class_ids=(2, 9)))


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        (DenseBoxes(), [(1, 84, 8400)]),
        (DenseBoxes(), [(-1, 84, -1)]),
        (DenseBoxes(), [(-1, -1, -1)]),
        (DenseBoxes(layout="anchors_first", objectness=True), [(1, 25200, 85)]),
        (DenseBoxes(mask_coefficients=32), [(1, 116, 8400), (1, 32, 160, 160)]),
        (DenseBoxes(mask_coefficients=32), [(1, 116, 8400)]),
    ],
)
def test_check_takes(head: DenseBoxes, outputs: list[tuple[int, ...]]) -> None:
    head.check([tensor(*shape) for shape in outputs], 80, (640, 640))


@pytest.mark.parametrize(
    ("head", "outputs", "message"),
    [
        (DenseBoxes(), [(1, 85, 8400)], r"84 = 4 box \+ 80 class scores for 80 class names on axis 1 .*, got 85"),
        (DenseBoxes(), [(1, 8400, 84)], r"84 = 4 box .* got 8400 \(shape \[1, 8400, 84\]\)"),
        (DenseBoxes(objectness=True), [(1, 84, 8400)], r"85 = 4 box \+ 1 objectness \+ 80 class scores"),
        (DenseBoxes(mask_coefficients=32), [(1, 84, 8400)], r"116 = 4 box \+ 32 mask coefficients \+ 80"),
        (DenseBoxes(), [(1, 84, 80, 80)], r"3 axes \(batch, channels, locations\)"),
        (DenseBoxes(layout="anchors_first"), [(1, 84)], r"3 axes \(batch, locations, channels\)"),
        (DenseBoxes(), [(1, 84, 8400), (1, 32, 160, 160)], r"1 output \(boxes and scores\), got 2"),
        (DenseBoxes(mask_coefficients=32), [], r"1 to 2 outputs .*, got 0"),
        (DenseBoxes(mask_coefficients=32), [(1, 116, 8400), (1, 16, 160, 160)], r"32 mask prototypes, .* axis 1 .*16"),
        (DenseBoxes(mask_coefficients=32), [(1, 116, 8400), (1, 32, 25600)], r"batch, prototypes, rows, columns"),
    ],
)
def test_check_refuses(head: DenseBoxes, outputs: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head.check([tensor(*shape) for shape in outputs], 80, (640, 640))


def test_spec_round_trip_and_bad_parameter() -> None:
    head = DenseBoxes(layout="anchors_first", objectness=True)
    assert head_from_spec(head.spec()) == head
    with pytest.raises(SpecError, match="mask_coefficients"):
        DenseBoxes(mask_coefficients=-1)
