"""Cameras found again, over nodes that lie in memory; tests/vm does it with real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2 import identity
from edgedet.runtime.capture.v4l2.identity import Identity, find_camera

COLOUR, INFRARED = Identity("Webcam", "usb-1", 0), Identity("Webcam", "usb-1", 2)
OTHER_SOCKET, OTHER = Identity("Webcam", "usb-2", 0), Identity("Grabber", "usb-3", 0)


@pytest.mark.parametrize(
    ("plugged", "found"),
    [
        ({"video0": COLOUR, "video1": OTHER}, "video0"),
        ({"video0": OTHER, "video1": COLOUR}, "video1"),  # they changed places
        ({"video0": INFRARED, "video10": COLOUR}, "video10"),  # the parts did
        ({"video4": COLOUR}, "video4"),
        ({"video0": OTHER_SOCKET}, "video0"),  # moved to another socket
        ({"video0": OTHER_SOCKET, "video2": COLOUR}, "video2"),
    ],
)
def test_the_same_camera_is_found(tmp_path: Path, monkeypatch, plugged, found):
    plug(monkeypatch, tmp_path, plugged)
    assert find_camera(str(tmp_path / "video0"), COLOUR, tmp_path) == str(tmp_path / found)


@pytest.mark.parametrize(
    ("plugged", "there"), [({}, "none"), ({"video0": OTHER}, "Grabber"), ({"video3": OTHER_SOCKET}, "Webcam")]
)
def test_another_camera_is_not_taken_for_it(tmp_path: Path, monkeypatch, plugged, there):
    plug(monkeypatch, tmp_path, plugged)
    with pytest.raises(SourceError, match=rf"Webcam at usb-1, got these cameras: .*{there}"):
        find_camera(str(tmp_path / "video0"), COLOUR, tmp_path)


def plug(monkeypatch: pytest.MonkeyPatch, folder: Path, plugged: dict[str, Identity]) -> None:
    """Let files of a folder be cameras."""
    for name in plugged:
        (folder / name).touch()

    class PluggedNode:
        def __init__(self, path: str) -> None:
            self.path = path
            if Path(path).name not in plugged:
                raise SourceError("a camera", "none", "Plug it in")

        def close(self) -> None:
            pass

    monkeypatch.setattr(identity, "Node", PluggedNode)
    monkeypatch.setattr(Identity, "of", lambda node: plugged[Path(node.path).name])
