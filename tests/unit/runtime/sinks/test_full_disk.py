"""A full disk, for real: the process may write files of a few kilobytes only, and /dev/full takes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import videos

from edgedet.errors import SinkError
from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.sinks.json_lines import JsonLinesSink
from edgedet.runtime.stream import Latencies, StreamResult

PROGRAM = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from edgedet.errors import SinkError
from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.sinks import SINKS
from edgedet.runtime.stream import Latencies, StreamResult

kind, path, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
noise = np.random.default_rng(0)

def result(sequence):
    image = noise.integers(0, 255, (240, 320, 3), np.uint8)
    found = Detections(np.ones((3, 4), np.float32), np.ones(3, np.float32), np.zeros(3, np.int64), ("cat",))
    return StreamResult(Frame((image,), sequence, 0, f"{sequence}.jpg"), found, Latencies(), 0)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = SINKS[kind](path, *([lambda frame: frame.sequence] if kind == "coco" else []))
sink.write(result(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for sequence in range(1, 60):
        sink.write(result(sequence))
    sink.close()
except SinkError as error:
    print(error)
    sink.close()
    sys.exit(1)
"""


def run(kind: str, path: Path, limit: int) -> str:
    """Write sixty frames, and return the error."""
    command = [sys.executable, "-c", PROGRAM, kind, str(path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_video_that_does_not_fit_leaves_the_one_before(tmp_path: Path, suffix):
    path = videos.write_video(tmp_path / f"out{suffix}", 3)
    assert f"Expected room to write '{path}'" in run("video", path, 200_000)
    assert len(videos.read_video(path)[1]) == 3
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_pictures_written_before_stay(tmp_path: Path):
    folder = tmp_path / "out"
    assert f"Expected room and permission to write '{folder / '1.jpg'}', got File too large" in run(
        "pictures", folder, 20_000
    )
    assert [item.name for item in folder.iterdir()] == ["0.jpg"]


def test_lines_written_before_stay(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    assert f"Expected room to write '{path}', got File too large" in run("json", path, 5_000)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
    assert 10 < len(lines) < 60 and [item.name for item in tmp_path.iterdir()] == ["out.jsonl"]


def test_records_written_before_stay(tmp_path: Path):
    path = tmp_path / "out.json"
    assert f"Expected room to write '{path}', got File too large" in run("coco", path, 5_000)
    records = json.loads(path.read_text())
    assert len(records) % 3 == 0 and 10 < len(records) < 180


def test_device_without_room():
    sink = JsonLinesSink("/dev/full")
    found = Detections.empty()
    frame = Frame((videos.numbered_frame(0),), 0, 0, "memory")
    with pytest.raises(SinkError, match="Expected room to write '/dev/full', got No space left on device"):
        sink.write(StreamResult(frame, found, Latencies(), 0))
    sink.close()
    assert sink.wrote is None
