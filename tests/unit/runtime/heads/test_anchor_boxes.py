"""AnchorBoxes against a plain loop, torchvision's box coder and torchvision's pasting of masks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from candidate_rows import Row, assert_same_candidates, file_outputs, tensor

from edgedet.errors import SpecError
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads import head_from_spec
from edgedet.runtime.heads.anchor_boxes import AnchorBoxes
from edgedet.runtime.preprocess import place
from edgedet.runtime.selection import Selection

SIZE = (300, 200)
COUNT = 120
COLUMNS = 6


def some_anchors() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(0, 300, (COUNT, 2)), rng.uniform(5, 120, (COUNT, 2))], axis=1, dtype=np.float32)


ANCHORS = some_anchors()


def raw_outputs(head: AnchorBoxes) -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    scores = rng.random((COUNT, COLUMNS)) if head.activation == "none" else rng.normal(0, 3, (COUNT, COLUMNS))
    boxes = rng.normal(0, 1, (COUNT, 4)) if head.anchors is not None else rng.random((COUNT, 4))
    return [boxes.astype(np.float32), scores.astype(np.float32)]


def plain_box(head: AnchorBoxes, index: int, values: list[float]) -> tuple[float, float, float, float]:
    if head.anchors is None:
        if head.normalized:
            values = [value * SIZE[axis % 2] for axis, value in enumerate(values)]
        cx, cy, w, h = values
        return (cx, cy, w, h) if head.box_format == "xyxy" else (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    tx, ty, tw, th = values if head.box_order == "xywh" else (values[1], values[0], values[3], values[2])
    ax, ay, aw, ah = head.anchors[index].tolist()
    vx, vy, vw, vh = head.variances
    cx, cy, w, h = ax + tx * vx * aw, ay + ty * vy * ah, aw * math.exp(tw * vw), ah * math.exp(th * vh)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def activated(activation: str, raw: list[float]) -> list[float]:
    if activation == "softmax":
        total = sum(math.exp(value) for value in raw)
        return [math.exp(value) / total for value in raw]
    return raw if activation == "none" else [1 / (1 + math.exp(-value)) for value in raw]


def plain_decode(head: AnchorBoxes, outputs: list[npt.NDArray[Any]], selection: Selection) -> list[Row]:
    """Anchor by anchor, from the SSD paper."""
    rows: list[Row] = []
    for index, (values, raw) in enumerate(zip(outputs[0].tolist(), outputs[1].tolist(), strict=True)):
        scores = activated(head.activation, raw)
        if head.background is not None:
            scores = scores[: head.background] + scores[head.background + 1 :]
        wanted = range(len(scores)) if selection.class_ids is None else selection.class_ids
        passing = [(scores[class_id], class_id) for class_id in wanted if scores[class_id] >= selection.confidence]
        for score, class_id in passing if selection.multi_label else sorted(passing)[-1:]:
            rows.append((*plain_box(head, index, values), score, class_id))
    return rows


HEADS = {
    "ssd": AnchorBoxes(anchors=ANCHORS, activation="softmax", background=0),
    "ssd of TensorFlow": AnchorBoxes(anchors=ANCHORS, box_order="yxhw", activation="sigmoid", background=0),
    "ssd of TensorFlow, activated": AnchorBoxes(anchors=ANCHORS, box_order="yxhw", background=0),
    "uneven variances": AnchorBoxes(anchors=ANCHORS, box_order="yxhw", variances=(0.1, 0.3, 0.2, 0.4)),
    "retinanet": AnchorBoxes(anchors=ANCHORS, variances=(1, 1, 1, 1), activation="sigmoid"),
    "softmax without background": AnchorBoxes(anchors=ANCHORS, activation="softmax"),
    "background last": AnchorBoxes(anchors=ANCHORS, activation="softmax", background=COLUMNS - 1),
    "ultraface": AnchorBoxes(normalized=True, background=0),
    "decoded centres": AnchorBoxes(box_format="cxcywh", background=3),
}


@pytest.mark.parametrize(
    "selection",
    [Selection(0.5), Selection(0.3, multi_label=True), Selection(0.3, class_ids=(1, 4)), Selection(0.0)],
    ids=str,
)
@pytest.mark.parametrize("name", HEADS)
def test_is_the_plain_loop(name: str, selection: Selection) -> None:
    head = HEADS[name]
    outputs = raw_outputs(head)
    assert_same_candidates(head.decode(outputs, SIZE, selection), plain_decode(head, outputs, selection))


@pytest.mark.parametrize("weights", [(10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0)], ids=["ssd", "retinanet"])
def test_agrees_with_the_box_coder_of_torchvision(weights: tuple[float, float, float, float]) -> None:
    """Its limit on the growth of a box (a factor of 62.5), which no paper has, is not reached here."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    utils = pytest.importorskip("torchvision.models.detection._utils")
    offsets = np.random.default_rng(2).normal(0, 1, (COUNT, 4)).astype(np.float32)
    corners = np.concatenate([ANCHORS[:, :2] - ANCHORS[:, 2:] / 2, ANCHORS[:, :2] + ANCHORS[:, 2:] / 2], axis=1)
    expected = utils.BoxCoder(weights).decode_single(torch.from_numpy(offsets), torch.from_numpy(corners)).numpy()
    variances = tuple(1 / weight for weight in weights)
    head = AnchorBoxes(anchors=ANCHORS, variances=(variances[0], variances[1], variances[2], variances[3]))
    found = head.decode([offsets, np.ones((COUNT, 1), np.float32)], SIZE, Selection(0.5))
    np.testing.assert_allclose(found.xyxy, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_nan_never_passes(activation: Any) -> None:
    """Through a softmax one NaN makes its whole row NaN, so nothing of that location passes."""
    scores = np.float32([[0.1, np.nan, 9.0], [np.nan] * 3, [0.1, 9.0, 0.2]])
    found = AnchorBoxes(activation=activation, background=0).decode([np.ones((3, 4)), scores], SIZE, Selection(0.6))
    assert found.class_id.tolist() == ([0] if activation == "softmax" else [1, 0])


def test_overflow_is_quiet() -> None:
    head = AnchorBoxes(anchors=ANCHORS[:1], variances=(1, 1, 1, 1))
    found = head.decode([np.float32([[0, 0, 300, 0]]), np.float32([[0.9]])], SIZE, Selection(0.5))
    assert not np.isfinite(found.xyxy).all()


@pytest.mark.parametrize("anchors", [None, ANCHORS], ids=["decoded", "offsets"])
def test_squares_are_pasted_into_their_whole_boxes(anchors: npt.NDArray[np.float32] | None) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    head = AnchorBoxes(anchors=anchors, normalized=anchors is None, roi_masks=True)
    boxes, scores = raw_outputs(head)
    if anchors is None:
        boxes[:, 2:] += boxes[:, :2]  # some reach beyond the picture
    squares = np.random.default_rng(3).random((COUNT, 14, 14), np.float32)
    outputs = [boxes, scores, squares]
    found = head.decode(outputs, SIZE, Selection(0.9))
    at = place(200, 100, InputSpec(*SIZE, pad_position="bottom_right"))
    assert found.location is not None and head.has_masks
    whole = at.to_source(found.xyxy, clip=False)
    # torchvision itself fails on boxes that lie wholly outside.
    touching = (whole[:, :2] < (195, 95)).all(axis=1) & (whole[:, 2:] > 5).all(axis=1)
    kept, whole = found.location[touching], whole[touching]
    masks = head.masks(outputs, kept, at.to_source(found.xyxy[touching]), at, SIZE)
    assert masks is not None
    square_tensor, box_tensor = torch.from_numpy(squares[kept])[:, None], torch.from_numpy(whole)
    pasted = roi_heads.paste_masks_in_image(square_tensor, box_tensor, (100, 200))
    differing = masks.bitmaps() != (pasted[:, 0] > 0.5).numpy()
    assert differing.mean() < 1e-4  # probabilities that round to either side of .5
    assert masks.area.sum() > 1000


def test_no_masks_where_their_output_is_left_out() -> None:
    head = AnchorBoxes(roi_masks=True)
    at = place(*SIZE, InputSpec(*SIZE))
    outputs = [np.zeros((1, 4), np.float32), np.ones((1, 2), np.float32)]
    assert head.masks(outputs, np.arange(1), np.zeros((1, 4), np.float32), at, SIZE) is None
    assert not AnchorBoxes().has_masks


def test_check_takes_the_shapes_that_fit() -> None:
    AnchorBoxes(anchors=ANCHORS, background=0).check([tensor(1, COUNT, 4), tensor(1, COUNT, 91)], 90, SIZE)
    AnchorBoxes(anchors=ANCHORS).check([tensor(-1, -1, 4), tensor(-1, -1, -1)], 90, SIZE)
    AnchorBoxes(background=0).check([tensor(1, 4420, 4), tensor(1, 4420, 2)], 1, SIZE)
    AnchorBoxes(roi_masks=True).check([tensor(1, 50, 4), tensor(1, 50, 2), tensor(1, 50, 28, 28)], 2, SIZE)
    AnchorBoxes(roi_masks=True).check([tensor(1, 50, 4), tensor(1, 50, 2)], 2, SIZE)


@pytest.mark.parametrize(
    ("background", "shapes", "message"),
    [
        (0, [(1, COUNT, 4), (1, COUNT, 90)], r"91 = 1 background \+ 90 class scores for 90 class names .* got 90"),
        (None, [(1, COUNT, 4), (1, COUNT, 91)], r"90 = 90 class scores for 90 class names .* got 91"),
        (91, [(1, COUNT, 4), (1, COUNT, 91)], r"head\.background in 0\.\.90, got 91"),
        (0, [(1, COUNT, 91), (1, COUNT, 4)], r"4 box coordinates on axis 2 .* got 91.* boxes, then scores"),
        (0, [(1, 1917, 4), (1, 1917, 91)], r"120 locations for 120 anchors .* got 1917.*--anchors"),
        (0, [(1, COUNT, 4), (1, 7, 91)], r"120 locations as in 'output0' on axis 1 .* got 7"),
        (0, [(1, COUNT, 1, 4), (1, COUNT, 91)], r"3 axes \(batch, locations, box\)"),
        (0, [(1, COUNT, 4), (1, COUNT)], r"3 axes \(batch, locations, classes\)"),
        (0, [(1, COUNT, 4)], r"2 outputs \(boxes, scores\), got 1"),
    ],
)
def test_check_refuses(background: int | None, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AnchorBoxes(anchors=ANCHORS, background=background).check([tensor(*shape) for shape in shapes], 90, SIZE)


def test_check_holds_decoded_boxes_against_their_scores() -> None:
    with pytest.raises(SpecError, match="10 locations as in"):
        AnchorBoxes().check([tensor(1, 10, 4), tensor(1, 11, 2)], 2, SIZE)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 9, 28, 28), "10 locations as in 'output0' on axis 1"),
        ((1, 10, 1, 28, 28), r"4 axes \(batch, locations, rows"),
    ],
)
def test_check_holds_squares_against_their_boxes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AnchorBoxes(roi_masks=True).check([tensor(1, 10, 4), tensor(1, 10, 2), tensor(*shape)], 2, SIZE)


