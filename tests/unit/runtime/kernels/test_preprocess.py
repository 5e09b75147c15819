"""The fused kernel against the CPU path (OpenCV): equal to the bit, for every format, element type and layout."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path

import numpy as np
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import ImageError, SpecError
from edgedet.model_spec import InputSpec
from edgedet.runtime.capture.image import read_image
from edgedet.runtime.kernels.preprocess import FORMATS, PICTURE, DevicePicture, PreprocessStage, Target, describe
from edgedet.runtime.pixel_formats import PictureFormat, to_bgr
from edgedet.runtime.preprocess import Placement, Preprocessor, place

IMAGES = Path(__file__).resolve().parents[4] / "examples" / "digits" / "images"
DTYPES = {
    "float32": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "float16": {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)},
    "uint8": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "int8": {"mean": (0.0, 40.0, 128.0), "std": (255 / 127, 1.9, 1.0)},
}
ORDERS = (0, 1, 20_26)


class Scene:
    """A picture in memory of exactly the size that it needs: rows `extra` bytes further apart than they are long."""

    def __init__(self, picture: PictureFormat, seed: int = 0, extra: int = 0, crop=None) -> None:
        random = np.random.default_rng(seed)
        self.planes = []
        for index, (rows, length) in enumerate(picture.plane_sizes):
            pitch = length + extra + (3 * index if extra else 0)
            memory = random.integers(0, 256, (rows - 1) * pitch + length, dtype=np.uint8)
            self.planes.append(np.lib.stride_tricks.as_strided(memory, (rows, length), (pitch, 1)))
        addresses = tuple(plane.ctypes.data for plane in self.planes)
        self.picture = picture
        self.device = DevicePicture(picture, addresses, tuple(plane.strides[0] for plane in self.planes), crop)

    @classmethod
    def of_bgr(cls, image: np.ndarray) -> Scene:
        scene = cls(PictureFormat("BGR", image.shape[1], image.shape[0]))
        scene.planes[0][:] = image.reshape(image.shape[0], -1)
        return scene

    @property
    def part(self) -> np.ndarray:
        left, top, right, bottom = self.device.window
        return to_bgr(self.planes, self.picture)[top:bottom, left:right]


def run(kernels: HostKernels, spec: InputSpec, scenes: list[Scene], order: int = 0, batch: int | None = None):
    """Return the tensor that the kernel makes, from one filled with a mark, and the placements."""
    stage = PreprocessStage(spec, batch or len(scenes), garbage)
    table, placements = stage.table([scene.device for scene in scenes])
    np.copyto(stage.pictures, table)
    tensor = Preprocessor(spec).empty(stage.batch)
    tensor[:] = 77
    stage.launch(InOrder(kernels, order), tensor)
    return tensor, placements


def reference(spec: InputSpec, scenes: list[Scene]) -> np.ndarray:
    """The CPU path's answer."""
    preprocess = Preprocessor(spec)
    tensor = preprocess.empty(len(scenes))
    for target, scene in zip(tensor, scenes, strict=True):
        part = scene.part
        preprocess.write(part, target, place(part.shape[1], part.shape[0], spec))
    return tensor


def assert_same(kernels: HostKernels, spec: InputSpec, scenes: list[Scene], order: int = 0) -> None:
    tensor, placements = run(kernels, spec, scenes, order)
    assert tensor.dtype == spec.dtype
    np.testing.assert_array_equal(tensor, reference(spec, scenes))
    assert placements == [place(scene.part.shape[1], scene.part.shape[0], spec) for scene in scenes]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixel_format", FORMATS[1:])
def test_every_format_type_and_layout(kernels, pixel_format, dtype, layout):
    channels = "BGR" if FORMATS.index(pixel_format) % 2 else "RGB"
    spec = InputSpec(97, 70, layout=layout, dtype=dtype, channels=channels, pad_value=33, **DTYPES[dtype])
    for seed, (width, height) in enumerate([(123, 45), (40, 141)]):
        assert_same(kernels, spec, [Scene(PictureFormat(pixel_format, width, height), seed, extra=13)])


