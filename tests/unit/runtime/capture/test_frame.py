from __future__ import annotations

import numpy as np
import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame


def make_frame() -> Frame:
    return Frame((np.zeros((3, 5, 3), np.uint8),), 7, 0, "street.mp4")


def test_size_comes_from_the_picture():
    frame = make_frame()
    assert (frame.width, frame.height, frame.pixel_format) == (5, 3, "BGR")
    assert frame.image.shape == (3, 5, 3)


def test_released_frame_names_itself():
    with make_frame() as frame:
        pass
    frame.release()
    with pytest.raises(SourceError, match=r"frame 7 of 'street.mp4', which was released"):
        _ = frame.image
    assert (frame.width, frame.height) == (5, 3)


def test_release_lets_the_pixels_go():
    image = np.zeros((3, 5, 3), np.uint8)
    frame = Frame((image,), 0, 0, "x")
    frame.release()
    assert image.base is None and frame.planes == ()
