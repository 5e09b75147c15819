"""The camera pulled out and plugged in again; the last tests of this folder, since they take all cameras away."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from virtual_cameras import DRIVER, FIRST, MAIN, SECOND, SMALL

import edgedet
from edgedet.errors import SourceError
from edgedet.runtime.capture import CameraOptions
from edgedet.runtime.sinks import SINKS, SinkRunner
from edgedet.runtime.stream import Recovery, SourceEvent


@pytest.fixture
def plug() -> Iterator[None]:
    yield
    gc.collect()
    if not Path(FIRST).exists():  # unplugged, or under other numbers
        if (DRIVER / "vivid.0").exists():
            pull_out()
        plug_in()
        wait_for_device(Path(FIRST))


def pull_out() -> None:
    (DRIVER / "unbind").write_text("vivid.0")


def plug_in() -> None:
    (DRIVER / "bind").write_text("vivid.0")


@pytest.mark.parametrize("waiting", [True, False], ids=["while it is waited for", "between two frames"])
def test_unplugged_and_plugged_in_again(open_camera, plug, waiting):
    camera = open_camera(pixel_format="YUYV")
    held = camera.read()
    before = held.planes[0].copy()

    def unplug() -> None:
        time.sleep(0.5 if waiting else 0)
        pull_out()

    thread = threading.Thread(target=unplug)
    thread.start()
    if not waiting:
        thread.join()
    with pytest.raises(SourceError, match=r"got none: it was unplugged. Plug it in again"):
        while True:
            camera.read().release()
    thread.join()
    assert (held.planes[0] == before).all(), "a frame that is held stays"
    held.release()
    camera.close()
    with pytest.raises(SourceError, match=r"'/dev/video0', which does not exist. Devices here: none"):
        open_camera()
    plug_in()
    wait_for_device(Path(FIRST))
    with open_camera(pixel_format="YUYV").read() as frame:
        assert frame.image.any()


def test_a_camera_is_found_under_another_number(open_camera, plug):
    """A frame that is held keeps the old number taken; the camera is known by its name and its socket."""
    camera = open_camera(pixel_format="YUYV")
    held, reopen = camera.read(), camera.reopener()
    pull_out()
    camera.close()
    with pytest.raises(SourceError, match=r"vivid at platform:vivid-000, got these cameras: none"):
        reopen()
    plug_in()
    again = reopen()
    try:
        assert again.name == SECOND, "which was the number of another camera"
        with again.read() as frame:
            assert frame.image.any() and held.planes[0].any()
        assert again.granted.camera == f"'{again.name}' (vivid)"
    finally:
        again.close()
        held.release()


@pytest.mark.parametrize("memory", ["mmap", "userptr"])
def test_a_stream_goes_on_and_its_files_are_whole(model, plug, tmp_path, memory):
    """Pulled while it runs, plugged in as soon as that was noticed: results go on, nothing written is lost."""
    events: list[SourceEvent] = []

    def plug_in_after_a_failure(event: SourceEvent) -> None:
        events.append(event)
        if event.kind == "failed" and not (DRIVER / "vivid.0").exists():
            plug_in()

    video, lines = tmp_path / "seen.mp4", tmp_path / "seen.jsonl"
    camera = CameraOptions(**SMALL, pixel_format="YUYV", memory=memory)
    recovery = Recovery(backoff_s=(0.1,), on_event=plug_in_after_a_failure)
    before = after = 0
    with edgedet.open_stream(model, FIRST, camera=camera, recovery=recovery) as stream:
        sinks = [SINKS["video"](video, 30, real_time=True), SINKS["json"](lines)]
        with SinkRunner(sinks, live=True) as runner:
            for result in stream:
                runner.write(result)
                if any(event.kind == "recovered" for event in events):
                    after += 1
                else:
                    before += 1
                    if before == 8:
                        pull_out()
                if after == 8:
                    break
        assert not runner.errors
    assert events[0].kind == "failed" and "unplugged" in str(events[0].error)
    assert [event.kind for event in events].count("recovered") == 1 and events[-1].kind == "recovered"
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(written) >= before + after - runner.dropped >= 8
    assert [line["timestamp"] for line in written] == sorted(line["timestamp"] for line in written)
    assert playable_frames(video) >= 16 - runner.dropped
    assert stream.statistics.sources[0].restarts == 1


def test_the_program_goes_on_and_its_files_are_whole(model, plug, tmp_path):
    video = tmp_path / "seen.mp4"
    words = f"run {model} --source 0 --camera-size 320x180 --camera-fps 30 --json - --out {video}".split()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MAIN, *words], **pipes) as process:
        said = [process.stderr.readline()]
        written = [json.loads(process.stdout.readline()) for _ in range(5)]
        pull_out()
        while "unplugged" not in said[-1]:
            said.append(process.stderr.readline())
            assert said[-1], said
        plug_in()
        last = time.monotonic()  # the guest's clock is the one of the driver's timestamps
        while written[-1]["timestamp"] < last:
            written.append(json.loads(process.stdout.readline()))
        written += [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        rest = process.stderr.read()
        assert process.wait(30) == 130, rest
    assert "is opened again in" in said[-1]
    assert playable_frames(video) >= 10


def playable_frames(path: Path) -> int:
    """Count the frames that can be decoded, every one of which shows something."""
    reader = cv2.VideoCapture(str(path))
    count = 0
    while (read := reader.read())[0]:
        assert np.any(read[1])
        count += 1
    reader.release()
    return count


def wait_for_device(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.is_char_device():
        assert time.monotonic() < deadline
        time.sleep(0.05)
