"""Selective search: what it finds in drawn and in real pictures, and that it always answers the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.errors import ImageError, MissingDependencyError, SpecError
from edgedet.model_spec import ProposalSpec
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.capture import read_image
from edgedet.runtime.proposals import METHODS, SelectiveSearch, proposer_from_spec

pytest.importorskip("skimage")

RECTANGLES = [(20, 30, 60, 90), (80, 16, 140, 40), (100, 60, 150, 110), (5, 5, 18, 18)]


def rectangles(scale: int = 1) -> np.ndarray:
    image = np.full((120 * scale, 160 * scale, 3), 96, np.uint8)
    for index, box in enumerate(RECTANGLES):
        left, top, right, bottom = (scale * value for value in box)
        image[top:bottom, left:right] = np.eye(3, dtype=np.uint8)[index % 3] * 255 if index < 3 else 230
    return image


@pytest.mark.parametrize("name", METHODS)
def test_a_method_lies_in_the_file_of_its_name(name: str, root: Path) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.__module__ == f"edgedet.runtime.proposals.{name}"
    assert (root / f"runtime/proposals/{name}.py").is_file()
    assert "Source:" in (method.__doc__ or "")


@pytest.mark.parametrize("scale", [1, 6])
def test_rectangles_are_found_where_they_are(scale: int) -> None:
    boxes = SelectiveSearch()(rectangles(scale), 2000)
    wanted = scale * np.array(RECTANGLES, np.float32)
    assert iou_matrix(wanted, boxes).max(axis=1).min() > 0.75


def test_boxes_are_within_the_picture_each_once_and_at_most_as_many_as_wanted() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    boxes = SelectiveSearch()(image, 2000)
    assert boxes.dtype == np.float32
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 130 and boxes[:, 3].max() <= 90
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 8
    np.testing.assert_array_equal(SelectiveSearch()(image, 5), boxes[:5])


def test_the_answer_is_the_same_each_time_and_another_with_another_seed() -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)
    first = SelectiveSearch()(image, 2000)
    np.testing.assert_array_equal(SelectiveSearch()(image, 2000), first)
    other = SelectiveSearch(seed=1)(image, 2000)
    assert not np.array_equal(other, first)
    all_of_both = [np.unique(SelectiveSearch(seed=seed, overlap=1)(image, 5000), axis=0) for seed in (0, 1)]
    np.testing.assert_array_equal(*all_of_both)


def test_no_two_proposals_overlap_more_than_they_may() -> None:
    boxes = SelectiveSearch(overlap=0.7)(rectangles(), 2000)
    assert np.triu(iou_matrix(boxes, boxes), k=1).max() <= 0.7
    assert len(SelectiveSearch(overlap=1)(rectangles(), 2000)) > len(boxes)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (64, 64, 3), (3, 2, 3)])
def test_a_picture_without_objects_is_one_region(shape: tuple[int, int, int]) -> None:
    boxes = SelectiveSearch()(np.full(shape, 77, np.uint8), 2000)
    assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]


def test_digits_are_found(root: Path) -> None:
    folder = root / "examples/digits"
    labels: dict[str, Any] = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    best: list[float] = []
    for entry in labels["images"][:6]:
        found = [item["bbox"] for item in labels["annotations"] if item["image_id"] == entry["id"]]
        wanted = np.array([[x, y, x + w, y + h] for x, y, w, h in found], np.float32)
        boxes = SelectiveSearch()(read_image(folder / "images" / entry["file_name"]), 2000)
        best += iou_matrix(wanted, boxes).max(axis=1).tolist()
    assert len(best) >= 12
    assert np.mean(np.array(best) >= 0.5) >= 0.97


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"similarities": ["CTX"]}, r"letters C, T, S and F, got 'CTX'"),
        ({"similarities": ["CC"]}, r"letters C, T, S and F, got 'CC'"),
        ({"similarities": []}, r"at least one colour space, scale and similarity"),
        ({"scales": [0]}, r"positive sizes and scales .* scales \(0\.0,\)"),
        ({"overlap": 0}, r"proposals\.parameters\.overlap in 0\.\.1, got 0\.0"),
        ({"min_size": 0}, r"positive sizes and scales .* min_size 0"),
        ({"colours": ["cmyk"]}, r"one of 'hsv', 'lab', 'bgr' at proposals selective_search\.colours\[0\]"),
        ({"speed": 1}, r"only the fields .* in proposals selective_search, got 'speed'"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        proposer_from_spec(ProposalSpec("crops", parameters=parameters))


def test_parameters_come_from_the_spec() -> None:
    proposer = proposer_from_spec(ProposalSpec("crops", parameters={"side": 300, "scales": [80], "colours": ["bgr"]}))
    assert proposer == SelectiveSearch(side=300, scales=(80.0,), colours=("bgr",))


def test_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match=r"shape \(height, width, 3\)"):
        SelectiveSearch()(np.zeros((4, 4), np.uint8), 10)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingDependencyError, match=r"'skimage' for proposals .* pip install 'edgedet\[proposals\]'"):
        SelectiveSearch().prepare()


def test_it_is_imported_without_the_package() -> None:
    program = "import sys; import edgedet.runtime.proposals; assert 'skimage' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(sys.prefix))
