"""The command line and the stream on real cameras."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys

import click.testing
from virtual_cameras import CONTIGUOUS, FIRST, MAIN, MULTIPLANAR, SECOND

import edgedet
from edgedet.cli.cameras_command import command


def test_cameras_are_listed_with_what_works():
    done = click.testing.CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    assert done.exit_code == 0
    reports = {report["device"]: report for report in json.loads(done.stdout)["cameras"]}
    assert list(reports) == [FIRST, SECOND, MULTIPLANAR, CONTIGUOUS]
    assert {report["driver"] for report in reports.values()} == {"vivid"}
    works = {
        device: {trial["mode"]: (trial["works"], trial["copies"]) for trial in report["memory"]}
        for device, report in reports.items()
    }
    # This kernel has no DMA heaps to import from.
    usual = {"mmap": (True, 0), "userptr": (True, 0), "dmabuf": (False, 1), "export": (True, 0)}
    assert works[FIRST] == works[SECOND] == works[MULTIPLANAR] == usual
    assert works[CONTIGUOUS] == {**usual, "userptr": (False, 1)}
    modes = {(mode["code"], mode["width"], mode["height"]): mode for mode in reports[FIRST]["modes"]}
    assert 30 in [round(rate) for rate in modes["YUYV", 320, 180]["rates"]]
    assert modes["YUYV", 320, 180]["readable"]
    assert not all(mode["readable"] for mode in modes.values())
    assert "brightness" in [control["name"] for control in reports[FIRST]["controls"]]


def test_cameras_as_text():
    done = click.testing.CliRunner().invoke(command, [], catch_exceptions=False)
    assert done.exit_code == 0
    assert "/dev/video0" in done.stdout and "userptr" in done.stdout and "YUYV" in done.stdout


def test_looking_leaves_the_camera_as_it_is(open_camera):
    open_camera(pixel_format="UYVY").close()
    click.testing.CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    camera = open_camera(pixel_format="UYVY", memory="mmap")
    camera.read().release()
    done = click.testing.CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    (busy,) = [report for report in json.loads(done.stdout)["cameras"] if report["device"] == FIRST]
    assert "in use" in busy["problem"] or "busy" in busy["problem"]
    camera.read().release()


def test_a_stream_keeps_no_buffer(open_camera, model):
    """Results that the user keeps cost the camera nothing; the age of each is that of the driver's picture."""
    camera = open_camera(pixel_format="YUYV", buffers=4)
    with edgedet.open_stream(model, camera) as stream:
        results = list(itertools.islice(stream, 12))
    assert [result.frame.pixel_format for result in results] == ["BGR"] * 12
    sequences = [result.frame.sequence for result in results]
    assert sequences == sorted(sequences)
    gaps = [later - earlier - 1 for earlier, later in itertools.pairwise(sequences)]
    assert [result.dropped for result in results[1:]] == gaps
    assert camera._queue.on_loan == 0


def test_run_says_what_the_camera_granted(model):
    words = f"run {model} --source 0 --camera-format UYVY --camera-size 320x180 --camera-fps 30 --json -".split()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MAIN, *words], **pipes) as process:
        granted = process.stderr.readline()
        written = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        rest = process.stderr.read()
        assert process.wait(30) == 130, rest
    assert granted == "'/dev/video0' (vivid): UYVY 320x180 at 30 frames per second, 6 buffers (mmap), 0 copies\n"
    assert [(line["width"], line["height"]) for line in written] == [(320, 180)] * 5
    assert len({line["timestamp"] for line in written}) == 5
