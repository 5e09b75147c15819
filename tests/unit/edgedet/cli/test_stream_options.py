"""``edgedet run`` with several sources, policies, batches, tracks, statistics and metrics."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import videos
from prometheus_client.parser import text_string_to_metric_families

from edgedet.cli.main import main

Run = Callable[..., tuple[int, str, str]]
EDGEDET = [sys.executable, "-c", "from edgedet.cli.main import main; main()"]
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def model(write_model: Callable[..., Path]) -> Path:
    return write_model()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path) -> Run:
    """Call ``edgedet run MODEL``: exit code, standard output, standard error in one line."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", "run", str(model), *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, " ".join(err.split())

    return call


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_several_sources_each_into_its_own_file(run: Run):
    for name, frames in (("a.avi", 7), ("b.avi", 4)):
        videos.write_video(Path(name), frames)
    code, out, _ = run("--source", "a.avi", "--source", "b.avi")
    assert code == 0 and out.startswith("11 frames, ")
    assert "'a.avi': 7 frames, " in out and "'b.avi': 4 frames, " in out
    for stem, frames in (("a", 7), ("b", 4)):
        assert f"Wrote '{stem}.detected.mp4'" in out
        assert len(videos.read_video(Path(f"{stem}.detected.mp4"))[1]) == frames


def test_lines_of_several_sources_say_which(run: Run):
    for name in ("a.avi", "b.avi"):
        videos.write_video(Path(name), 5)
    code, out, _ = run("--source", "a.avi", "--source", "b.avi", "--json", "-")
    assert code == 0
    for name in ("a.avi", "b.avi"):
        assert [line["frame"] for line in lines(out) if line["source"] == name] == list(range(5))


def test_a_damaged_file_among_others_ends_last(run: Run):
    videos.write_video(Path("good.avi"), 30)
    videos.cut(videos.write_video(Path("bad.avi"), 30), 0.6)
    code, out, err = run("--source", "bad.avi", "--source", "good.avi", "--json", "out.jsonl")
    seen = lines(Path("out.jsonl").read_text())
    assert code == 1 and "Source 'bad.avi' failed: " in err and "cut short or damaged" in err
    assert [line["frame"] for line in seen if line["source"] == "good.avi"] == list(range(30))
    assert "Wrote 'out.jsonl'" in out and any(line["source"] == "bad.avi" for line in seen)


@pytest.mark.parametrize(
    ("policy", "frames"), [("every", list(range(25))), ("rate=5", [0, 5, 10, 15, 20]), ("rate=100", list(range(25)))]
)
def test_policies(run: Run, policy, frames):
    videos.write_video(Path("v.avi"), 25, fps=25)
    code, out, _ = run("--source", "v.avi", "--policy", policy, "--json", "-")
    assert code == 0 and [line["frame"] for line in lines(out)] == frames


def test_latest_skips_and_says_so(run: Run):
    videos.write_video(Path("v.avi"), 200)
    code, out, _ = run("--source", "v.avi", "--policy", "latest", "--json", "out.jsonl")
    seen = [line["frame"] for line in lines(Path("out.jsonl").read_text())]
    assert code == 0 and seen == sorted(set(seen)) and seen[-1] == 199
    skipped = re.search(r"; (\d+) skipped", out)
    assert int(skipped[1] if skipped else 0) == 200 - len(seen)


def test_tracks(run: Run):
    videos.write_video(Path("v.avi"), 20)
    code, out, _ = run("--source", "v.avi", "--track", "--conf", 0.3, "--json", "-")
    assert code == 0
    found = [item for line in lines(out) for item in line["detections"]]
    assert found and {item["class_name"]: item["track_id"] for item in found if item.get("track_id", -1) > 0}
    dogs = {item["track_id"] for item in found if item["class_name"] == "dog" and item.get("track_id", -1) > 0}
    assert len(dogs) == 1, "it stays the same dog"


