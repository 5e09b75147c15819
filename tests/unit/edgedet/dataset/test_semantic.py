from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.dataset.semantic import read_semantic_set
from edgedet.errors import DatasetError

MASK = np.array([[0, 7, 255], [3, 3, 7]], np.uint8)
CATEGORIES = {"categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]}


def write_set(folder: Path, mask: np.ndarray = MASK, masks: str = "semantic", **files: str) -> Path:
    for name in ("a", "sub/b"):
        for path, content in ((f"images/{name}.png", np.zeros((2, 3, 3), np.uint8)), (f"{masks}/{name}.png", mask)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / path), content)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def labels(folder: Path, **options) -> list[list[int]]:
    return read_semantic_set(folder, **options).images[0].sized(3, 2).class_id.tolist()


@pytest.mark.parametrize("masks", ["semantic", "masks"])
@pytest.mark.parametrize("file", ["classes_json", "categories_json", "panoptic_json"])
def test_ids_of_categories_become_indices(tmp_path: Path, file, masks):
    found = read_semantic_set(write_set(tmp_path, masks=masks, **{file: json.dumps(CATEGORIES)}))
    assert found.class_names == ("cat", "dog") and found.notes == ()
    assert [image.image_id for image in found.images] == ["a", "sub/b"]
    assert found.images[1].sized(3, 2).class_id.tolist() == [[-1, 1, -1], [0, 0, 1]]


@pytest.mark.parametrize(
    "files", [{"classes_txt": "a\nb\nc\nd\ne\nf\ng\nh"}, {"classes_json": json.dumps(list("abcdefgh"))}]
)
def test_names_count_from_0(tmp_path: Path, files):
    assert labels(write_set(tmp_path, **files)) == [[0, 7, -1], [3, 3, 7]]


def test_names_that_are_given_win(tmp_path: Path):
    folder = write_set(tmp_path, classes_json=json.dumps(CATEGORIES))
    assert labels(folder, class_names=list("abcdefgh")) == [[0, 7, -1], [3, 3, 7]]


def test_the_model_s_names_are_the_last_resort(tmp_path: Path):
    found = read_semantic_set(write_set(tmp_path), fallback_names=list("abcdefgh"))
    assert found.class_names == tuple("abcdefgh")
    assert "read as the model's 8 classes" in found.notes[0]
    with pytest.raises(DatasetError, match="class names in"):
        read_semantic_set(tmp_path)


def test_16_bits(tmp_path: Path):
    mask = np.array([[0, 1000, 65_535], [1000, 1000, 255]], np.uint16)
    text = json.dumps({"categories": [{"id": 1000, "name": "tree"}, {"id": 0, "name": "void"}]})
    assert labels(write_set(tmp_path, mask, classes_json=text)) == [[0, 1, -1], [1, 1, -1]]


def test_a_palette_stands_for_its_numbers(tmp_path: Path):
    """As in PASCAL VOC's masks, whose colours are made from the numbers."""
    image = pytest.importorskip("PIL.Image")
    folder = write_set(tmp_path, classes_txt="\n".join("abcdefgh"))
    mask = image.fromarray(MASK)
    mask.putpalette([value for n in range(256) for value in (n * 37 % 256, 255 - n, n // 2)])
    mask.save(folder / "semantic/a.png")
    assert labels(folder) == [[0, 7, -1], [3, 3, 7]]


def test_a_palette_of_equal_colours_is_refused(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    folder = write_set(tmp_path, classes_txt="\n".join("abcdefgh"))
    mask = image.fromarray(MASK)
    mask.putpalette([10, 20, 30] * 256)
    mask.save(folder / "semantic/a.png")
    with pytest.raises(DatasetError, match="a palette whose colours differ"):
        labels(folder)


def test_colours_are_no_class_ids(tmp_path: Path):
    folder = write_set(tmp_path, np.zeros((2, 3, 3), np.uint8), classes_txt="a")
    with pytest.raises(DatasetError, match="with colours"):
        labels(folder)


def test_unknown_values_are_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"classes of the set, got 7"):
        labels(write_set(tmp_path), class_names=list("abcd"))


def test_another_size_is_refused(tmp_path: Path):
    found = read_semantic_set(write_set(tmp_path), class_names=list("abcdefgh"))
    with pytest.raises(DatasetError, match="a mask of the picture's 4x2 pixels"):
        found.images[0].sized(4, 2)


@pytest.mark.parametrize("content", [b"", b"no PNG", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_damaged_mask_is_told(tmp_path: Path, content):
    folder = write_set(tmp_path, classes_txt="a")
    (folder / "semantic/a.png").write_bytes(content)
    with pytest.raises(DatasetError, match="a PNG of class ids"):
        labels(folder)


def test_pictures_without_a_mask_are_left_out(tmp_path: Path):
    folder = write_set(tmp_path, classes_txt="a")
    (folder / "semantic/a.png").unlink()
    found = read_semantic_set(folder)
    assert len(found.images) == 1 and "1 of 2 pictures have no mask" in found.notes[0]
    (folder / "semantic/sub/b.png").unlink()
    with pytest.raises(DatasetError, match="with the names of the pictures"):
        read_semantic_set(folder)


@pytest.mark.parametrize(
    "text",
    ["{", '{"categories": [{"id": 1}]}', '{"categories": [{"id": 70000, "name": "a"}]}', '{"categories": [1]}'],
)
def test_a_malformed_file_of_classes_is_told(tmp_path: Path, text):
    with pytest.raises(DatasetError, match=r"classes\.json"):
        read_semantic_set(write_set(tmp_path, classes_json=text))


def test_a_folder_without_masks_is_no_set(tmp_path: Path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="a folder with images/ and semantic/ or masks/"):
        read_semantic_set(tmp_path)


def test_real_masks(shared: Path):
    found = read_semantic_set(shared / "coco/val")
    assert len(found.images) == 64 and len(found.class_names) == 133 and found.class_names[0] == "person"
    image = found.images[0]
    height, width = cv2.imread(str(image.mask_path), cv2.IMREAD_UNCHANGED).shape
    assert image.sized(width, height).class_id.max() < 133
