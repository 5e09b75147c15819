from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import videos
from click import UsageError
from mqtt_broker import Listener, running_broker, wait_until
from sink_results import sink_result

from edgedet.cli.main import main
from edgedet.cli.sink_options import Outputs, open_sinks
from edgedet.errors import SinkError
from edgedet.runtime.capture import open_source
from edgedet.runtime.sinks import OneSource, Sink
from edgedet.runtime.sinks.shared_memory import SharedMemoryReader

EDGEDET = [sys.executable, "-c", "from edgedet.cli.main import main; main()"]
SHM = Path("/dev/shm")

needs_shared_memory = pytest.mark.skipif(not SHM.is_dir(), reason="needs POSIX shared memory at /dev/shm")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("EDGEDET_WEB_TOKEN", raising=False)
    monkeypatch.delenv("EDGEDET_MQTT", raising=False)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"edgedet-test-{uuid.uuid4().hex}"
    yield name
    for path in SHM.glob(f"{name}*"):
        path.unlink()


@pytest.fixture
def model(write_model: Callable[..., Path]) -> Path:
    return write_model()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: Path):
    """Call ``edgedet run MODEL``: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["edgedet", "run", str(model), *map(str, words), "--threads", "1"])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@contextlib.contextmanager
def opened(*paths: Path, **wanted: object) -> Iterator[list[Sink]]:
    """The sinks of some sources for the outputs that are wanted."""
    names = Outputs.__dataclass_fields__
    outputs = Outputs(**{**dict.fromkeys(names), "show": False, **wanted})
    sources = [open_source(path) for path in paths]
    with contextlib.ExitStack() as resources:
        for source in sources:
            resources.callback(source.close)
        yield open_sinks(outputs, sources, 0.25, resources)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program that does not outlive a test that fails."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def street(folder: str = ".", frames: int = 4) -> Path:
    Path(folder).mkdir(exist_ok=True)
    return videos.write_video(Path(folder) / "street.avi", frames)


def test_several_videos_have_a_file_each(run):
    code, out, _ = run("--source", street("a", 3), "--source", street("b", 5), "--out", "out", "--json", "out.jsonl")
    assert code == 0 and "Wrote 'out/street.detected.mp4'" in out and "Wrote 'out/street_2.detected.mp4'" in out
    assert [
        len(videos.read_video(Path("out") / name)[1]) for name in ("street.detected.mp4", "street_2.detected.mp4")
    ] == [
        3,
        5,
    ]
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    for index, (source, count) in enumerate((("a/street.avi", 3), ("b/street.avi", 5))):
        own = [line for line in lines if line["source"] == source]
        assert [line["frame"] for line in own] == list(range(count))
        assert {line["source_index"] for line in own} == {index}


def test_by_default_several_videos_are_written_beside_each_other(run):
    assert run("--source", street("a"), "--source", street("b"))[0] == 0
    assert sorted(path.name for path in Path().glob("*.mp4")) == ["street.detected.mp4", "street_2.detected.mp4"]


@pytest.mark.parametrize(("wanted", "message"), [({"coco": "x.json"}, "--coco takes one source")])
def test_what_takes_one_source_says_so(wanted, message):
    with pytest.raises(UsageError, match=message), opened(street("a"), street("b"), **wanted):
        pass


def test_a_file_where_a_folder_is_wanted():
    Path("out").write_text("")
    with (
        pytest.raises(SinkError, match="a folder for the results of several sources"),
        opened(street("a"), street("b"), out="out"),
    ):
        pass


@needs_shared_memory
def test_each_source_has_shared_memory_of_its_own(name: str):
    with opened(street("a"), street("b"), shm=name) as sinks:
        assert [type(sink) for sink in sinks] == [OneSource, OneSource]
        for sink in sinks:
            sink.write(sink_result(7))
        with SharedMemoryReader(f"{name}.0") as first, SharedMemoryReader(f"{name}.1") as second:
            assert first.read().frame == 7 and second.read() is None, "the result is of source 0"
    with opened(street("a"), shm=name) as sinks:
        assert not isinstance(sinks[0], OneSource) and (SHM / name).exists()


def test_maps_have_a_folder_for_each_source():
    with opened(street("a"), street("b"), maps="maps", json_lines="out.jsonl") as sinks:
        assert sorted(path.name for path in Path("maps").iterdir()) == ["street", "street_2"]
        assert len(sinks) == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--web", "nonsense"], 1, "Expected [HOST:]PORT, got 'nonsense'"),
        (["--web-token"], 2, "pass --web too"),
        (["--web", "0", "--web-token", "a b"], 1, "a token of letters"),
        (["--mqtt", "http://x"], 1, "Write for example --mqtt mqtt://localhost/robot/camera"),
        (["--shm", "../x"], 1, "Write for example --shm camera0"),
        (["--json", "x", "--out", "x"], 2, "must name different files"),
    ],
)
def test_wrong_words(run, words, code, message):
    status, out, err = run("--source", street(), *words)
    assert status == code and message in " ".join(err.split()) and "frames" not in out
    assert [path.name for path in Path().iterdir()] == ["street.avi"]


@pytest.mark.parametrize(
    ("host", "token", "warned"), [("0.0.0.0:", False, True), ("0.0.0.0:", True, False), ("", False, False)]
)
def test_everybody_may_look_only_when_told_and_that_is_said(run, host, token, warned):
    words = ["--web-token", "secret"] if token else []
    code, out, err = run("--source", street(), "--web", f"{host}0", *words)
    assert code == 0 and ("everybody on the network can see this page" in err) is warned
    (line,) = [line for line in out.splitlines() if line.startswith("Live page: ")]
    assert re.search(r"http://[\d.]+:\d+/(\?token=secret)?$", line) and line.endswith("secret") is token


@needs_shared_memory
def test_a_live_run_serves_all_at_once_and_ends_with_whole_files(model: Path, name: str):
    """A camera that never ends, a page with a random token, shared memory, a video; then SIGTERM."""
    make_frames()
    command = [*EDGEDET, "run", str(model), "--source", "frames", "--web", "0", "--web-token", "--shm", name]
    with running(*command, "--json", "out.jsonl") as process:
        assert process.stdout is not None
        match = re.fullmatch(r"Live page: (http://127\.0\.0\.1:\d+/)\?token=([\w-]{16})\n", process.stdout.readline())
        assert match is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(match[1], timeout=20)
        request = urllib.request.Request(f"{match[1]}stream", headers={"Authorization": f"Bearer {match[2]}"})
        with urllib.request.urlopen(request, timeout=20) as stream:
            seen = b""
            while b'"frame":' not in seen:
                seen += stream.read1(1 << 16)
        with SharedMemoryReader(name) as reader:
            wait_until(lambda: reader.read() is not None, "the first result")
            assert reader.read().found == 2
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in err and "Wrote 'out.jsonl'" in out
    frames = [json.loads(line)["frame"] for line in Path("out.jsonl").read_text().splitlines()]
    assert frames == list(range(len(frames))) and len(frames) > 1


def test_a_broker_that_is_killed_stops_nothing_and_loses_no_file(model: Path, tmp_path: Path):
    pytest.importorskip("paho.mqtt.client")
    make_frames()
    with running_broker(tmp_path) as broker:
        listener = Listener(broker.port, "robot/camera")
        words = ["--source", "frames", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/robot/camera", "--json", "out.jsonl"]
        with running(*EDGEDET, "run", str(model), *words) as process:
            listener.wait_for("robot/camera")
            listener.close()
            broker.kill()
            broker.start()
            listener = Listener(broker.port, "robot/camera")
            listener.wait_for("robot/camera")
            listener.close()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err and "failed" not in err
    assert re.search(r"\d+ results? dropped by outputs that were slower than the stream, or away", out)
    frames = [json.loads(line)["frame"] for line in Path("out.jsonl").read_text().splitlines()]
    assert frames == list(range(len(frames))) and len(frames) > 1


def make_frames() -> None:
    """More pictures than are processed while the test runs."""
    Path("frames").mkdir()
    first = Path("frames/0000.png")
    assert cv2.imwrite(str(first), np.full((128, 128, 3), 255, np.uint8))
    for number in range(1, 20_000):
        Path(f"frames/{number:05}.png").hardlink_to(first)