def test_a_batch(write_model: Callable[..., Path], run: Run):
    write_model(batch=None)
    videos.write_video(Path("v.avi"), 10)
    code, out, _ = run("--source", "v.avi", "--batch", 4, "--json", "-")
    assert code == 0 and [line["frame"] for line in lines(out)] == list(range(10))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--policy", "newest"), 2, "Expected every, latest or rate=N with N results per second, got 'newest'"),
        (("--policy", "rate=0"), 2, "got 'rate=0'"),
        (("--batch", "many"), 2, "Expected a number of pictures such as 4, or auto, got 'many'"),
        (("--batch", "0"), 2, "got '0'"),
        (("--metrics", "here"), 2, "Expected [HOST:]PORT such as 9100 or 0.0.0.0:9100, got 'here'"),
        (("--log-stats", "-1"), 2, "not in the range"),
        (("--camera-fps", "30"), 1, "Expected a camera to open, for the options of a camera, got 'v.avi'"),
        (("--network-timeout", "3"), 1, "for the options of a network stream, got 'v.avi'"),
        (("--network-transport", "pigeon"), 2, "is not one of"),
    ],
)
def test_wrong_usage(run: Run, options, code, message):
    videos.write_video(Path("v.avi"), 2)
    assert run("--source", "v.avi", *options)[::2][0] == code
    assert message in run("--source", "v.avi", *options)[2]
    assert not Path("v.detected.mp4").exists()


def test_a_batch_that_the_model_does_not_take(write_model: Callable[..., Path], run: Run):
    write_model(batch=1)
    videos.write_video(Path("v.avi"), 2)
    code, _, err = run("--source", "v.avi", "--batch", 2)
    assert code == 1 and "Expected a batch of from 1 to 1" in err


class HangingStream(http.server.BaseHTTPRequestHandler):
    """A camera that sends some pictures and then nothing, for as long as anybody listens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        server: HangingServer = self.server  # type: ignore[assignment]
        with contextlib.suppress(OSError):
            for number in range(30):
                data = cv2.imencode(".jpg", videos.numbered_frame(number, 128, 128))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                server.released.wait(0.02)
            server.hanging.set()
            server.released.wait(PATIENCE_S)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class HangingServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    released: threading.Event
    hanging: threading.Event
    url: str


@pytest.fixture
def hanging_camera() -> Iterator[HangingServer]:
    with HangingServer(("127.0.0.1", 0), HangingStream) as server:
        server.released, server.hanging = threading.Event(), threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/stream.mjpg"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_source_that_hangs_does_not_keep_the_file(model: Path, hanging_camera: HangingServer, number, code):
    words = ["--source", hanging_camera.url, "--out", "out.mp4", "--json", "-"]
    with subprocess.Popen(
        [*EDGEDET, "run", str(model), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert json.loads(process.stdout.readline())["source"] == hanging_camera.url
        assert hanging_camera.hanging.wait(PATIENCE_S)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    assert "Wrote 'out.mp4'" in err and "Traceback" not in err and "Fatal" not in err
    assert len(videos.read_video(Path("out.mp4"))[1]) >= 2


def test_metrics_and_lines_while_it_runs(model: Path, hanging_camera: HangingServer):
    words = ["--source", hanging_camera.url, "--json", "-", "--metrics", "0", "--log-stats", "0.05"]
    with subprocess.Popen(
        [*EDGEDET, "run", str(model), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = re.match(r"Metrics: (http://127\.0\.0\.1:\d+/metrics)$", process.stderr.readline())
        for _ in range(3):
            process.stdout.readline()
        with urllib.request.urlopen(address[1], timeout=PATIENCE_S) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    samples = {sample.name: sample for family in families for sample in family.samples}
    results = samples["edgedet_results_total"]
    assert results.value >= 3 and results.labels == {"source": hanging_camera.url, "index": "0"}
    assert samples["edgedet_result_age_seconds_count"].value >= 3
    assert re.match(r"\d+\.\d results per second, \d+ in all", line), line
    assert process.returncode == 130
