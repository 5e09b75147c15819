from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedet.dataset import read_labelled_set
from edgedet.errors import DatasetError

NAMES = ("cat", "dog")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def ids(path: Path, **options: tuple[str, ...]) -> list[int | str]:
    return [image.image_id for image in read_labelled_set(path, **options).images]


def test_boxes_become_pixels_once_the_size_is_known(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"images/a.jpg": "", "labels/a.txt": "1 0.5 0.25 0.2 0.1\n\n0 0 0 .5 0 .5 1 0 1\n", "images/b.png": ""},
    )
    labelled = read_labelled_set(tmp_path, class_names=NAMES)
    first, second = labelled.images
    assert first.normalized and first.width is None
    sized = first.sized(200, 100)
    np.testing.assert_allclose(sized.boxes, [[80, 20, 120, 30], [0, 0, 100, 100]], rtol=1e-6)
    np.testing.assert_allclose(sized.area, [400, 10_000], rtol=1e-5)
    assert sized.class_id.tolist() == [1, 0]
    assert not sized.normalized and not sized.iscrowd.any()
    assert len(second) == 0  # a picture without a label file has no objects


def test_the_area_of_an_outline_is_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": "0 0 0 1 0 0 1"})
    image = read_labelled_set(tmp_path, class_names=NAMES).images[0].sized(10, 10)
    assert image.boxes.tolist() == [[0, 0, 10, 10]]
    assert image.area.tolist() == [50]


def test_outlines_are_kept_where_every_line_has_one(tmp_path: Path) -> None:
    line = "1 0.1 0.2 0.5 0.2 0.5 0.6"
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": line, "images/b.jpg": "", "images/c.jpg": ""})
    write(tmp_path, {"labels/c.txt": f"{line}\n0 .5 .5 .1 .1"})
    first, without_objects, mixed = read_labelled_set(tmp_path, class_names=NAMES).images
    (polygons,) = first.sized(100, 50).outlines
    np.testing.assert_allclose(polygons, [[[10, 10], [50, 10], [50, 30]]], rtol=1e-6)
    assert without_objects.outlines == ()
    assert mixed.outlines is None and mixed.sized(9, 9).outlines is None


@pytest.mark.parametrize(
    ("files", "start"),
    [
        ({"data.yaml": "names: [cat, dog]"}, "."),
        ({"data.yaml": "names: {0: cat, 1: dog}"}, "images"),
        ({"classes.txt": "cat\ndog\n"}, "."),
        ({"classes.txt": "cat\ndog\n"}, "labels"),
        ({"obj.names": "cat\ndog\n"}, "."),
        ({"names.json": '["cat", "dog"]'}, "."),
        ({"../data.yaml": "names: [cat, dog]"}, "."),
        ({"other.yaml": "names: [cat, dog]\nval: images"}, "other.yaml"),
    ],
)
def test_names_come_from_the_set(tmp_path: Path, files: dict[str, str], start: str) -> None:
    root = write(tmp_path / "set", {"images/a.jpg": "", "labels/a.txt": "1 .5 .5 .1 .1", **files})
    labelled = read_labelled_set(root / start, fallback_names=("never",))
    assert labelled.class_names == NAMES
    assert labelled.notes == ()


