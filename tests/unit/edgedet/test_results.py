"""Detections: checked shapes, and the way to supervision and COCO JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedet.errors import DatasetError
from edgedet.masks import Masks
from edgedet.results import Detection, Detections

NAMES = ("cat", "dog", "bird")


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    count = draw(st.integers(0, 8))
    corners = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(0, 2000, width=32)))
    sizes = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(0, 500, width=32)))
    return Detections(
        np.concatenate([corners, corners + sizes], axis=1),
        draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32))),
        draw(hnp.arrays(np.int64, count, elements=st.integers(0, len(NAMES) - 1))),
        NAMES,
        draw(st.none() | hnp.arrays(np.int64, count, elements=st.integers(0, 99))),
    )


def sample() -> Detections:
    return Detections(
        np.array([[0, 0, 10, 20], [5.126, 6, 7, 8]], np.float32),
        np.array([0.9, 0.123456], np.float32),
        np.array([2, 7]),
        NAMES,
    )


def assert_same(left: Detections, right: Detections, **tolerance: float) -> None:
    np.testing.assert_allclose(left.xyxy, right.xyxy, **tolerance)
    np.testing.assert_allclose(left.score, right.score, **tolerance)
    np.testing.assert_array_equal(left.class_id, right.class_id)
    assert left.class_names == right.class_names


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("xyxy", np.zeros((2, 5), np.float32)),
        ("xyxy", np.zeros(2, np.float32)),
        ("score", np.zeros(3, np.float32)),
        ("score", np.zeros((2, 1), np.float32)),
        ("class_id", np.zeros(1, np.int64)),
        ("track_id", np.zeros(3, np.int64)),
    ],
)
def test_shapes_are_checked(field, value):
    fields = {"xyxy": np.zeros((2, 4), np.float32), "score": np.zeros(2, np.float32), "class_id": np.zeros(2, np.int64)}
    with pytest.raises(ValueError, match=rf"Detections\.{field} must have shape"):
        Detections(**fields | {field: value})


def test_empty():
    nothing = Detections.empty(NAMES)
    assert len(nothing) == 0
    assert list(nothing) == nothing.to_json() == nothing.to_coco(1) == []


def test_one_object_as_plain_values():
    first, second = sample()
    assert first == Detection((0, 0, 10, 20), pytest.approx(0.9), 2, "bird")
    assert second.class_name == "7", "a class id without a name is shown as its number"
    assert type(first.score) is float and type(first.class_id) is int


def test_json_by_hand():
    tracked = Detections(**vars(sample()) | {"track_id": np.array([4, 5])})
    assert tracked.to_json() == [
        {"box": [0, 0, 10, 20], "score": 0.9, "class_id": 2, "class_name": "bird", "track_id": 4},
        {"box": [5.13, 6, 7, 8], "score": 0.12346, "class_id": 7, "class_name": "7", "track_id": 5},
    ]
    assert "track_id" not in sample().to_json()[0]


def test_coco_by_hand():
    first = Detections(**vars(sample())).where(np.array([0])).to_coco(42, category_ids=[1, 3, 16])
    assert first == [{"image_id": 42, "category_id": 16, "bbox": [0, 0, 10, 20], "score": pytest.approx(0.9)}]


@given(detections())
def test_round_trip_through_coco_text(found):
    ids = [11, 3, 90]
    records = json.loads(json.dumps(found.to_coco(7, ids)))
    assert_same(Detections.from_coco(records, NAMES, ids), found, rtol=1e-6, atol=2e-3)


def test_coco_annotations_have_no_score():
    record = {"bbox": [1, 2, 3, 4], "category_id": 1, "id": 9, "iscrowd": 0}
    truth = Detections.from_coco([record])
    np.testing.assert_array_equal(truth.xyxy, [[1, 2, 4, 6]])
    assert truth.score.tolist() == [1]


def test_pycocotools_takes_the_records(capsys):
    coco = pytest.importorskip("pycocotools.coco")
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 20, "height": 20}],
        "categories": [{"id": number} for number in (5, 6, 7)],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(sample().where(np.array([0])).to_coco(1, [5, 6, 7]))
    assert loaded.anns[1]["area"] == 200
    capsys.readouterr()


@given(detections())
def test_round_trip_through_supervision(found):
    pytest.importorskip("supervision")
    there = found.to_supervision()
    assert there.data["class_name"].tolist() == [found.class_name(value) for value in found.class_id.tolist()]
    back = Detections.from_supervision(there, NAMES)
    assert_same(back, found, rtol=0)
    assert (back.track_id is None) == (found.track_id is None)


def test_supervision_without_scores_and_classes():
    sv = pytest.importorskip("supervision")
    back = Detections.from_supervision(sv.Detections(xyxy=np.array([[1.0, 2, 3, 4]])))
    assert back.score.tolist() == [1] and back.class_id.tolist() == [0]
    assert len(Detections.from_supervision(sv.Detections.empty())) == 0


@pytest.mark.parametrize("chosen", [np.array([False, True]), np.array([1])])
def test_where(chosen):
    found = sample().where(chosen)
    assert found.class_id.tolist() == [7]
    assert found.class_names == NAMES
    assert found.xyxy.shape == (1, 4)


@given(detections())
def test_where_keeps_the_fields_together(found):
    order = np.argsort(found.score)[::-1]
    there_and_back = found.where(order).where(np.argsort(order))
    assert_same(there_and_back, found, rtol=0)


def with_masks() -> Detections:
    bitmaps = np.zeros((2, 12, 15), np.bool_)
    bitmaps[0, 2:8, 1:9] = np.random.default_rng(0).random((6, 8)) > 0.4
    bitmaps[1, 6:8, 5:7] = True
    return Detections(**vars(sample()) | {"class_id": np.array([2, 0]), "masks": Masks.from_bitmaps(bitmaps)})


def test_as_many_masks_as_objects():
    with pytest.raises(ValueError, match=r"Detections\.masks must hold 2 masks, got 0"):
        Detections(**vars(sample()) | {"masks": Masks((), 4, 4)})


def test_masks_stay_with_their_objects():
    found = with_masks()
    second = found.where(np.array([1]))
    assert second.masks.area.tolist() == [4]
    assert second.at(0).mask is found.masks.items[1] is found.at(1).mask
    assert sample().at(0).mask is None


def test_masks_in_json_and_coco_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    found = with_masks()
    records = json.loads(json.dumps(found.to_coco(7)))
    lines = json.loads(json.dumps(found.to_json()))
    for record, line, bitmap in zip(records, lines, found.masks.bitmaps(), strict=True):
        assert record["segmentation"] == line["mask"]
        theirs = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
        assert record["segmentation"] == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert "segmentation" not in sample().to_coco(7)[0] and "mask" not in sample().to_json()[0]


def test_masks_survive_coco_and_supervision():
    pytest.importorskip("supervision")
    found = with_masks()
    there = found.to_supervision()
    assert there.mask.dtype == np.bool_
    for back in (Detections.from_coco(found.to_coco(7), NAMES), Detections.from_supervision(there, NAMES)):
        np.testing.assert_array_equal(back.masks.bitmaps(), found.masks.bitmaps())


def test_outlines_become_masks_where_the_size_is_known():
    square = {"bbox": [1, 1, 3, 2], "category_id": 1, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}
    assert Detections.from_coco([square], size=(6, 5)).masks.area.tolist() == [6]
    assert Detections.from_coco([square]).masks is None
    assert Detections.from_coco([square, square | {"segmentation": []}], size=(6, 5)).masks is None
    rle = {"size": [5, 6], "counts": [7, 2, 21]}
    mixed = Detections.from_coco([square, square | {"segmentation": rle}])
    assert mixed.masks.area.tolist() == [6, 2]
    with pytest.raises(DatasetError, match="6x6 pixels"):
        Detections.from_coco([square | {"segmentation": rle}], size=(6, 6))
