"""Pixel formats against OpenCV, Pillow, the standards' own formulas and the values of their colour bars."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
from PIL import Image

from edgedet.errors import ImageError
from edgedet.runtime import pixel_formats
from edgedet.runtime.pixel_formats import PictureFormat, split_planes, to_bgr

YUV = ["YUYV", "UYVY", "NV12", "I420"]
STANDARDS = [("bt601", "limited"), ("bt601", "full"), ("bt709", "limited"), ("bt709", "full")]
SIZES = [(1, 1), (2, 2), (1, 4), (5, 1), (33, 7), (64, 48), (66, 130), (161, 67)]


def planes_of(picture: PictureFormat, seed: int = 0, extra: int = 0) -> list[np.ndarray]:
    """Random planes; each row is followed by `extra` bytes of 255, the last one by nothing."""
    random = np.random.default_rng(seed)
    planes = []
    for rows, length in picture.plane_sizes:
        memory = np.full((rows - 1) * (length + extra) + length, 255, np.uint8)
        plane = np.lib.stride_tricks.as_strided(memory, (rows, length), (length + extra, 1))
        plane[:] = random.integers(0, 256, plane.shape)
        planes.append(plane)
    return planes


def yuv_pixels(planes: list[np.ndarray], picture: PictureFormat) -> np.ndarray:
    """Y, U, V of each pixel, read one by one as the table in the module describes."""
    result = np.zeros((picture.height, picture.width, 3), int)
    for y in range(picture.height):
        for x in range(picture.width):
            group = x // 2
            if picture.pixel_format == "YUYV":
                result[y, x] = planes[0][y, [2 * x, 4 * group + 1, 4 * group + 3]]
            elif picture.pixel_format == "UYVY":
                result[y, x] = planes[0][y, [2 * x + 1, 4 * group, 4 * group + 2]]
            elif picture.pixel_format == "NV12":
                result[y, x] = planes[0][y, x], *planes[1][y // 2, [2 * group, 2 * group + 1]]
            else:
                result[y, x] = planes[0][y, x], planes[1][y // 2, group], planes[2][y // 2, group]
    return result


def by_the_standard(yuv: np.ndarray, matrix: str, value_range: str) -> np.ndarray:
    """BGR as float64, from the standards' formulas: the matrix of Y, B - Y and R - Y, inverted."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    mixing = np.array([[blue, 1 - red - blue, red]] * 3)
    mixing[1] = (np.array([1, 0, 0]) - mixing[0]) / (2 - 2 * blue)
    mixing[2] = (np.array([0, 0, 1]) - mixing[0]) / (2 - 2 * red)
    low, luma, chroma = (16, 219, 224) if value_range == "limited" else (0, 255, 255)
    levels = (yuv - [low, 128, 128]) / [luma, chroma, chroma]
    levels[..., 0] = np.maximum(levels[..., 0], 0)
    return np.clip(levels @ np.linalg.inv(mixing).T * 255, 0, 255)


@pytest.mark.parametrize("pixel_format", YUV)
def test_usual_cameras_agree_with_opencv(pixel_format):
    picture = PictureFormat(pixel_format, 128, 64)
    planes = planes_of(picture)
    code = getattr(cv2, f"COLOR_YUV2BGR_{pixel_format}")
    packed = planes[0].reshape(64, 128, 2) if pixel_format in ("YUYV", "UYVY") else None
    frame = packed if packed is not None else np.concatenate([plane.ravel() for plane in planes]).reshape(-1, 128)
    np.testing.assert_array_equal(to_bgr(planes, picture), cv2.cvtColor(frame, code))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixel_format", YUV)
def test_arithmetic_is_opencvs_where_both_are_defined(pixel_format, size):
    """The table of weights and the fixed-point formula reproduce what OpenCV is called for, odd sizes by enlarging."""
    picture = PictureFormat(pixel_format, *size)
    planes = planes_of(picture, extra=3)
    width, height = (side + side % 2 for side in size)
    even = PictureFormat(pixel_format, width, height)
    padding = [
        (rows - plane.shape[0], length - plane.shape[1])
        for (rows, length), plane in zip(even.plane_sizes, planes, strict=True)
    ]
    enlarged = [np.pad(plane, [(0, down), (0, across)]) for plane, (down, across) in zip(planes, padding, strict=True)]
    expected = to_bgr(enlarged, even)[: size[1], : size[0]]
    np.testing.assert_array_equal(pixel_formats._convert(planes, picture), expected)
    np.testing.assert_array_equal(to_bgr(planes, picture), expected)


