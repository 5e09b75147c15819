"""Network streams from real servers on this machine: recordings, and cameras that stall, break off and come back."""

from __future__ import annotations

import functools
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import videos
from mjpeg_server import FileHandler, camera, serving
from rtsp_server import RtspServer
from rtsp_server_program import COLOURS
from stream_sources import Until
from system_gstreamer import needs_gstreamer

import edgedet
from edgedet.errors import SourceError
from edgedet.runtime.capture import Source, network, open_source
from edgedet.runtime.capture.network import NetworkOptions, NetworkSource
from edgedet.runtime.capture.video import OpenCvNetworkSource
from edgedet.runtime.stream import Recovery, StreamResult

PATIENT = NetworkOptions(timeout=20.0)
PATIENCE_S = 20.0


def numbers_of(source: Source) -> list[int]:
    found = []
    while (frame := source.read()) is not None:
        found.append(videos.frame_number(frame.image))
    source.close()
    return found


def read_until_it_breaks_off(source: Source) -> SourceError:
    with pytest.raises(SourceError) as caught:
        while source.read() is not None:
            pass
    return caught.value


@pytest.mark.parametrize("kind", [NetworkSource, OpenCvNetworkSource])
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_recording(tmp_path: Path, kind, suffix):
    videos.write_video(tmp_path / f"street{suffix}", 6)
    with serving(functools.partial(FileHandler, directory=str(tmp_path))) as host:
        source = kind(f"http://user:secret@{host}/street{suffix}?key=1")
        assert (source.name, source.stem) == (f"http://{host}/street{suffix}", "street")
        assert (source.live, source.frame_count, source.fps) == (False, 6, 25)
        assert numbers_of(source) == list(range(6))


def test_times_of_a_recording_are_its_own(tmp_path: Path):
    videos.write_video(tmp_path / "street.mp4", 4)
    with serving(functools.partial(FileHandler, directory=str(tmp_path))) as host:
        source = NetworkSource(f"http://{host}/street.mp4")
        frames = [source.read() for _ in range(4)]
        assert [frame.timestamp_ns for frame in frames] == [0, 40_000_000, 80_000_000, 120_000_000]
        assert source.read() is None and source.read() is None
        source.close()
    assert [videos.frame_number(frame.image) for frame in frames] == [0, 1, 2, 3], "frames outlive their source"


@pytest.mark.parametrize(("clockwise", "dark", "shape"), [(90, "right", (64, 96)), (180, "bottom", (96, 64))])
def test_a_turned_recording_stands_upright_as_with_opencv(tmp_path: Path, clockwise, dark, shape):
    videos.turn(videos.write_upright_video(tmp_path / "phone.mp4", width=64, height=96), clockwise)
    with serving(functools.partial(FileHandler, directory=str(tmp_path))) as host:
        source = NetworkSource(f"http://{host}/phone.mp4")
        image = source.read().image
        source.close()
        reference = OpenCvNetworkSource(f"http://{host}/phone.mp4").read().image
    assert image.shape[:2] == shape and videos.darkest_edge(image) == dark
    assert abs(image.astype(int) - reference).max() < 8


def test_a_recording_that_is_cut_short_is_said(tmp_path: Path):
    videos.cut(videos.index_first(videos.write_video(tmp_path / "v.mp4", 30, width=160, height=120)), 0.6)
    with serving(functools.partial(FileHandler, directory=str(tmp_path))) as host:
        source = NetworkSource(f"http://{host}/v.mp4")
        frames = []
        with pytest.raises(SourceError, match="to play to its end") as caught:
            while (frame := source.read()) is not None:
                frames.append(frame)
        source.close()
    assert len(frames) >= 4 and f"none after frame {len(frames)}" in str(caught.value)


@pytest.mark.parametrize("has_av", [True, False])
def test_pyav_where_it_is_installed(tmp_path: Path, monkeypatch, has_av):
    videos.write_video(tmp_path / "street.avi", 2)
    monkeypatch.setattr(network, "is_installed", lambda name: has_av)
    with serving(functools.partial(FileHandler, directory=str(tmp_path))) as host:
        source = open_source(f"http://{host}/street.avi")
        assert isinstance(source, NetworkSource if has_av else OpenCvNetworkSource)
        assert numbers_of(source) == [0, 1]


@pytest.mark.parametrize("kind", [NetworkSource, OpenCvNetworkSource])
def test_an_address_that_does_not_answer(tmp_path: Path, kind):
    with (
        serving(functools.partial(FileHandler, directory=str(tmp_path))) as host,
        pytest.raises(SourceError, match="a video stream") as caught,
    ):
        kind(f"http://user:secret@{host}/none.mp4")
    assert "secret" not in str(caught.value)


def test_a_camera_is_live_and_counts_what_nobody_took():
    with serving(camera()) as host:
        source = NetworkSource(f"http://{host}/live", options=PATIENT)
        assert (source.live, source.frame_count) == (True, None)
        before = time.monotonic_ns()
        frames = [source.read() for _ in range(5)]
        source.close()
        with pytest.raises(SourceError, match="which was closed"):
            source.read()
    for earlier, later in itertools.pairwise(frames):
        assert later.sequence == earlier.sequence + 1 + later.dropped_before
        assert earlier.timestamp_ns < later.timestamp_ns
    assert frames[1].timestamp_ns > before - 1e9 and frames[-1].timestamp_ns < time.monotonic_ns()


