from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture import SOURCES, kind_of_source, open_source


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rtsp://camera/stream", "network"),
        ("HTTP://host/video.mp4", "network"),
        ("0", "camera"),
        ("/dev/null", "device"),
        ("/dev/video97", "device"),
        ("/dev/v4l/by-id/usb-webcam", "device"),
        ("folder", "folder"),
        ("picture.PNG", "picture"),
        ("picture-without-suffix", "picture"),
        ("video.bin", "video"),
        ("pictures/*.jpg", "glob"),
    ],
)
def test_text_picks_the_kind(tmp_path: Path, monkeypatch, text, kind):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("video.bin").write_bytes(b"anything")
    assert cv2.imwrite("picture.PNG", np.zeros((4, 4, 3), np.uint8))
    Path("picture-without-suffix").write_bytes(Path("picture.PNG").read_bytes())
    assert kind_of_source(text) == kind
    assert kind in SOURCES


def test_nothing_there_is_said():
    with pytest.raises(SourceError, match=r"'no/such/thing\.mp4', which does not exist"):
        open_source("no/such/thing.mp4")
