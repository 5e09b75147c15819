"""Each numbered example is run as a user would run it: a program of its own, without a camera."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from example_programs import EXAMPLES, run_example, running_example
from mqtt_broker import Listener, running_broker
from sink_results import sink_result

import edgedet
from edgedet.runtime.sinks.mqtt import MqttSink

NUMBERED = sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))
DEMO = Path(edgedet.__file__).parent / "demo"


def test_the_numbers_have_no_gap_and_the_readme_names_all():
    assert [path.name[:2] for path in NUMBERED] == [f"{number:02}" for number in range(1, len(NUMBERED) + 1)]
    folders = {"shared_memory/", "firmware/", "digits/", "scenes/"}
    linked = set(re.findall(r"\]\(([^).]+(?:\.py)?)\)", (EXAMPLES / "README.md").read_text()))
    assert {path.name for path in NUMBERED} | {name.rstrip("/") for name in folders} <= linked


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_to_run_it(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert f"python examples/{path.name}" in text.partition('"""')[2].partition('"""')[0]


def test_a_picture(root: Path, tmp_path: Path):
    labels = json.loads((root / "examples/digits/annotations.json").read_text())
    first = min(labels["images"], key=lambda image: image["file_name"])
    written = [str(item["category_id"]) for item in labels["annotations"] if item["image_id"] == first["id"]]
    lines = run_example("01_picture.py", cwd=tmp_path).splitlines()
    assert sorted(line[0] for line in lines[:-1]) == sorted(written)
    drawn = cv2.imread(str(tmp_path / "0000.detected.jpg"))
    assert drawn is not None and drawn.shape[:2] == (first["height"], first["width"])


def test_a_video(tmp_path: Path):
    said = run_example("02_video.py", "--frames", "12", cwd=tmp_path)
    video = cv2.VideoCapture(str(tmp_path / "digits.detected.mp4"))
    pictures = sum(video.read()[0] for _ in range(20))
    video.release()
    assert pictures == 12
    came = re.findall(r"frame +\d+: (\d) has come, track (\d+)", said)
    assert len({track for _, track in came}) == len(came) > 0
    assert f"12 frames, {len(came)} objects" in said


def test_a_network_of_one_s_own(tmp_path: Path):
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)
    said = run_example("03_own_model.py", cwd=tmp_path)
    assert "verify" in said
    picture = np.zeros((320, 320, 3), np.uint8)
    picture[48:64, 160:176] = 255
    with edgedet.load(tmp_path / "brightest_cell.onnx") as detector:
        np.testing.assert_allclose(detector(picture).xyxy, [[160, 48, 176, 64]], atol=1e-3)


def test_a_web_page_that_wants_a_token(tmp_path: Path):
    arguments = ("--address", "0", "--token", "secret")
    with running_example("04_web_page.py", *arguments, cwd=tmp_path) as program:
        match = re.search(r"http://\S+/", program.wait_for("Live page"))
        assert match is not None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(match[0], timeout=20)
        request = urllib.request.Request(f"{match[0]}stream", headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            seen = b""
            while b'"kind":"detections"' not in seen.replace(b" ", b""):
                more = answer.read1()
                assert more, seen[:200]
                seen += more
        assert re.search(r"[1-9]\d* results, half of them younger", program.end())


def test_several_cameras_and_their_metrics(tmp_path: Path):
    with running_example("05_several_cameras.py", cwd=tmp_path) as program:
        match = re.search(r"http://\S+", program.wait_for("Metrics"))
        assert match is not None
        counts: list[str] = []
        while len(counts) < 2:
            with urllib.request.urlopen(match[0], timeout=20) as answer:
                counts = re.findall(r'edgedet_results_total\{.*index="\d"\} [1-9]\d*', answer.read().decode())
        said = program.end()
    assert len(re.findall(r"digits\.mp4: [1-9]\d* results", said)) == 2


def test_a_robot_stops_for_what_a_camera_sees_and_when_nobody_tells_it_anything(tmp_path: Path):
    pytest.importorskip("paho.mqtt.client")
    with running_broker(tmp_path) as broker:
        address = f"127.0.0.1:{broker.port}"
        arguments = ("06_mqtt_robot.py", "--broker", address, "--stop-for", "7", "--near")
        with (
            running_example(*arguments, "0.1", cwd=tmp_path) as robot,
            running_example(*arguments, "9", cwd=tmp_path) as careless,
        ):
            for each in (robot, careless):
                each.wait_for("stop: nothing heard for 1 s")
            camera = ("run", str(DEMO / "digits.int8.onnx"), "--source", str(DEMO / "digits.mp4"), "--policy", "rate=5")
            command = [sys.executable, "-c", "from edgedet.cli.main import main; main()", *camera]
            command += ["--mqtt", f"mqtt://{address}/robot/camera"]
            subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=60, check=True)
            robot.wait_for("stop: 7 is near")
            careless.wait_for("go: all clear")
            for each in (robot, careless):
                each.wait_for("stop: the camera has ended")


def test_a_robot_that_dies_is_stopped_by_the_broker(tmp_path: Path):
    pytest.importorskip("paho.mqtt.client")
    with running_broker(tmp_path) as broker, contextlib.ExitStack() as open_ones:
        listener = Listener(broker.port, "robot/command")
        open_ones.callback(listener.close)
        arguments = ("--broker", f"127.0.0.1:{broker.port}", "--stop-for", "bird")
        robot = open_ones.enter_context(running_example("06_mqtt_robot.py", *arguments, cwd=tmp_path))
        robot.wait_for("stop: nothing heard")
        sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/robot/camera")
        open_ones.callback(sink.close)
        sink.write(sink_result())
        listener.wait_for("robot/command", "go")
        said = len(listener.messages)
        robot.process.kill()
        listener.wait_for("robot/command", "stop", after=said)


def test_a_robot_without_a_broker(tmp_path: Path):
    pytest.importorskip("paho.mqtt.client")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = run_example("06_mqtt_robot.py", "--broker", address, cwd=tmp_path, expect=1)
    assert said == f"No MQTT broker at {address} (Connection refused): start one with: mosquitto\n"


def test_own_gpu_code_says_that_there_is_no_gpu(tmp_path: Path):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a GPU is here")
    said = run_example("07_own_gpu_code.py", cwd=tmp_path, expect=1)
    assert said.startswith("This example needs an NVIDIA GPU, and there is none here. Expected ")


def test_results_for_tcp_clients(tmp_path: Path):
    with running_example("08_asyncio.py", "--port", "0", cwd=tmp_path) as program:
        port = int(program.wait_for("Listening at").rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), 20) as first,
            socket.create_connection(("127.0.0.1", port), 20) as second,
        ):
            frames = [
                [json.loads(line)["frame"] for line in itertools.islice(one.makefile(), 3)] for one in (first, second)
            ]
        assert all(numbers == sorted(set(numbers)) and len(numbers) == 3 for numbers in frames)
        assert re.search(r"[1-9]\d* results", program.end(signal.SIGTERM))


def test_a_ros_node_says_that_there_is_no_ros(tmp_path: Path):
    if importlib.util.find_spec("rclpy"):
        pytest.skip("ROS is here")
    said = run_example("09_ros2_node.py", cwd=tmp_path, expect=1)
    assert said.startswith("This example needs ROS 2 (No module named 'rclpy')")