def test_spec_round_trip_keeps_every_anchor() -> None:
    head = head_from_spec(HEADS["ssd of TensorFlow"].spec())
    assert isinstance(head, AnchorBoxes)
    assert head.anchors is not None
    assert np.array_equal(head.anchors, ANCHORS)
    assert head.box_order == "yxhw"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"anchors": ANCHORS[:, :3]}, r"shape \(A, 4\)"),
        ({"anchors": ANCHORS, "normalized": True}, "for decoded boxes only"),
        ({"anchors": ANCHORS, "box_format": "cxcywh"}, "for decoded boxes only"),
        ({"background": -1}, r"head\.background of 0 or more"),
    ],
)
def test_parameters_that_contradict_each_other(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AnchorBoxes(**parameters)


def test_fits_the_real_files(shared: Path) -> None:
    models = shared / "models"
    anchors = np.load(models / "ssd_mobilenet_v1_anchors_cycxhw.npy")[:, [1, 0, 3, 2]] * 300
    outputs = file_outputs(models / "ssd_mobilenet_v1_coco_300_raw.onnx").values()
    AnchorBoxes(anchors=anchors, box_order="yxhw", background=0).check(list(outputs), 90, (300, 300))
    faces = file_outputs(models / "ultraface_rfb_320.onnx")
    AnchorBoxes(normalized=True, background=0).check([faces["boxes"], faces["scores"]], 1, (320, 240))
