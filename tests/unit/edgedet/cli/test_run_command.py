from __future__ import annotations

import contextlib
import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import videos

from edgedet.cli.main import main

Run = Callable[..., tuple[int, str, str]]
WriteModel = Callable[..., Path]

# What the network of tests/unit/conftest.py finds in a white picture of twice its input's size.
DOG, CAT = [16, 16, 80, 48], [20, 60, 60, 120]
EDGEDET = [sys.executable, "-c", "from edgedet.cli.main import main; main()"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def model(write_model: WriteModel) -> Path:
    return write_model()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path) -> Run:
    """Call ``edgedet run MODEL``: exit code, standard output, standard error in one line."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", "run", str(model), *map(str, words), "--threads", "1"])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return call


def write_picture(path: str | Path, level: int = 255) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((128, 128, 3), level, np.uint8))


def lines(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_picture_by_default(run: Run):
    write_picture("in/white.png")
    code, out, err = run("--source", "in/white.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "1 picture, 2 objects: 1 dog, 1 cat"
    assert out.splitlines()[1].startswith("A picture: pre-processing ")
    assert out.splitlines()[2:] == ["Wrote 'white.detected.png'"]
    drawn = cv2.imread("white.detected.png")
    assert drawn.shape == (128, 128, 3) and (drawn != 255).any()


def test_folder_by_default(run: Run):
    for name in ("b.png", "a.png", "a.jpg"):
        write_picture(f"in/{name}")
    code, out, _ = run("--source", "in")
    assert code == 0 and "3 pictures, 6 objects: 3 dog, 3 cat" in out and "Wrote 'in.detected/'" in out
    assert sorted(path.name for path in Path("in.detected").iterdir()) == ["a.jpg", "a.png", "b.png"]


def test_video_by_default(run: Run):
    videos.write_video(Path("street.avi"), 8, fps=29.97)
    code, out, _ = run("--source", "street.avi")
    assert code == 0 and out.startswith("8 frames, ") and "frames per second" in out
    rate, frames = videos.read_video(Path("street.detected.mp4"))
    assert rate == pytest.approx(29.97, abs=0.002) and len(frames) == 8
    assert here() == ["street.avi", "street.detected.mp4"]


def test_json_lines_and_nothing_else(run: Run):
    write_picture("in/white.png")
    code, out, _ = run("--source", "in/*.png", "--json", "out.jsonl")
    assert code == 0 and "Wrote 'out.jsonl'" in out and here() == ["in", "out.jsonl"]
    (line,) = lines("out.jsonl")
    assert (line["frame"], line["source"]) == (0, "in/white.png")
    assert line["detections"] == [
        {"box": DOG, "score": 0.9, "class_id": 1, "class_name": "dog"},
        {"box": CAT, "score": 0.6, "class_id": 0, "class_name": "cat"},
    ]


def test_json_to_standard_output_is_alone_there(run: Run):
    videos.write_video(Path("v.avi"), 3)
    code, out, err = run("--source", "v.avi", "--json", "-")
    assert code == 0 and "3 frames" in err
    assert [(line["frame"], line["timestamp"]) for line in map(json.loads, out.splitlines())] == [
        (0, 0),
        (1, 0.04),
        (2, 0.08),
    ]


def test_coco_and_pictures_together(run: Run):
    write_picture("in/000000000139.png")
    write_picture("in/7.png")
    code, out, _ = run("--source", "in", "--coco", "out.json", "--out", "drawn")
    assert code == 0 and "Wrote 'drawn/'" in out and "Wrote 'out.json'" in out
    records = json.loads(Path("out.json").read_text())
    assert [(record["image_id"], record["category_id"]) for record in records] == [(139, 1), (139, 0), (7, 1), (7, 0)]
    assert records[0]["bbox"] == [16, 16, 64, 32]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["dog", "cat"]),
        (("--conf", 0.7), ["dog"]),
        (("--conf", 0.1), ["dog", "cat", "cat"]),
        (("--max-det", 1), ["dog"]),
        (("--classes", "cat"), ["cat"]),
        (("--classes", "Cat, 1"), ["dog", "cat"]),
        (("--classes", "1"), ["dog"]),
    ],
)
def test_selection(run: Run, options, names):
    write_picture("white.png")
    assert run("--source", "white.png", "--json", "out.jsonl", *options)[0] == 0
    assert [item["class_name"] for item in lines("out.jsonl")[0]["detections"]] == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "dgo"), "the model has no class 'dgo'; did you mean 'dog'?"),
        (("--classes", "zebra"), "the model has no class 'zebra'; it has cat, dog"),
        (("--classes", "2"), "the model has no class '2'"),
        (("--classes", ","), "names no class"),
        (("--conf", "2"), "not in the range"),
        (("--max-det", "0"), "not in the range"),
        (("--json", "x", "--coco", "x"), "must name different files"),
    ],
)
def test_wrong_usage(run: Run, options, message):
    write_picture("white.png")
    code, out, err = run("--source", "white.png", *options)
    assert (code, out) == (2, "") and message in err
    assert here() == ["white.png"]


def test_broken_picture_among_good_ones(run: Run):
    for name in ("a.png", "c.png", "d.png"):
        write_picture(f"in/{name}")
    Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:-20])
    Path("in/e.jpg").write_bytes(b"")
    code, out, err = run("--source", "in", "--out", "out", "--json", "out.jsonl")
    assert code == 1 and "3 pictures, 6 objects" in out
    assert "skipped: Expected a complete picture, got 'in/b.png'" in err
    assert "got 'in/e.jpg', which is empty" in err
    assert err.endswith(
        "error: Expected 5 pictures that can be read, got 2 that cannot. "
        "See the messages above; the other 3 were processed"
    )
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png", "d.png"]
    assert [line["frame"] for line in lines("out.jsonl")] == [0, 2, 3]


def test_nothing_but_broken_pictures(run: Run):
    Path("in").mkdir()
    Path("in/a.jpg").write_bytes(b"")
    code, out, err = run("--source", "in", "--json", "out.jsonl")
    assert (code, out) == (1, "") and "1 that cannot" in err


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_video_that_breaks_off_is_written_up_to_there(run: Run, suffix):
    path = videos.write_video(Path(f"v{suffix}"), 40)
    videos.cut(path if suffix == ".avi" else videos.index_first(path), 0.75)
    code, out, err = run("--source", path, "--json", "out.jsonl", "--out", "out.mp4")
    written = len(lines("out.jsonl"))
    assert code == 1 and 4 <= written < 40
    assert f"none can be decoded after frame {written} of 40" in err
    assert f"{written} frames" in out and "Wrote 'out.mp4'" in out
    assert len(videos.read_video(Path("out.mp4"))[1]) == written


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.jpg", "'none.jpg', which does not exist"),
        ("none/*.jpg", "'none/*.jpg', which matches nothing"),
        ("empty", "'empty', which has none"),
        ("empty.jpg", "'empty.jpg', which is empty"),
        ("empty.mp4", "'empty.mp4', which is empty"),
        ("97", "got '/dev/video97', which does not exist"),
        ("/dev/video97", "'/dev/video97', which does not exist"),
        ("rtsp://127.0.0.1:1/x", "'rtsp://127.0.0.1:1/x', which does not answer"),
    ],
)
def test_bad_source_is_one_message_and_no_noise(model: Path, source, message):
    Path("empty").mkdir()
    Path("empty.jpg").touch()
    Path("empty.mp4").touch()
    done = subprocess.run(
        [*EDGEDET, "run", str(model), "--source", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert here() == ["empty", "empty.jpg", "empty.mp4"]


def test_broken_video_makes_no_noise(model: Path):
    videos.cut(videos.write_video(Path("v.avi"), 40), 0.6)
    command = [*EDGEDET, "run", str(model), "--source", "v.avi"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "none/x.png"), "'none', which does not exist. Run: mkdir -p 'none'"),
        (("--out", "white.png/x.png"), "'white.png', which is no folder"),
        (("--out", "x.xyz"), "Change the suffix of --out"),
        (("--out", "white.png"), "beside its source"),
        (("--json", "none/x"), "'none', which does not exist"),
        (("--coco", "."), "the folder '.'"),
    ],
)
def test_place_that_cannot_be_written(run: Run, options, message):
    write_picture("white.png")
    before = Path("white.png").read_bytes()
    code, out, err = run("--source", "white.png", *options)
    assert code == 1 and message in err and "Wrote" not in out
    assert here() == ["white.png"] and Path("white.png").read_bytes() == before


def test_show_without_a_screen(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    write_picture("white.png")
    code, _, err = run("--source", "white.png", "--show")
    assert code == 1 and "a screen for --show" in err


def test_full_standard_output_is_one_message(model: Path):
    write_picture("white.png")
    with Path("/dev/full").open("w") as full:
        command = [*EDGEDET, "run", str(model), "--source", "white.png", "--json", "-"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: Expected room to write standard output, got No space left on device"
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_reader_that_leaves_ends_the_run(model: Path):
    videos.write_video(Path("v.avi"), 300)
    command = [*EDGEDET, "run", str(model), "--source", "v.avi", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 0 and "Traceback" not in err and "Exception ignored" not in err


def test_bar_with_frames_per_second_on_a_terminal(model: Path):
    videos.write_video(Path("v.avi"), 200)
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=read_terminal, args=(ours, shown))
    command = [*EDGEDET, "run", str(model), "--source", "v.avi", "--json", "-"]
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=terminal) as process:
        os.close(theirs)
        reader.start()
        assert process.stdout
        printed = process.stdout.read()
        assert process.wait(60) == 0
    reader.join()
    os.close(ours)
    bar = b"".join(shown)
    assert b"frames per second" in bar and b"200/200" in bar
    assert [json.loads(line)["frame"] for line in printed.splitlines()] == list(range(200))


def read_terminal(descriptor: int, chunks: list[bytes]) -> None:
    """Read until nobody writes any more, which a pseudo-terminal says with an error."""
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)


class EndlessStream(http.server.BaseHTTPRequestHandler):
    """A camera as many network cameras are: JPEG pictures, one after the other, for ever."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for number in range(10**9):
                data = cv2.imencode(".jpg", videos.numbered_frame(number, 128, 128))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.02)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def camera() -> Iterator[str]:
    """The address of a live stream that never ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EndlessStream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_live_video_plays(model: Path, camera: str, number, code):
    command = [*EDGEDET, "run", str(model), "--source", camera, "--out", "out.mp4", "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        # Each line arrives as soon as its frame is done.
        live = [json.loads(process.stdout.readline()) for _ in range(10)]
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert live[0]["source"] == camera and live[-1]["timestamp"] > live[0]["timestamp"]
    assert "Wrote 'out.mp4'" in err and "Traceback" not in err
    # The first pictures waited in the connection and arrive together, so they share a few frames of the video.
    assert len(videos.read_video(Path("out.mp4"))[1]) >= 2
    assert here() == ["out.mp4"] and all(json.loads(line) for line in out.splitlines())