def test_given_names_go_before_the_sets_own(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": "1 .5 .5 .1 .1", "classes.txt": "x\ny"})
    assert read_labelled_set(tmp_path, class_names=NAMES).class_names == NAMES


def test_the_models_names_are_the_last_resort_and_noted(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": "1 .5 .5 .1 .1"})
    labelled = read_labelled_set(tmp_path, fallback_names=NAMES)
    assert labelled.class_names == NAMES
    assert "names no classes, so its ids were read as the model's 2 classes" in labelled.notes[0]
    with pytest.raises(DatasetError, match="Pass --names FILE, or --names coco, coco91 or voc"):
        read_labelled_set(tmp_path)


@pytest.mark.parametrize(
    ("files", "start", "expected"),
    [
        ({"images/b.jpg": "", "images/sub/a.jpg": "", "labels/b.txt": ""}, ".", ["b.jpg", "sub/a.jpg"]),
        ({"images/val/a.jpg": "", "labels/val/a.txt": ""}, ".", ["val/a.jpg"]),
        ({"images/val/a.jpg": "", "images/train/b.jpg": "", "labels/val/a.txt": ""}, "images/val", ["val/a.jpg"]),
        ({"images/val/a.jpg": "", "images/train/b.jpg": "", "labels/val/a.txt": ""}, "labels/val", ["val/a.jpg"]),
        (
            {"images/val/a.jpg": "", "images/train/b.jpg": "", "labels/val/a.txt": "", "data.yaml": "val: images/val"},
            ".",
            ["val/a.jpg"],
        ),
        (
            {
                "valid/images/a.jpg": "",
                "valid/labels/a.txt": "",
                "train/images/b.jpg": "",
                "data.yaml": "train: ../train/images\nval: ../valid/images",
            },
            ".",
            ["a.jpg"],
        ),
        (
            {
                "data.yaml": "path: d\nval: val.txt",
                "d/val.txt": "images/a.jpg\n",
                "d/images/a.jpg": "",
                "d/labels/a.txt": "",
            },
            "data.yaml",
            ["a.jpg"],
        ),
        (
            {
                "data.yaml": "val: [x/images, y/images]",
                "x/images/a.jpg": "",
                "y/images/b.jpg": "",
                "y/labels/b.txt": "",
            },
            ".",
            ["a.jpg", "b.jpg"],
        ),
    ],
)
def test_layouts(tmp_path: Path, files: dict[str, str], start: str, expected: list[str]) -> None:
    assert ids(write(tmp_path, files) / start, class_names=NAMES) == expected


def test_label_files_without_a_picture_are_noted(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": "", "labels/b.txt": "", "labels/classes.txt": "cat"})
    (note,) = read_labelled_set(tmp_path, class_names=NAMES).notes
    assert "1 label files have no picture" in note and "b.txt" in note


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 .5 .5 .1", "'class x y width height' .* got 4 values"),
        ("1 .5 .5 .1 .1 .9", "got 6 values"),
        ("1 .5 .5 .1 x", "numbers in"),
        ("dog .5 .5 .1 .1", "numbers in"),
        ("2 .5 .5 .1 .1", r"a class id in 0\.\.1 in .*, got 2"),
        ("-1 .5 .5 .1 .1", "a class id in"),
        ("0.5 .5 .5 .1 .1", "a class id in"),
        ("nan .5 .5 .1 .1", "a class id in"),
        ("1 320 240 64 48", r"fractions of the picture \(0..1\) in .*, got 320"),
        ("1 -.2 .5 .1 .1", "fractions of the picture"),
        ("1 .5 nan .1 .1", "fractions of the picture"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": f"0 .5 .5 .1 .1\n\n{line}\n"})
    with pytest.raises(DatasetError, match=message) as caught:
        read_labelled_set(tmp_path, class_names=NAMES)
    assert f"line 3 of '{tmp_path / 'labels/a.txt'}'" in str(caught.value)


def test_rounding_at_the_edge_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": "0 .5 1.001 .1 .1"})
    assert len(read_labelled_set(tmp_path, class_names=NAMES).images[0]) == 1


@pytest.mark.parametrize(
    ("files", "start", "message"),
    [
        ({"images/readme.md": "", "labels/a.txt": ""}, ".", "at least one picture, got none"),
        ({"images/a.jpg": ""}, ".", r"label files of the pictures' names, got no '.*labels/a.txt' nor any other"),
        ({"images/train/a.jpg": "", "images/val/b.jpg": ""}, ".", "one split of the set in .* got train, val"),
        ({"labels/a.txt": ""}, "labels", "a folder of pictures, got no"),
        ({"data.yaml": "names: [cat]"}, ".", r"where the pictures lie \(key val\)"),
        ({"data.yaml": "val: gone"}, ".", "the pictures of the split val"),
        ({"data.yaml": "just text"}, ".", "a data file with the keys names and val"),
        ({"data.yaml": "val: [x"}, ".", "YAML in"),
        ({"data.yaml": "names: [[1]]\nval: images", "images/a.jpg": "", "labels/a.txt": ""}, ".", "class names in"),
        ({"notes.md": ""}, ".", "a COCO JSON file, a folder that holds one, or a YOLO folder"),
        ({"notes.md": ""}, "notes.md", "a COCO JSON file"),
        ({"notes.md": ""}, "gone", "which does not exist"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, files: dict[str, str], start: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_labelled_set(write(tmp_path, files) / start, fallback_names=NAMES)


def test_a_binary_label_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.jpg": "", "labels/a.txt": ""})
    (tmp_path / "labels/a.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DatasetError, match=r"text in '.*a.txt'"):
        read_labelled_set(tmp_path, class_names=NAMES)


def test_coco_json_and_yolo_folder_of_one_set_agree(shared: Path) -> None:
    folder = shared / "coco/val"
    coco = read_labelled_set(folder)
    yolo = read_labelled_set(folder / "labels", class_names=coco.class_names)
    assert coco.path.name == "boxes.json"
    for a, b in zip(sorted(coco.images, key=lambda image: image.path), yolo.images, strict=True):
        assert a.path == b.path and a.width is not None and a.height is not None
        np.testing.assert_allclose(b.sized(a.width, a.height).boxes, a.boxes, atol=0.01)
        assert a.class_id.tolist() == b.class_id.tolist()
