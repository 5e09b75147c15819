from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edgedet.cli.camera_options import camera_options
from edgedet.errors import SourceError
from edgedet.runtime.capture import CameraOptions, open_source
from edgedet.runtime.capture.v4l2 import MEMORY_MODES

NOT_GIVEN = object()


def parsed(*words: str) -> tuple[object, str]:
    """Return what a command with the options is given, and what is printed."""
    found: list[object] = [NOT_GIVEN]

    @click.command()
    @camera_options
    def command(camera: CameraOptions | None) -> None:
        found[0] = camera

    done = CliRunner().invoke(command, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return found[0], done.output


def test_every_option_arrives():
    words = "--camera-format YUYV --camera-size 640x480 --camera-fps 30 --camera-memory userptr --camera-buffers 4"
    more = "--camera-timeout 2.5 --camera-control exposure=-3 --camera-control", "Gain, Analogue = 7"
    camera, _ = parsed(*words.split(), *more[0].split(), more[1])
    assert camera == CameraOptions(
        "YUYV", (640, 480), 30.0, "userptr", 4, 2.5, controls={"exposure": -3, "Gain, Analogue": 7}
    )


def test_nothing_given_leaves_everything_to_the_camera():
    assert parsed()[0] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--camera-control", "exposure"), "Expected a name and a number such as brightness=128, got 'exposure'"),
        (("--camera-control", "exposure=long"), "got 'exposure=long'"),
        (("--camera-buffers", "1"), "2<=x<=32"),
        (("--camera-fps", "0"), "x>0"),
        (("--camera-memory", "nvmm"), "is not one of"),
        (("--camera-size", "640xtall"), "640xtall"),
    ],
)
def test_what_makes_no_sense_is_said(words, message):
    found, output = parsed(*words)
    assert found is NOT_GIVEN and message in output


def test_the_modes_are_those_of_the_capture():
    for mode in MEMORY_MODES:
        camera, _ = parsed("--camera-memory", mode)
        assert camera == CameraOptions(memory=mode)
    assert "[auto|mmap|userptr|dmabuf]" in parsed("--help")[1]


def test_options_of_a_camera_for_something_else_are_refused(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"anything")
    with pytest.raises(SourceError, match=r"a camera, for the options of a camera, got '.*video\.mp4', a video"):
        open_source(path, camera=CameraOptions(fps=30))
