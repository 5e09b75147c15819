from __future__ import annotations

from pathlib import Path

import pytest
import videos

from edgedet.runtime.capture.container import Container, read_container


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_whole_file_misses_nothing(tmp_path: Path, suffix):
    container = read_container(videos.write_video(tmp_path / f"v{suffix}", 10))
    assert container == Container(missing_bytes=0, has_index=True, counts_frames=True, shown=1.0)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_missing_bytes_are_counted(tmp_path: Path, suffix):
    path = videos.write_video(tmp_path / f"v{suffix}", 10)
    if suffix == ".mp4":
        videos.index_first(path)
    size = path.stat().st_size
    videos.cut(path, 0.7)
    assert read_container(path).missing_bytes == size - path.stat().st_size


def test_mp4_without_index(tmp_path: Path):
    assert not read_container(videos.cut(videos.write_video(tmp_path / "v.mp4", 10), 0.5)).has_index


def test_edit_list_shortens(tmp_path: Path):
    path = videos.trim(videos.write_video(tmp_path / "v.mp4", 30), 600)
    assert read_container(path).shown == pytest.approx(0.5)


EBML = b"\x1a\x45\xdf\xa3"


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        (EBML + b"\x82ab" + b"\x18\x53\x80\x67" + b"\x85" + b"12345", 0),
        (EBML + b"\x82ab" + b"\x18\x53\x80\x67" + b"\x40\x05" + b"12", 3),
        (EBML + b"\x82ab" + b"\x18\x53\x80\x67" + b"\x01\xff\xff\xff\xff\xff\xff\xff" + b"12", 0),
    ],
    ids=["whole", "cut", "live recording of unknown size"],
)
def test_matroska_says_its_size(tmp_path: Path, data, missing):
    path = tmp_path / "v.mkv"
    path.write_bytes(data)
    assert read_container(path).missing_bytes == missing


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\0\0\0\x01ftyp", b"\0\0\0\x10moov\0\0\0\x08mvhd", EBML, b"RIFF\0\0\0\0AVI "]
)
def test_nonsense_is_survived(tmp_path: Path, data):
    path = tmp_path / "nonsense"
    path.write_bytes(data)
    assert isinstance(read_container(path), Container)