@pytest.mark.parametrize(("matrix", "value_range"), STANDARDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixel_format", YUV)
def test_standards(pixel_format, size, matrix, value_range):
    picture = PictureFormat(pixel_format, *size, matrix, value_range)
    planes = planes_of(picture, extra=5)
    exact = by_the_standard(yuv_pixels(planes, picture), matrix, value_range)
    # Rounding, and for OpenCV's weights of three decimals the 0.2 that they are off at the ends of Y, U and V.
    tolerance = 0.7 if (matrix, value_range) == ("bt601", "limited") else 0.5005
    np.testing.assert_allclose(to_bgr(planes, picture), exact, atol=tolerance)


# Y, U, V of saturated colours, as colour bars have them.
BARS = {
    ("bt601", "limited"): {"red": (81, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)},
    ("bt709", "limited"): {"red": (63, 102, 240), "green": (173, 42, 26), "blue": (32, 240, 118)},
    ("bt601", "full"): {"red": (76, 85, 255), "green": (150, 44, 21), "blue": (29, 255, 107)},
    ("bt709", "full"): {"red": (54, 99, 255), "green": (182, 30, 12), "blue": (18, 255, 116)},
}
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_colour_bars(standard, colour):
    picture = PictureFormat("I420", 2, 2, *standard)
    planes = [
        np.full(size, value, np.uint8) for size, value in zip(picture.plane_sizes, BARS[standard][colour], strict=True)
    ]
    # The bars' own values are rounded: one step of V is up to two of red.
    np.testing.assert_allclose(to_bgr(planes, picture)[0, 0], COLOURS[colour], atol=2)


def test_full_range_is_that_of_jpeg():
    random = np.random.default_rng(0)
    yuv = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = PictureFormat("YUYV", 128, 64, "bt601", "full")
    plane = np.stack([yuv[..., 0], yuv[..., 1], yuv[..., 0], yuv[..., 2]], axis=-1).reshape(64, 256)
    expected = np.asarray(Image.fromarray(yuv, "YCbCr").convert("RGB"))[..., ::-1].astype(int)
    np.testing.assert_allclose(to_bgr([plane], picture)[:, ::2], expected, atol=1)


def test_colours_that_are_no_yuv():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    rows = pixels.reshape(5, 21)
    bgr = to_bgr([rows], PictureFormat("BGR", 7, 5))
    np.testing.assert_array_equal(bgr, pixels)
    assert np.shares_memory(bgr, rows)
    np.testing.assert_array_equal(to_bgr([rows], PictureFormat("RGB", 7, 5)), pixels[..., ::-1])
    grey = to_bgr([rows], PictureFormat("GREY", 21, 5))
    np.testing.assert_array_equal(grey, np.repeat(rows[..., None], 3, axis=2))


@pytest.mark.parametrize("extra", [0, 1, 6])
@pytest.mark.parametrize("size", [(64, 48), (33, 7)])
@pytest.mark.parametrize("pixel_format", get_args(pixel_formats.PixelFormat))
def test_planes_of_one_buffer(pixel_format, size, extra):
    """Planes laid behind each other row by row are found again, and the pitch does not show in the picture."""
    picture = PictureFormat(pixel_format, *size)
    tight = planes_of(picture)
    pitch = tight[0].shape[1] + extra
    chroma = pitch + pitch % 2 if pixel_format == "NV12" else (pitch + 1) // 2
    buffer = np.concatenate(
        [
            np.pad(plane, [(0, 0), (0, (pitch if index == 0 else chroma) - plane.shape[1])]).ravel()
            for index, plane in enumerate(tight)
        ]
    )
    planes = split_planes(buffer, picture, pitch)
    assert [plane.shape for plane in planes] == list(picture.plane_sizes)
    np.testing.assert_array_equal(to_bgr(planes, picture), to_bgr(tight, picture))
    without_padding_of_the_last_row = buffer[: buffer.size - (planes[-1].strides[0] - planes[-1].shape[1])]
    np.testing.assert_array_equal(split_planes(without_padding_of_the_last_row, picture, pitch)[-1], tight[-1])
    with pytest.raises(ImageError, match="bytes for"):
        split_planes(without_padding_of_the_last_row[:-1], picture, pitch)


@pytest.mark.parametrize("crop", [slice(0, 40), slice(3, 37)])
def test_planes_need_not_be_contiguous(crop):
    frame = np.random.default_rng(0).integers(0, 256, (20, 100), dtype=np.uint8)
    for pixel_format in ("BGR", "GREY", "YUYV"):
        picture = PictureFormat(pixel_format, 9, 20)
        part = frame[:, crop]
        np.testing.assert_array_equal(to_bgr([part], picture), to_bgr([part.copy()], picture))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ImageError, match="a picture with pixels"):
        PictureFormat("NV12", 0, 4)
    with pytest.raises(ImageError, match="a pitch of at least 128"):
        split_planes(np.zeros(10_000, np.uint8), PictureFormat("YUYV", 63, 4), 127)
    small = PictureFormat("NV12", 8, 4)
    for planes in (
        [],
        [np.zeros((4, 8), np.uint8)],
        [np.zeros((4, 8), np.uint8), np.zeros((2, 7), np.uint8)],
        [np.zeros((4, 8), np.float32), np.zeros((2, 8), np.uint8)],
    ):
        with pytest.raises(ImageError, match=r"uint8 planes of at least \(4, 8\), \(2, 8\)"):
            to_bgr(planes, small)
