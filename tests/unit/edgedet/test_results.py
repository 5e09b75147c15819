"""Detections: checked shapes, and the way to supervision and COCO JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
