"""COCO panoptic sets: read back what was written, and say what is wrong with the rest."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.dataset.coco_panoptic import LabelledSegment, read_panoptic_set
from edgedet.errors import DatasetError

DOCUMENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "categories": [
        {"id": 200, "name": "rug", "isthing": 0},
        {"id": 1, "name": "person", "isthing": 1},
    ],
    "annotations": [
        {
            "image_id": 7,
            "file_name": "a.png",
            "segments_info": [
                {"id": 70000, "category_id": 200, "iscrowd": 0, "area": 6},
                {"id": 300, "category_id": 1, "iscrowd": 1, "area": 3},
            ],
        }
    ],
}
IDS = np.array([[70000, 70000, 300, 300], [70000, 70000, 300, 0], [70000, 70000, 0, 0]])


def write(
    folder: Path, document: dict[str, Any] = DOCUMENT, *, png: str = "panoptic_val", name: str = "panoptic_val"
) -> Path:
    """Write a set: the JSON file, pictures beside it, and the PNG in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document))
    (folder / "a.jpg").touch()
    (folder / png).mkdir(exist_ok=True)
    colours = np.stack([IDS // 65536, IDS // 256 % 256, IDS % 256], axis=-1).astype(np.uint8)
    assert cv2.imwrite(str(folder / png / "a.png"), colours)
    return folder


@pytest.mark.parametrize("png", ["panoptic_val", "panoptic", "."])
@pytest.mark.parametrize("target", [".", "panoptic_val.json"])
def test_reading(tmp_path: Path, png: str, target: str) -> None:
    found = read_panoptic_set(write(tmp_path, png=png) / target)
    # Class ids count the categories in the order of their ids.
    assert found.class_names == ("person", "rug")
    assert [image.image_id for image in found.images] == [7]
    image = found.images[0]
    assert image.path == tmp_path / "a.jpg"
    assert image.segments == (LabelledSegment(70000, 1, False), LabelledSegment(300, 0, True))
    assert found.notes == ("1 of 2 pictures have no segments and were left out",)
    labels = image.sized(width=4, height=3)
    assert labels.segment_id.dtype == np.int32
    assert (labels.segment_id == IDS).all()
    assert labels.is_thing == (True, False)


def test_a_folder_with_annotations_beside_pictures(tmp_path: Path) -> None:
    write(tmp_path / "annotations")
    (tmp_path / "annotations" / "a.jpg").unlink()
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.jpg").touch()
    assert read_panoptic_set(tmp_path).images[0].path == tmp_path / "val" / "a.jpg"


def change(*path: Any, value: Any = None) -> Callable[[dict[str, Any]], None]:
    def apply(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        if value is None:
            del document[path[-1]]
        else:
            document[path[-1]] = value

    return apply


SEGMENT = ("annotations", 0, "segments_info", 0)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (change("categories", 0, "isthing"), "isthing"),
        (change("annotations", 0, "image_id", value=8), "known image_id"),
        (change("annotations", 0, "file_name"), "file_name"),
        (change(*SEGMENT, "category_id", value=5), "known category_id"),
        (change(*SEGMENT, "id", value=300), "segment id of its own"),
        (change(*SEGMENT, "id", value=0), "segment id of its own"),
        (change("annotations", value=[{"image_id": 7, "bbox": [0, 0, 1, 1]}]), "another kind"),
        (change("annotations"), "without a list of annotations"),
        (change("annotations", 0, "file_name", value="c.png"), "PNGs with the segments"),
        (change("images", 0, "file_name", value="c.jpg"), "the pictures of"),
    ],
)
def test_faults_are_named(tmp_path: Path, fault: Callable[[dict[str, Any]], None], message: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    fault(document)
    with pytest.raises(DatasetError, match=message):
        read_panoptic_set(write(tmp_path, document) / "panoptic_val.json")


def test_a_png_that_does_not_fit(tmp_path: Path) -> None:
    write(tmp_path)
    image = read_panoptic_set(tmp_path).images[0]
    with pytest.raises(DatasetError, match="segments of 5x3 pixels"):
        image.sized(width=5, height=3)
    cv2.imwrite(str(image.segments_path), np.full((3, 4, 3), 1, np.uint8))
    with pytest.raises(DatasetError, match="the id 65793"):
        image.sized(width=4, height=3)
    image.segments_path.write_bytes(b"no PNG")
    with pytest.raises(DatasetError, match="unreadable"):
        image.sized(width=4, height=3)
    image.segments_path.unlink()
    with pytest.raises(DatasetError, match="got none"):
        image.sized(width=4, height=3)


def test_what_is_no_panoptic_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_panoptic_set(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="without one"):
        read_panoptic_set(tmp_path)
    write(tmp_path)
    with pytest.raises(DatasetError, match="Leave out --names"):
        read_panoptic_set(tmp_path, class_names=("a", "b"))
    write(tmp_path, name="panoptic_train")
    with pytest.raises(DatasetError, match="2 "):
        read_panoptic_set(tmp_path)


def test_real_labels(shared: Path) -> None:
    found = read_panoptic_set(shared / "coco" / "val")
    assert len(found.class_names) == 133
    assert len(found) == 64
    image = found.images[0]
    picture = cv2.imread(str(image.path))
    labels = image.sized(width=picture.shape[1], height=picture.shape[0])
    assert sum(labels.is_thing) == 80
    assert set(np.unique(labels.segment_id)) - {0} == {segment.id for segment in image.segments}
