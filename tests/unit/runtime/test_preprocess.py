"""Pre-processing against OpenCV's own building blocks, and boxes against the mapping of a known mark."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgedet.errors import ImageError, SpecError
from edgedet.model_spec import InputSpec
from edgedet.runtime.preprocess import Preprocessor, place

SIZES = [(1920, 1080), (640, 480), (333, 501), (31, 700), (640, 640), (1, 1), (4000, 3)]
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def letterboxed(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The picture in the network's input before normalisation, by cv2.resize and cv2.copyMakeBorder."""
    at = place(image.shape[1], image.shape[0], spec)
    resized = cv2.resize(image, (at.width, at.height), interpolation=cv2.INTER_LINEAR)
    bottom, right = spec.height - at.top - at.height, spec.width - at.left - at.width
    return cv2.copyMakeBorder(resized, at.top, bottom, at.left, right, cv2.BORDER_CONSTANT, value=(spec.pad_value,) * 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("normalisation", [{}, IMAGENET], ids=["unit", "imagenet"])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_planar_float_agrees_with_opencv(size, channels, normalisation, resize):
    spec = InputSpec(416, 320, channels=channels, resize=resize, **normalisation)
    image = picture(*size)
    tensor, _ = Preprocessor(spec)([image])
    pixels = letterboxed(image, spec)
    pixels = pixels[..., ::-1] if channels == "RGB" else pixels
    expected = ((pixels.astype(np.float64) - spec.mean) / spec.std).transpose(2, 0, 1)
    assert tensor.shape == (1, 3, 320, 416) and tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0], expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("position", ["center", "bottom_right"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_interleaved_agrees_with_opencv(position, dtype):
    spec = InputSpec(
        300, 200, layout="NHWC", dtype=dtype, mean=(0, 0, 0), std=(1, 1, 1), pad_position=position, pad_value=7
    )
    image = picture(640, 200)
    tensor, _ = Preprocessor(spec)([image])
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[0], letterboxed(image, spec)[..., ::-1])


@pytest.mark.parametrize(
    ("size", "areas"),
    [
        ((201, 100), True),
        ((900, 50), True),
        ((200, 100), False),  # half: bilinear sees all pixels
        ((199, 99), False),
        ((1000, 49), False),  # grows along one axis
        ((100, 50), False),
        ((20, 10), False),
    ],
)
def test_strong_shrinking_averages_areas_where_the_spec_says_so(size, areas):
    spec = InputSpec(100, 50, resize="stretch", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1), downscale="area")
    image = picture(*size)
    tensor, _ = Preprocessor(spec)([image])
    method = cv2.INTER_AREA if areas else cv2.INTER_LINEAR
    expected = cv2.resize(image, (100, 50), interpolation=method)
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0)[..., ::-1], expected)


def test_an_averaged_checkerboard_is_grey():
    """What bilinear makes of it depends on which four pixels it looks at."""
    board = np.zeros((400, 400, 3), np.uint8)
    board[::2, 1::2] = board[1::2, ::2] = 254
    tensor, _ = Preprocessor(InputSpec(100, 100, downscale="area"))([board])
    np.testing.assert_allclose(tensor, 127 / 255, rtol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("dtype", "mean", "std"),
    [
        ("int8", (128.0, 128.0, 128.0), (1.0, 1.0, 1.0)),
        ("int8", (0.0, 4.0, 0.0), (255 / 127, 2.0, 255 / 127)),
        ("uint8", (0.0, 0.0, 0.0), (1.0, 2.0, 1.5)),
    ],
)
def test_integer_inputs_are_rounded(dtype, mean, std, layout):
    spec = InputSpec(64, 40, layout=layout, channels="BGR", dtype=dtype, mean=mean, std=std)
    image = picture(64, 20)
    tensor, _ = Preprocessor(spec)([image])
    pixels = letterboxed(image, spec).astype(np.float32)
    scale, offset = np.float32(1 / np.array(std)), np.float32(-np.array(mean) / np.array(std))
    expected = np.rint(pixels * scale + offset)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor[0] if layout == "NHWC" else tensor[0].transpose(1, 2, 0), expected)


@pytest.mark.parametrize("size", [(1920, 1080), (639, 427), (500, 333), (427, 640), (333, 501)])
def test_letterbox_agrees_with_ultralytics(size):
    augment = pytest.importorskip("ultralytics.data.augment")
    image = picture(*size)
    tensor, _ = Preprocessor(InputSpec(640, 640))([image])
    expected = augment.LetterBox((640, 640), auto=False)(image=image)
    np.testing.assert_allclose(tensor[0] * 255, expected[..., ::-1].transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize("size", [(1920, 1080), (333, 501), (64, 640)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("position", ["center", "bottom_right"])
def test_boxes_come_back_to_the_source(size, resize, position):
    width, height = size
    at = place(width, height, InputSpec(320, 320, resize=resize, pad_position=position))
    box = np.array([[width * 0.25, height * 0.5, width * 0.75, height]], np.float32)
    scale = np.array([at.width / width, at.height / height] * 2, np.float32)
    shifted = box * scale + np.array([at.left, at.top] * 2, np.float32)
    np.testing.assert_allclose(at.to_source(shifted), box, rtol=1e-4)


def test_boxes_are_clipped_to_the_picture():
    at = place(100, 50, InputSpec(320, 320))
    clipped = at.to_source(np.array([[-50, -50, 900, 900]], np.float32))
    np.testing.assert_array_equal(clipped, [[0, 0, 100, 50]])


def test_pictures_of_a_batch_do_not_touch_each_other():
    images = [picture(50, 80), picture(80, 50), picture(64, 64)]
    preprocess = Preprocessor(InputSpec(64, 64))
    together, placements = preprocess(images)
    for index, image in enumerate(images):
        alone, placement = preprocess([image])
        np.testing.assert_array_equal(together[index], alone[0])
        assert placements[index] == placement[0]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
        "picture.jpg",
    ],
    ids=["grey", "four channels", "float", "empty", "text"],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ImageError):
        Preprocessor(InputSpec(64, 64))([image])


@pytest.mark.parametrize(
    "spec",
    [
        {"channels": "GRAY"},
        {"dtype": "uint8"},
        {"dtype": "int8"},
        {"dtype": "int8", "mean": (0, 0, 0), "std": (1, 1, 1)},
        {"dtype": "uint8", "mean": (128, 128, 128), "std": (1, 1, 1)},
        {"dtype": "uint8", "mean": (0, 0, 0), "std": (1, 1, 0.5)},
    ],
)
def test_inputs_that_cannot_be_made_are_refused(spec):
    with pytest.raises(SpecError):
        Preprocessor(InputSpec(64, 64, **spec))