def test_a_reader_that_was_away_gets_the_newest_frame():
    handler = camera()
    with serving(handler) as host:
        source = NetworkSource(f"http://{host}/live", options=PATIENT)
        first = source.read()
        sent = next(handler.numbers)
        while next(handler.numbers) < sent + 60:
            time.sleep(0.01)
        back = time.monotonic_ns()
        source.read()
        second = source.read()
        source.close()
    assert second.sequence > first.sequence + 1
    assert second.timestamp_ns > back - 1e9


def test_a_camera_that_breaks_off_is_said_after_its_last_frame():
    with serving(camera(frames=40)) as host:
        source = NetworkSource(f"http://user:secret@{host}/live", options=PATIENT)
        error = read_until_it_breaks_off(source)
        assert "until it is stopped, got none after frame 40 (" in str(error)
        assert "secret" not in str(error)
        assert str(read_until_it_breaks_off(source)) == str(error), "it stays over"
        source.close()


def test_a_camera_that_stalls_is_not_waited_for_long():
    handler = camera()
    with serving(handler) as host:
        source = NetworkSource(f"http://{host}/live", options=NetworkOptions(timeout=0.5))
        source.read()
        handler.stalled.set()
        started = time.monotonic()
        assert "nothing came for 0.5 seconds" in str(read_until_it_breaks_off(source))
        assert time.monotonic() - started < PATIENCE_S
        source.close()
        handler.stalled.clear()


def test_a_server_that_says_nothing_is_not_waited_for_long():
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"answers within 0\.3 seconds"):
            NetworkSource(f"http://127.0.0.1:{server.getsockname()[1]}/live", options=NetworkOptions(timeout=0.3))
        assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize("end", ["interrupt", "close"])
def test_another_thread_ends_the_waiting(end):
    handler = camera()
    with serving(handler) as host:
        source = NetworkSource(f"http://{host}/live", options=NetworkOptions(timeout=60))
        handler.stalled.set()
        errors = []
        thread = threading.Thread(target=lambda: errors.append(read_until_it_breaks_off(source)))
        thread.start()
        started = time.monotonic()
        getattr(source, end)()
        thread.join(PATIENCE_S)
        assert "which was closed" in str(errors[0]) and time.monotonic() - started < PATIENCE_S
        source.close()
        source.close()
        handler.stalled.clear()


def test_no_thread_is_left():
    with serving(camera()) as host:
        source = NetworkSource(f"http://{host}/live", options=PATIENT)
        thread = source._thread
        source.read()
        del source
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a source that nobody closed"


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ("quantum", r"a decoder that this FFmpeg knows, one of .*'quantum'"),
        ("drm", r"'drm' to decode 'http://127.0.0.1:\d+/street.avi', got an error"),
    ],
)
def test_hardware_that_cannot_decode_is_never_replaced_in_silence(tmp_path: Path, hardware, message):
    videos.write_video(tmp_path / "street.avi", 2)
    with (
        serving(functools.partial(FileHandler, directory=str(tmp_path))) as host,
        pytest.raises(SourceError, match=message),
    ):
        NetworkSource(f"http://{host}/street.avi", options=NetworkOptions(hardware=hardware))


@needs_gstreamer
@pytest.mark.parametrize("codec", ["h264", "jpeg"])
def test_rtsp(codec):
    with RtspServer(codec) as server:
        source = open_source(server.address("red"))
        assert (source.live, source.fps, source.stem) == (True, 20, "red")
        frames = [source.read() for _ in range(3)]
        source.close()
    for frame in frames:
        assert (frame.width, frame.height) == (160, 120)
        assert abs(frame.image.mean((0, 1)) - COLOURS["red"]).max() < 20
    assert frames[0].timestamp_ns < frames[2].timestamp_ns


@needs_gstreamer
def test_rtsp_that_freezes_and_rtsp_that_dies():
    with RtspServer() as server:
        source = NetworkSource(server.address("red"), options=NetworkOptions(timeout=1.5))
        source.read()
        server.freeze()
        assert "nothing came for 1.5 seconds" in str(read_until_it_breaks_off(source))
        source.close()
    with RtspServer() as server:
        source = NetworkSource(server.address("red"), options=PATIENT)
        source.read()
        server.stop()
        started = time.monotonic()
        assert "the server ended it" in str(read_until_it_breaks_off(source))
        with pytest.raises(SourceError, match="connection refused"):
            NetworkSource(server.address("red"), options=PATIENT)
        assert time.monotonic() - started < PATIENCE_S
        source.close()


@needs_gstreamer
def test_a_stream_goes_on_when_one_of_its_servers_dies_and_comes_back(write_model):
    told = Until()
    recovery = Recovery(backoff_s=(0.1, 0.3), on_event=lambda event: told((event.kind, event.source_index)))
    with RtspServer() as lasting, RtspServer() as dying:
        sources = [lasting.address("red"), dying.address("blue")]
        stream = edgedet.open_stream(write_model(), sources, recovery=recovery)
        with stream:
            results = iter(stream)
            wait_for_both(results)
            dying.stop()
            told.count(1)
            assert {next(results).source_index for _ in range(8)} >= {0}
            only = [next(results).source_index for _ in range(8)]
            assert set(only) == {0}, "the other one runs on"
            dying.start()
            wait_for_both(results)
            kinds = told.count(2)
    assert kinds[0] == ("failed", 1) and kinds[-1] == ("recovered", 1)
    assert {index for _, index in kinds} == {1}


def wait_for_both(results: Iterator[StreamResult]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    seen = set()
    while seen != {0, 1}:
        seen.add(next(results).source_index)
        assert time.monotonic() < deadline