@pytest.mark.parametrize("order", ORDERS)
def test_pictures_of_a_batch_may_differ_in_all(kernels, order):
    spec = InputSpec(80, 50, dtype="float16")
    sizes = [(1, 1), (64, 48), (333, 7), (80, 50), (31, 200), (19, 19), (160, 100)]
    scenes = [
        Scene(PictureFormat(name, *size, matrix, value_range), seed, extra=seed)
        for seed, (name, size, matrix, value_range) in enumerate(
            zip(
                FORMATS[1:],
                sizes,
                itertools.cycle(["bt601", "bt709"]),
                itertools.cycle(["limited", "limited", "full"]),
                strict=False,
            )
        )
    ]
    assert_same(kernels, spec, scenes, order)


@pytest.mark.parametrize("value_range", ["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("pixel_format", ["YUYV", "UYVY", "NV12", "I420"])
def test_every_standard(kernels, pixel_format, matrix, value_range):
    spec = InputSpec(96, 64, resize="stretch", channels="BGR", dtype="uint8", **DTYPES["uint8"])
    scenes = [Scene(PictureFormat(pixel_format, *size, matrix, value_range)) for size in [(96, 64), (95, 63)]]
    assert_same(kernels, spec, scenes)


@pytest.mark.parametrize("downscale", ["bilinear", "area"])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("position", ["center", "bottom_right"])
def test_every_ratio(kernels, downscale, resize, position):
    spec = InputSpec(
        65, 33, channels="BGR", dtype="uint8", downscale=downscale, resize=resize, pad_position=position,
        **DTYPES["uint8"],
    )  # fmt: skip
    same, whole = [(65, 33)], [(130, 66), (195, 99), (65, 132), (260, 66), (390, 198)]
    odd = [(1, 1), (2, 3), (66, 34), (64, 32), (1000, 2), (3, 500), (449, 31), (161, 331), (600, 401), (137, 70)]
    assert_same(kernels, spec, [Scene(PictureFormat("BGR", *size)) for size in same + whole + odd])


@pytest.mark.parametrize("side", [49, 98, 103, 107, 161])
def test_ratios_that_floating_point_does_not_hold(kernels, side):
    """1 / (1 / 49) is not 49 in float64: OpenCV's tables then lie a little beside the whole numbers."""
    for downscale in ("bilinear", "area"):
        spec = InputSpec(3, 2, dtype="uint8", downscale=downscale, resize="stretch", **DTYPES["uint8"])
        assert_same(kernels, spec, [Scene(PictureFormat("BGR", 3 * side, 2 * side), side)])


@pytest.mark.parametrize("downscale", ["bilinear", "area"])
def test_random_sizes(kernels, downscale):
    random = np.random.default_rng(5)
    for _ in range(40):
        width, height, out_width, out_height = (int(value) for value in random.integers(1, [300, 200, 90, 60]))
        spec = InputSpec(out_width, out_height, resize="stretch", dtype="uint8", downscale=downscale, **DTYPES["uint8"])
        assert_same(kernels, spec, [Scene(PictureFormat("RGB", width, height), width)])


@pytest.mark.parametrize("order", ORDERS)
def test_regions_are_read_as_pictures_of_their_own(kernels, order):
    """Several parts of one frame, odd corners included: what lies beside a part is not looked at."""
    spec = InputSpec(40, 40, dtype="float32", downscale="area")
    picture = PictureFormat("NV12", 211, 97)
    whole = Scene(picture, 3, extra=5)
    crops = [(0, 0, 211, 97), (13, 7, 14, 8), (210, 96, 211, 97), (1, 1, 200, 50), (101, 33, 141, 73), (5, 3, 100, 96)]
    scenes = []
    for crop in crops:
        scene = Scene(picture, 3, extra=5, crop=crop)
        scene.planes = whole.planes
        scene.device = DevicePicture(picture, whole.device.addresses, whole.device.pitches, crop)
        scenes.append(scene)
    assert_same(kernels, spec, scenes, order)


def test_a_region_with_a_place_of_its_own(kernels):
    """As regions for R-CNN are warped: a part that covers some of the input, the rest is padded."""
    spec = InputSpec(70, 70, resize="stretch", pad_value=0)
    scene = Scene(PictureFormat("BGR", 90, 60), crop=(10, 0, 60, 33))
    at = Placement(50, 33, 12, 5, 41, 60)
    stage = PreprocessStage(spec, 1, garbage)
    entry, returned = describe(scene.device, spec, at)
    stage.pictures[:] = entry.view(np.uint8)
    tensor, expected = Preprocessor(spec).empty(1), Preprocessor(spec).empty(1)
    stage.launch(InOrder(kernels, 0), tensor)
    Preprocessor(spec).write(scene.part, expected[0], at)
    assert returned == at
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("path", sorted(IMAGES.iterdir())[:2], ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_real_pictures(kernels, path, dtype):
    image = read_image(path)
    assert_same(kernels, InputSpec(320, 320, dtype=dtype), [Scene.of_bgr(image)])


def test_missing_pictures_leave_the_tensor_as_it_is(kernels):
    spec = InputSpec(33, 33)
    scene = Scene(PictureFormat("BGR", 20, 20))
    tensor, _ = run(kernels, spec, [scene], batch=3)
    np.testing.assert_array_equal(tensor[:1], reference(spec, [scene]))
    assert (tensor[1:] == 77).all()


def test_new_pictures_need_nothing_but_a_new_table(kernels):
    """What a captured graph does at each replay: same arguments, other values in memory."""
    spec = InputSpec(48, 48)
    stage = PreprocessStage(spec, 1, garbage)
    tensor = Preprocessor(spec).empty(1)
    for scene in (Scene(PictureFormat("NV12", 64, 30)), Scene(PictureFormat("BGR", 31, 77), 1)):
        stage.pictures[:] = stage.table([scene.device])[0]
        stage.launch(InOrder(kernels, 0), tensor)
        np.testing.assert_array_equal(tensor, reference(spec, [scene]))


def test_structures_have_the_size_that_the_header_asserts():
    header = (Path(__file__).resolve().parents[4] / "runtime" / "kernels" / "preprocess.cuh").read_text("utf-8")
    assert f"sizeof(Picture) == {PICTURE.itemsize}," in header
    assert f"sizeof(Target) == {ctypes.sizeof(Target)}," in header


@pytest.mark.parametrize(
    ("pitches", "crop", "message"),
    [
        ((64,), None, "2 planes at pitches of at least"),
        ((64, 63), None, "got 2 at [64, 63]"),
        ((64, 64), (0, 0, 65, 10), "a part of a picture of 64x32"),
        ((64, 64), (10, 5, 10, 8), "left 10, top 5, right 10, bottom 8"),
        ((64, 64), (-1, 0, 10, 8), "Clip the region"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(pitches, crop, message):
    with pytest.raises(ImageError) as caught:
        DevicePicture(PictureFormat("NV12", 64, 32), (0,) * len(pitches), pitches, crop)
    assert message in str(caught.value)


def test_too_many_pictures_are_refused():
    scene = Scene(PictureFormat("BGR", 4, 4)).device
    with pytest.raises(ImageError, match="at most 1 pictures"):
        PreprocessStage(InputSpec(8, 8), 1, garbage).table([scene, scene])


def test_inputs_that_cannot_be_made_are_refused():
    with pytest.raises(SpecError):
        PreprocessStage(InputSpec(8, 8, dtype="int8"), 1, garbage)
