from __future__ import annotations

import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.v4l2.formats import (
    FORMATS,
    Mode,
    ModeRequest,
    choose_mode,
    codes_named,
    four_characters,
    four_numbers,
    picture_format,
)
from edgedet.runtime.pixel_formats import PictureFormat

WEBCAM = [
    Mode("YUYV", 640, 480, (15.0, 30.0)),
    Mode("YUYV", 1280, 720, (5.0, 10.0)),
    Mode("MJPG", 640, 480, (30.0,)),
    Mode("MJPG", 1280, 720, (30.0, 60.0)),
    Mode("MJPG", 1920, 1080, (30.0,)),
    Mode("H264", 1920, 1080, (30.0,)),
]
"""As a usual USB 2 camera lists them."""


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        (ModeRequest(), WEBCAM[3]),  # raw 720p is too slow
        (ModeRequest(fps=10), WEBCAM[1]),
        (ModeRequest(fps=60), WEBCAM[3]),
        (ModeRequest("yuyv"), WEBCAM[0]),
        (ModeRequest("YUYV", (1280, 720)), WEBCAM[1]),
        (ModeRequest(size=(640, 480)), WEBCAM[0]),  # raw before compressed
        (ModeRequest(size=(640, 480), fps=29.97), WEBCAM[0]),
        (ModeRequest("MJPG", (1920, 1080)), WEBCAM[4]),
    ],
)
def test_choice_among_a_webcams_modes(request_, chosen):
    assert choose_mode(WEBCAM, request_, "it") is chosen


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ModeRequest("NV12"), r"a mode of it with NV12, got YUYV 640x480 at 30, 15 fps, .*H264 1920x1080 at 30 fps"),
        (ModeRequest("YUYV", (1920, 1080), 30), "YUYV 1920x1080 at 30 fps"),
        (ModeRequest(fps=25), "with at 25 fps"),
        (ModeRequest("H264"), "a pixel format of NV12, I420, YUYV"),
    ],
)
def test_what_is_not_there_is_refused(request_, message):
    with pytest.raises(SourceError, match=message):
        choose_mode(WEBCAM, request_, "it")


def test_a_camera_without_modes():
    with pytest.raises(SourceError, match="a pixel format that edgedet reads, got none"):
        choose_mode([], ModeRequest(), "it")


def test_a_long_list_is_cut():
    with pytest.raises(SourceError, match="and 88 more, which edgedet cameras lists"):
        choose_mode([Mode("YUYV", number, 1) for number in range(1, 101)], ModeRequest("NV12"), "it")


@pytest.mark.parametrize(
    ("mode", "wanted", "rate"),
    [
        (Mode("YUYV", 1, 1, (5.0, 20.0, 60.0)), None, 20.0),
        (Mode("YUYV", 1, 1, (5.0, 30.0, 60.0)), 50, 60.0),
        (Mode("YUYV", 1, 1, (1.0, 60.0), any_between=True), 47.5, 47.5),
        (Mode("YUYV", 1, 1, (1.0, 25.0), any_between=True), None, 25.0),
        (Mode("YUYV", 1, 1), None, None),
    ],
)
def test_rate(mode, wanted, rate):
    assert mode.rate_for(wanted) == rate


def test_a_rate_that_nobody_tells_may_be_any():
    assert Mode("YUYV", 1, 1).has_rate(17)


def test_modes_in_words():
    assert str(Mode("YUYV", 640, 480, (15.0, 30.0))) == "YUYV 640x480 at 30, 15 fps"
    assert str(Mode("YUYV", 640, 480, (1.0, 59.94), any_between=True)) == "YUYV 640x480 at 1 to 59.94 fps"
    assert str(Mode("YUYV", 640, 480)) == "YUYV 640x480"


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("rgb", ("RGB3",)),
        ("BGR3", ("BGR3",)),
        ("NV12", ("NV12", "NM12")),
        ("NM12", ("NM12",)),
        ("I420", ("YU12", "YM12")),
        ("MJPG", ("MJPG", "JPEG")),
    ],
)
def test_names(name, codes):
    assert codes_named(name) == codes


@pytest.mark.parametrize(("code", "number"), [("YUYV", 0x56595559), ("Y16", 0x20363159), ("NV12", 0x3231564E)])
def test_codes_are_the_kernels_numbers(code, number):
    assert four_numbers(code) == number
    assert four_characters(number) == code


def test_big_endian_formats_say_so():
    assert four_characters(0x80000000 | 0x20363159) == "Y16-BE"


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ({}, ("bt601", "limited")),
        ({"colorspace": 8}, ("bt601", "limited")),  # sRGB, as webcams say
        ({"colorspace": 3}, ("bt709", "limited")),
        ({"colorspace": 3, "encoding": 1}, ("bt601", "limited")),
        ({"colorspace": 8, "encoding": 2, "quantization": 1}, ("bt709", "full")),
        ({"colorspace": 7}, ("bt601", "full")),  # JPEG
        ({"colorspace": 7, "quantization": 2}, ("bt601", "limited")),
    ],
)
def test_colours_follow_the_kernels_rules(colours, expected):
    """V4L2_MAP_YCBCR_ENC_DEFAULT and V4L2_MAP_QUANTIZATION_DEFAULT of linux/videodev2.h."""
    assert picture_format("YUYV", 4, 2, **colours) == PictureFormat("YUYV", 4, 2, *expected)


def test_jpeg_is_no_arrangement_of_pixels():
    assert picture_format("MJPG", 4, 2) == JpegFormat(4, 2)
    assert {picture_format(code, 4, 2).pixel_format for code in FORMATS} == set(FORMATS.values())
