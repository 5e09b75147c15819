from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.errors import ImageError
from edgedet.runtime.capture import read_image

pillow = pytest.importorskip("PIL.Image")
image_ops = pytest.importorskip("PIL.ImageOps")


def picture(width: int = 64, height: int = 48):
    """A smooth colour picture as Pillow has it."""
    seeds = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return pillow.fromarray(cv2.resize(seeds, (width, height), interpolation=cv2.INTER_CUBIC))


def encode(image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bgr(image) -> np.ndarray:
    return np.array(image.convert("RGB"))[..., ::-1].astype(int)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "tolerance"),
    [
        ("PNG", "RGB", {}, 0),
        ("PNG", "L", {}, 0),
        ("PNG", "P", {}, 0),
        ("PNG", "1", {}, 0),
        ("BMP", "RGB", {}, 0),
        ("TIFF", "RGB", {}, 0),
        ("WEBP", "RGB", {"lossless": True}, 0),
        ("JPEG", "RGB", {"quality": 95}, 3),
        ("JPEG", "RGB", {"quality": 95, "progressive": True}, 3),
        ("JPEG", "L", {"quality": 95}, 3),
        ("JPEG", "CMYK", {"quality": 95}, 3),
    ],
)
def test_reads_as_pillow_does(tmp_path: Path, kind, mode, options, tolerance):
    data = encode(picture().convert(mode), kind, **options)
    path = tmp_path / "picture"
    path.write_bytes(data)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
    assert np.abs(image - bgr(pillow.open(io.BytesIO(data)))).max() <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_keep_their_high_bytes(tmp_path: Path, suffix):
    deep = (np.arange(48 * 64, dtype=np.uint16) * 21).reshape(48, 64)
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), deep)
    assert np.array_equal(read_image(path), np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path: Path, mode):
    image = picture().convert(mode)
    image.putalpha(7)
    path = tmp_path / "clear.png"
    image.save(path)
    assert np.array_equal(read_image(path), bgr(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation):
    exif = pillow.Exif()
    exif[0x112] = orientation
    path = tmp_path / "turned.jpg"
    picture().save(path, quality=95, exif=exif)
    upright = bgr(image_ops.exif_transpose(pillow.open(path)))
    image = read_image(path)
    assert image.shape == upright.shape and np.abs(image - upright).max() <= 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("WEBP", {}), ("TIFF", {}), ("GIF", {})],
)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_cut_picture_is_an_error(tmp_path: Path, kind, options, share):
    data = encode(picture(), kind, **options)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"'.*cut'"):
        read_image(path)


def test_jpeg_without_its_last_marker_is_cut_short(tmp_path: Path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(encode(picture(), "JPEG")[:-2])
    with pytest.raises(ImageError, match=r"a complete picture, got '.*cut\.jpg', which ends in the middle"):
        read_image(path)


def test_end_marker_of_an_embedded_thumbnail_does_not_count(tmp_path: Path):
    data = encode(picture(), "JPEG")
    thumbnail = encode(picture(16, 12), "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (48, 64, 3)
    path.write_bytes(whole[:-100])
    with pytest.raises(ImageError, match="ends in the middle"):
        read_image(path)


def test_bytes_after_the_end_are_no_fault(tmp_path: Path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(encode(picture(), "JPEG") + b"maker's own trailer \xff\x00")
    assert read_image(path).shape == (48, 64, 3)


def zero_sized_png() -> bytes:
    data = bytearray(encode(picture(), "PNG"))
    data[16:20] = bytes(4)
    return bytes(data)


def damaged_png() -> bytes:
    data = bytearray(encode(picture(), "PNG"))
    data[200:400] = bytes(200)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no picture at all", "starts with b'no pictu'"),
        (b"\xff\xd8\xff" + bytes(500), "ends in the middle"),
        (zero_sized_png(), "is damaged"),
        (damaged_png(), "is damaged"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path: Path, data, message):
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_missing_file_and_folder_are_said(tmp_path: Path):
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="the folder"):
        read_image(tmp_path)
