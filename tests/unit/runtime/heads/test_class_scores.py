from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads import ClassScores, head_from_spec
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.selection import Selection

NAMES = tuple("abcde")


def decode(head: ClassScores, scores: np.ndarray, placement: Placement, size: tuple[int, int], names=NAMES):
    return head.decode_map([scores], placement, size, Selection(), names)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("pad_position", ["center", "bottom_right"])
@pytest.mark.parametrize(("width", "height"), [(200, 90), (45, 100), (64, 64), (640, 7)])
def test_the_picture_is_found_inside_its_padding(pad_position, width, height):
    """Sampled at the middle of each pixel with torch's grid_sample, which knows nothing of letterboxes."""
    torch: Any = pytest.importorskip("torch")
    spec = InputSpec(64, 64, pad_position=pad_position)
    at, scores = place(width, height, spec), noise(5, 16, 16)
    found = decode(ClassScores(), scores, at, (64, 64))
    x = (at.left + (np.arange(width) + 0.5) * at.width / width) / 64 * 2 - 1
    y = (at.top + (np.arange(height) + 0.5) * at.height / height) / 64 * 2 - 1
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1))[None]
    field = torch.from_numpy(scores).double()[None]
    sampled = torch.nn.functional.grid_sample(field, grid, padding_mode="border", align_corners=False)
    assert found.class_id.shape == (height, width)
    assert found.class_names == NAMES
    assert np.mean(found.class_id != sampled[0].argmax(0).numpy()) < 1e-3


def test_padding_is_cut_off():
    """What lies below the picture is of a class that the picture doesn't have."""
    scores = np.zeros((2, 8, 8), np.float32)
    scores[1, 5:] = 100
    at = place(100, 50, InputSpec(64, 64, pad_position="bottom_right"))
    assert (decode(ClassScores(), scores, at, (64, 64), ("a", "b")).class_id == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_channels_last_is_the_same(dtype):
    scores = noise(5, 12, 20).astype(dtype)
    at = Placement(80, 48, 0, 0, 160, 96)
    first = decode(ClassScores(), scores, at, (160, 96)).class_id
    last = decode(ClassScores(layout="NHWC"), np.moveaxis(scores, 0, -1), at, (160, 96)).class_id
    assert np.array_equal(first, last)


def test_aligned_corners_lie_on_the_input_s_corner_pixels():
    torch: Any = pytest.importorskip("torch")
    scores = noise(5, 9, 9)
    found = decode(ClassScores(align_corners=True), scores, Placement(65, 65, 0, 0, 65, 65), (65, 65))
    field = torch.from_numpy(scores).double()[None]
    enlarged = torch.nn.functional.interpolate(field, (65, 65), mode="bilinear", align_corners=True)
    assert np.mean(found.class_id != enlarged[0].argmax(0).numpy()) < 1e-3


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_a_single_channel_is_cut_at_its_threshold(threshold):
    scores = noise(1, 16, 16)
    found = decode(ClassScores(threshold=threshold), scores, Placement(128, 128, 0, 0, 128, 128), (128, 128))
    enlarged = cv2.resize(scores[0], (128, 128), interpolation=cv2.INTER_LINEAR)
    clear = np.abs(enlarged - threshold) > 1e-3
    assert np.array_equal(found.class_id[clear], (enlarged > threshold)[clear])
    assert 0 < found.class_id.mean() < 1


@pytest.mark.parametrize(
    ("layout", "shape", "classes"),
    [("NCHW", (1, 5, 8, 8), 5), ("NHWC", (-1, 8, 8, 5), 5), ("NCHW", (1, 1, 8, 8), 2), ("NCHW", (1, -1, -1, -1), 5)],
)
def test_fitting_outputs_pass(layout, shape, classes):
    ClassScores(layout=layout).check([TensorSpec("scores", shape, "float32")], classes, (64, 64))


@pytest.mark.parametrize(
    ("layout", "shape", "classes", "message"),
    [
        ("NCHW", (1, 5, 8, 8), 6, "6 = 6 class scores for 6 class names"),
        ("NHWC", (1, 5, 8, 8), 5, "5 class names"),
        ("NCHW", (1, 8, 8), 5, "4 axes"),
        ("NCHW", (1, 1, 8, 8), 1, "two class names, background and object"),
    ],
)
def test_others_are_refused(layout, shape, classes, message):
    with pytest.raises(SpecError, match=message):
        ClassScores(layout=layout).check([TensorSpec("scores", shape, "float32")], classes, (64, 64))


def test_parameters_survive_the_spec():
    head = ClassScores("NHWC", align_corners=True, threshold=0.5)
    assert head_from_spec(head.spec()) == head
