from __future__ import annotations

import functools
from pathlib import Path

import pytest
import videos

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame, Source, open_source


def read_until_error(source: Source) -> tuple[list[Frame], SourceError | None]:
    frames = []
    try:
        while (frame := source.read()) is not None:
            frames.append(frame)
    except SourceError as error:
        return frames, error
    finally:
        source.close()
    return frames, None


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_every_frame_in_order_with_media_time(tmp_path: Path, suffix):
    source = open_source(videos.write_video(tmp_path / f"street{suffix}", 12))
    assert (source.fps, source.frame_count, source.live, source.moving) == (25, 12, False, True)
    assert source.stem == "street"
    frames, error = read_until_error(source)
    assert error is None
    assert [frame.sequence for frame in frames] == list(range(12))
    assert [frame.timestamp_ns for frame in frames] == [number * 40_000_000 for number in range(12)]
    assert [videos.frame_number(frame.image) for frame in frames] == list(range(12))


def test_close_twice_does_nothing(tmp_path: Path):
    source = open_source(videos.write_video(tmp_path / "v.mp4", 2))
    source.close()
    source.close()
    with pytest.raises(SourceError):
        source.read()


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".avi", functools.partial(videos.cut, share=0.5)),
        (".avi", functools.partial(videos.cut, share=0.9)),
        (".mp4", lambda path: videos.cut(videos.index_first(path), 0.7)),
        (".mp4", lambda path: videos.punch(path, 0.3, 0.7)),
    ],
    ids=["avi half", "avi without its last tenth", "mp4 cut", "mp4 with a hole"],
)
def test_broken_video_delivers_what_there_is_then_says_so(tmp_path: Path, suffix, damage):
    path = damage(videos.write_video(tmp_path / f"broken{suffix}", 30, width=160, height=120))
    frames, error = read_until_error(open_source(path))
    assert error is not None and 4 <= len(frames) <= 30
    # The last one may be half a picture.
    expected = [number % 20 for number in range(len(frames) - 1)]
    assert [videos.frame_number(frame.image) for frame in frames[:-1]] == expected
    assert f"none can be decoded after frame {len(frames)} of 30" in str(error)


def test_trimmed_video_is_whole(tmp_path: Path):
    path = videos.trim(videos.write_video(tmp_path / "phone.mp4", 30), 600)
    frames, error = read_until_error(open_source(path))
    assert error is None and len(frames) == 15


@pytest.mark.parametrize(("clockwise", "dark", "shape"), [(90, "right", (64, 96)), (180, "bottom", (96, 64))])
def test_a_turned_video_stands_upright(tmp_path: Path, clockwise, dark, shape):
    path = videos.turn(videos.write_upright_video(tmp_path / "phone.mp4", width=64, height=96), clockwise)
    frames, error = read_until_error(open_source(path))
    assert error is None and len(frames) == 3
    for frame in frames:
        assert (frame.height, frame.width) == frame.image.shape[:2] == shape
        assert videos.darkest_edge(frame.image) == dark


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no video" * 50, "is damaged or of another format"),
    ],
)
def test_no_video_is_said(tmp_path: Path, data, message):
    path = tmp_path / "v.mp4"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        open_source(path)


def test_recording_without_index_is_said(tmp_path: Path):
    path = videos.cut(videos.write_video(tmp_path / "v.mp4", 20), 0.5)
    with pytest.raises(SourceError, match="lacks its index"):
        open_source(path)


@pytest.mark.parametrize("text", ["97", "/dev/video97", "/dev/null"])
def test_camera_that_is_not_there(text):
    with pytest.raises(SourceError, match=r"a camera, got .*Devices here"):
        open_source(text)
