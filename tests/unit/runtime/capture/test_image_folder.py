from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.errors import EdgedetError, ImageError, SourceError
from edgedet.runtime.capture import open_source


def write_pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((8, 8, 3), 255, np.uint8))


def read_all(source) -> list:
    return list(iter(source.read, None))


def test_folder_is_read_by_name_and_not_into_depth(tmp_path: Path):
    write_pictures(tmp_path, "b.png", "A.JPG", "c.webp", ".hidden.png", "deeper/d.png")
    (tmp_path / "notes.txt").write_text("no picture")
    source = open_source(tmp_path)
    frames = read_all(source)
    assert [Path(frame.name).name for frame in frames] == ["A.JPG", "b.png", "c.webp"]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert (source.frame_count, source.live, source.moving, source.stem) == (3, False, False, tmp_path.name)


def test_glob_takes_any_depth(tmp_path: Path):
    write_pictures(tmp_path, "a/1.png", "a/b/2.png", "a/b/3.jpg")
    frames = read_all(open_source(str(tmp_path / "**/*.png")))
    assert [Path(frame.name).name for frame in frames] == ["1.png", "2.png"]


def test_broken_pictures_are_told_and_counted_as_dropped(tmp_path: Path):
    write_pictures(tmp_path, "a.png", "d.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(b"nothing")
    told: list[EdgedetError] = []
    frames = read_all(open_source(tmp_path, told.append))
    assert [(Path(frame.name).name, frame.sequence, frame.dropped_before) for frame in frames] == [
        ("a.png", 0, 0),
        ("d.png", 3, 2),
    ]
    assert ["b.png" in str(told[0]), "c.png" in str(told[1])] == [True, True]


def test_without_listener_a_broken_picture_raises_and_the_next_follows(tmp_path: Path):
    write_pictures(tmp_path, "b.png")
    (tmp_path / "a.png").write_bytes(b"")
    source = open_source(tmp_path)
    with pytest.raises(ImageError, match=r"a\.png"):
        source.read()
    frame = source.read()
    assert frame is not None and frame.sequence == 1
    assert source.read() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a folder with pictures"),
        ("*.png", "matches nothing"),
        ("*", "matches 1 other files"),
        ("none.png", "does not exist"),
    ],
)
def test_nothing_to_read_is_an_error(tmp_path: Path, text, message):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(SourceError, match=message):
        open_source(f"{tmp_path}/{text}")


def test_name_with_glob_characters_is_a_file_first(tmp_path: Path):
    write_pictures(tmp_path, "a[1].png")
    (frame,) = read_all(open_source(tmp_path / "a[1].png"))
    assert frame.image.shape == (8, 8, 3)
