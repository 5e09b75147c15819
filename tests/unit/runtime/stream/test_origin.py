from __future__ import annotations

from pathlib import Path

import pytest
import videos
from stream_sources import ArraySource

from edgedet.errors import SourceError, SpecError
from edgedet.runtime.capture import CameraOptions, NetworkOptions
from edgedet.runtime.stream.origin import Origin, close_all, open_all


def test_what_is_open_stays_as_it_is_and_the_rest_is_opened(tmp_path: Path):
    path = videos.write_video(tmp_path / "v.avi", 3)
    given, with_origin = ArraySource(1), Origin(ArraySource(1), lambda: ArraySource(2))
    first, second, third = open_all([given, with_origin, path])
    assert first.source is given and first.reopen is None
    assert second is with_origin
    assert third.source.name == str(path) and third.reopen is not None
    third.source.close()
    again = third.reopen()
    assert again is not third.source and again.read().sequence == 0
    again.close()


@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_one_needs_no_list(tmp_path: Path, kind):
    (origin,) = open_all(kind(videos.write_video(tmp_path / "v.avi", 3)))
    close_all([origin.source])


def test_none_at_all():
    with pytest.raises(SpecError, match="at least one source, got none"):
        open_all([])


def test_where_one_cannot_be_opened_the_others_are_closed(tmp_path: Path):
    before, after = ArraySource(1), Origin(ArraySource(1))
    with pytest.raises(SourceError, match="does not exist"):
        open_all([before, str(tmp_path / "none.mp4"), after])
    assert before.closed and after.source.closed


def test_options_for_a_camera_where_there_is_none(tmp_path: Path):
    path = str(videos.write_video(tmp_path / "v.avi", 3))
    given = ArraySource(1, name="memory")
    with pytest.raises(SourceError, match=r"for the options of a camera, got '.*v\.avi', 'memory'"):
        open_all([path, given], camera=CameraOptions(size=(640, 480)))
    assert given.closed


def test_options_for_a_camera_are_for_the_cameras(tmp_path: Path):
    """The file before is opened without them; the camera is not there, which is what fails."""
    path = str(videos.write_video(tmp_path / "v.avi", 3))
    with pytest.raises(SourceError, match="/dev/video97"):
        open_all([path, 97], camera=CameraOptions(size=(640, 480)))


def test_options_for_a_network_stream_where_there_is_none(tmp_path: Path):
    path = str(videos.write_video(tmp_path / "v.avi", 3))
    with pytest.raises(SourceError, match=r"a network stream to open, .* got '.*v\.avi'"):
        open_all([path], network=NetworkOptions(timeout=3))


def test_options_for_a_network_stream_are_for_the_network_streams(tmp_path: Path):
    """The file before is opened without them; nothing decodes with what is named, which is what fails."""
    pytest.importorskip("av")
    path = str(videos.write_video(tmp_path / "v.avi", 3))
    with pytest.raises(SourceError, match="abacus"):
        open_all([path, "http://127.0.0.1:9/live"], network=NetworkOptions(hardware="abacus"))


def test_pictures_that_cannot_be_read_are_told(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"broken")
    told = []
    (origin,) = open_all(tmp_path, told.append)
    assert origin.source.read() is None and len(told) == 1
