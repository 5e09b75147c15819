from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.dataset import read_labelled_set
from edgedet.errors import DatasetError
from edgedet.rle import compress


def document(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "b.jpg", "width": 50, "height": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "area": 600.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 17, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        **changes,
    }


def write(folder: Path, value: Any, name: str = "labels.json", pictures: str = "images") -> Path:
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    for file in ("a.jpg", "b.jpg"):
        (folder / pictures / file).write_bytes(b"never read")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_boxes_classes_and_sizes_are_read_without_the_pictures(tmp_path: Path) -> None:
    labelled = read_labelled_set(write(tmp_path, document()))
    assert labelled.class_names == ("cat", "dog")
    first, second = labelled.images
    assert (first.image_id, first.path, first.width, first.height) == (7, tmp_path / "images/a.jpg", 100, 80)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [0, 0, 5, 5]])
    assert first.class_id.tolist() == [1, 0]
    assert first.iscrowd.tolist() == [False, True]
    assert first.area.tolist() == [600.5, 25]  # without an outline, the box
    assert len(second) == 0 and second.boxes.shape == (0, 4)


def test_ids_may_be_text(tmp_path: Path) -> None:
    value = json.loads(
        json.dumps(document()).replace('"image_id": 7', '"image_id": "x"').replace('"id": 7', '"id": "x"')
    )
    assert [image.image_id for image in read_labelled_set(write(tmp_path, value)).images] == ["x", 9]


SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
RLE = {"size": [80, 100], "counts": [0, 8000]}


def outlined(*segmentations: Any) -> dict[str, Any]:
    record = {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40]}
    return document(annotations=[record | {"segmentation": value} for value in segmentations])


def test_outlines_are_polygons_or_run_lengths(tmp_path: Path) -> None:
    path = write(tmp_path, outlined([SQUARE, [0, 0, 9, 0, 9, 9]], RLE, RLE | {"counts": compress(np.array([0, 8000]))}))
    image = read_labelled_set(path).images[0]
    assert image.outlines is not None
    polygons, *run_lengths = image.outlines
    assert [polygon.tolist() for polygon in polygons] == [[[1, 1], [4, 1], [4, 3], [1, 3]], [[0, 0], [9, 0], [9, 9]]]
    assert [rle["size"] for rle in run_lengths] == [[80, 100]] * 2
    assert image.sized(100, 80).outlines == image.outlines
    assert read_labelled_set(path).images[1].outlines == ()


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [SQUARE, [1]], "text", RLE | {"counts": [1]}, {}, 5]
)
def test_what_is_no_outline_leaves_the_picture_without(tmp_path: Path, segmentation: Any) -> None:
    image = read_labelled_set(write(tmp_path, outlined([SQUARE], segmentation))).images[0]
    assert image.outlines is None
    assert len(image) == 2


def test_run_lengths_of_another_size_are_refused(tmp_path: Path) -> None:
    value = outlined(RLE | {"size": [100, 80]})
    image = read_labelled_set(write(tmp_path, value)).images[0]
    with pytest.raises(DatasetError, match=r"masks of 100x80 pixels .*, got one of 80x100"):
        image.sized(100, 80)


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("labels.json", "."),
        ("labels.json", "images"),
        ("annotations/labels.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
    ],
)
def test_pictures_are_found_in_the_usual_places(tmp_path: Path, name: str, pictures: str) -> None:
    write(tmp_path, document(), name, pictures)
    for path in (tmp_path, tmp_path / name):
        images = read_labelled_set(path).images
        assert images[0].path.resolve() == (tmp_path / pictures / "a.jpg").resolve()


def test_some_missing_pictures_are_left_to_whoever_reads_them(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    (tmp_path / "images/a.jpg").unlink()
    assert not read_labelled_set(path).images[0].path.exists()


def test_a_folder_is_searched_by_content(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    panoptic = [{"image_id": 7, "file_name": "a.png", "segments_info": [{"id": 1, "bbox": [0, 0, 1, 1]}]}]
    write(tmp_path, document(annotations=panoptic), "panoptic.json")
    write(tmp_path, [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "results.json")
    write(tmp_path, {"images": [], "annotations": [{"caption": "a cat"}]}, "captions.json")
    write(tmp_path, "", "empty.json")
    assert read_labelled_set(tmp_path).path == path


def test_two_annotation_files_are_a_question(tmp_path: Path) -> None:
    write(tmp_path, document(), "annotations/train.json")
    write(tmp_path, document(), "annotations/val.json")
    with pytest.raises(DatasetError, match=r"one COCO JSON file with boxes .* got 2 \('.*train.json', '.*val.json'\)"):
        read_labelled_set(tmp_path)


def test_class_names_are_the_files_own(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Leave out --names"):
        read_labelled_set(write(tmp_path, document()), class_names=("a", "b"))


def annotation(**changes: Any) -> dict[str, Any]:
    record = {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], **changes}
    return document(annotations=[{key: value for key, value in record.items() if value is not None}])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", r"JSON in '.*labels.json', got Expecting"),
        ("\0", "JSON in"),
        ([], "with the keys images, annotations, categories, got a JSON list in"),
        ({"images": [], "info": {}}, "without a list of annotations, categories"),
        (document(images={}), "without a list of images"),
        (document(images=[]), "at least one picture, got none listed"),
        (document(images=[{"id": 7}]), r"the fields id, file_name in images\[0\] of '.*', got no file_name"),
        (document(images=[3]), r"images\[0\]"),
        (document(images=[{"id": 1.5, "file_name": "a.jpg"}]), r"a number as id in images\[0\]"),
        (document(images=[{"id": 7, "file_name": "a.jpg"}] * 2), r"an id of its own in images\[1\]"),
        (document(categories=[{"id": 1, "name": "a"}] * 2), r"an id of its own in categories\[1\]"),
        (document(annotations=[{"segments_info": []}]), "got panoptic ones"),
        (annotation(bbox=None), r"the fields image_id, category_id, bbox in annotations\[0\] of '.*', got no bbox"),
        (annotation(image_id=8), r"a known image_id in annotations\[0\] of '.*', got 8"),
        (annotation(category_id=1), r"a known category_id in annotations\[0\] of '.*', got 1"),
        (annotation(bbox=[1, 2, 3]), r"a bbox of left, top, width, height in annotations\[0\]"),
        (annotation(bbox=[1, 2, -3, 4]), "a bbox of"),
        (annotation(bbox=[1, 2, float("nan"), 4]), "a bbox of"),
        (annotation(bbox=["1", 2, 3, 4]), "a bbox of"),
        (document(images=[{"id": 7, "file_name": "gone.jpg"}], annotations=[]), "the pictures of .* no 'gone.jpg' in"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_labelled_set(write(tmp_path, value))


def test_pycocotools_reads_the_same(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    labelled = read_labelled_set(shared / "coco/val")
    reference = coco_module.COCO(str(shared / "coco/val/boxes.json"))
    capsys.readouterr()
    assert len(labelled) == len(reference.imgs) == 64
    for image in labelled.images:
        records = reference.loadAnns(reference.getAnnIds(image.image_id))
        boxes = np.array([record["bbox"] for record in records], np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(image.boxes[:, :2], boxes[:, :2])
        np.testing.assert_allclose(image.boxes[:, 2:] - image.boxes[:, :2], boxes[:, 2:], atol=1e-4)
        names = [reference.cats[record["category_id"]]["name"] for record in records]
        assert [labelled.class_names[class_id] for class_id in image.class_id] == names
        assert image.path.is_file()
