"""Boxes and tint by the kernels against those that OpenCV draws: equal to the bit, in any order of the threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import ImageError
from edgedet.masks import Mask, Masks
from edgedet.results import Detections
from edgedet.runtime import mask_overlay, overlay
from edgedet.runtime.drawing import Pen
from edgedet.runtime.kernels.detections import DetectionList
from edgedet.runtime.kernels.masks import MaskList, MaskRoom
from edgedet.runtime.kernels.overlay import CANVAS, DeviceCanvas, OverlayStage

NAMES = tuple(f"class {index}" for index in range(30))
LIMIT = 20
ORDERS = (0, 3, 20_26)


def some_boxes(seed: int, count: int, width: int, height: int) -> np.ndarray:
    """Boxes that overlap, among them ones without area, outside of the picture, on halves, and not finite."""
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform((-5, -5), (width + 5, height + 5), (2, count, 2)), axis=0)
    boxes = np.concatenate([corners[0], corners[1]], axis=1).astype(np.float32)
    special = [
        (0, 0, width, height),
        (3, 3, 3, 3),
        (2.5, 0.5, 7.5, 1.5),
        (np.nan, 0, 5, 5),
        (0, 0, np.inf, 5),
        (width, height, width, height),
        (-30, -30, -20, -20),
        (1, 1, 9, 4),
    ]
    for index, box in zip(range(4, count), special, strict=False):
        boxes[index] = box
    return boxes


class Scene:
    """A picture with detections, in NumPy and as the kernels see it."""

    def __init__(self, width: int, height: int, count: int, seed: int = 0, extra: int = 0) -> None:
        random = np.random.default_rng(seed)
        memory = random.integers(0, 256, (height - 1) * (3 * width + extra) + 3 * width, dtype=np.uint8)
        self.canvas = np.lib.stride_tricks.as_strided(memory, (height, width, 3), (3 * width + extra, 3, 1))
        self.memory = memory
        boxes = some_boxes(seed, count, width, height)
        masks = []
        for _ in boxes:
            left, top = (int(value) for value in random.integers(0, (width, height)))
            wide, high = (int(random.integers(0, side + 1)) for side in (width - left, height - top))
            masks.append(Mask.from_bitmap(random.random((high, wide)) < 0.6, left, top))
        self.detections = Detections(
            boxes,
            np.linspace(1, 0.1, count, dtype=np.float32),
            random.integers(0, len(NAMES), count),
            NAMES,
            masks=Masks(tuple(masks), width, height),
        )

    @property
    def device(self) -> DeviceCanvas:
        height, width = self.canvas.shape[:2]
        return DeviceCanvas(self.canvas.ctypes.data, self.canvas.strides[0], width, height)

    def drawn(self, *, masks: bool) -> np.ndarray:
        """What the CPU path draws, less labels and contours."""
        canvas = self.canvas.copy()
        pen = Pen.for_picture(canvas.shape[1], canvas.shape[0])
        finite = [item for item in self.detections if np.isfinite(item.xyxy).all()]
        if masks:
            shown = [(item, mask) for item in reversed(finite) if (mask := mask_overlay._within(item.mask, canvas))]
            mask_overlay._tint(canvas, shown)
        for item in reversed(finite):
            overlay._draw_box(canvas, item, pen)
        return canvas


def on_device(scenes: list[Scene], *, masks: bool) -> OverlayStage:
    """The stage, its lists filled with the scenes' detections."""
    found = DetectionList(garbage, len(scenes), LIMIT)
    arrays = found.arrays(found.words)
    room = max(sum(-(-mask.bits.size // 4) for mask in scene.detections.masks) for scene in scenes)
    painted = MaskList(garbage, found, MaskRoom(max(room, 1)))
    records = painted.words[2 * len(scenes) : painted.plan_words].view(np.int32).reshape(len(scenes), LIMIT, -1)
    bits = painted.words[painted.plan_words :].reshape(len(scenes), -1)
    for index, scene in enumerate(scenes):
        count = len(scene.detections)
        arrays.count[index] = count
        arrays.xyxy[index, :count] = scene.detections.xyxy
        arrays.class_id[index, :count] = scene.detections.class_id
        first = 0
        for record, mask in zip(records[index], scene.detections.masks, strict=False):
            record[:] = mask.left, mask.top, mask.width, mask.height, first
            words = -(-mask.bits.size // 4)
            bits[index, first : first + words].view(np.uint8)[: mask.bits.size] = mask.bits
            first += words
    return OverlayStage(found, painted if masks else None, len(NAMES), garbage, np.ascontiguousarray)


def draw(kernels: HostKernels, scenes: list[Scene], order: int = 0, *, masks: bool = True) -> None:
    stage = on_device(scenes, masks=masks)
    stage.canvases[:] = stage.table([scene.device for scene in scenes])
    stage.launch(InOrder(kernels, order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "boxes and masks"])
def test_pictures_of_all_sizes(kernels, order, masks):
    sizes = [(1, 1), (64, 48), (33, 7), (5, 90), (130, 101)]
    scenes = [Scene(*size, count=4 + 4 * index, seed=index, extra=7) for index, size in enumerate(sizes)]
    expected = [scene.drawn(masks=masks) for scene in scenes]
    draw(kernels, scenes, order, masks=masks)
    for scene, picture in zip(scenes, expected, strict=True):
        np.testing.assert_array_equal(scene.canvas, picture)


@pytest.mark.parametrize("line", [1, 2, 3, 4, 5, 8, 18])
def test_lines_of_all_widths(kernels, line, monkeypatch):
    """Lines grow with the picture; here they are set, on small pictures: corners are as round as OpenCV's."""
    monkeypatch.setattr(Pen, "for_picture", classmethod(lambda cls, width, height: cls(line, 1.0, 1)))
    scene = Scene(150, 110, count=14, seed=line)
    expected = scene.drawn(masks=False)
    draw(kernels, [scene], masks=False)
    np.testing.assert_array_equal(scene.canvas, expected)


def test_what_lies_between_rows_is_not_touched(kernels):
    scene = Scene(40, 30, count=12, extra=9)
    before = scene.memory.copy()
    draw(kernels, [scene])
    changed = np.flatnonzero(scene.memory != before)
    assert len(changed) and (changed % (3 * 40 + 9) < 3 * 40).all()


def test_red_first(kernels):
    scene, swapped = Scene(60, 50, count=12), Scene(60, 50, count=12)
    swapped.canvas[:] = scene.canvas[..., ::-1]
    stage = on_device([scene, swapped], masks=True)
    given = swapped.device
    red_first = DeviceCanvas(given.address, given.pitch, given.width, given.height, "RGB")
    stage.canvases[:] = stage.table([scene.device, red_first])
    stage.launch(InOrder(kernels, 0))
    np.testing.assert_array_equal(swapped.canvas, scene.canvas[..., ::-1])


def test_pictures_that_are_not_there_are_left_out(kernels):
    scenes = [Scene(20, 20, count=4), Scene(20, 20, count=4, seed=1)]
    before = scenes[1].canvas.copy()
    stage = on_device(scenes, masks=True)
    stage.canvases[:] = stage.table([scenes[0].device])
    stage.launch(InOrder(kernels, 0))
    np.testing.assert_array_equal(scenes[1].canvas, before)


def test_masks_without_room_are_left_out(kernels):
    scene, plain = Scene(40, 30, count=4), Scene(40, 30, count=4)
    stage = on_device([scene], masks=True)
    words = stage._masks.words
    words[2 : stage._masks.plan_words].view(np.int32).reshape(LIMIT, -1)[:, -1] = -1
    stage.canvases[:] = stage.table([scene.device])
    stage.launch(InOrder(kernels, 0))
    np.testing.assert_array_equal(scene.canvas, plain.drawn(masks=False))


def test_structures_have_the_size_that_the_header_asserts():
    header = (Path(__file__).resolve().parents[4] / "runtime" / "kernels" / "overlay.cuh").read_text("utf-8")
    assert f"sizeof(Canvas) == {CANVAS.itemsize}," in header


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ImageError, match="a pitch of three bytes a pixel"):
        DeviceCanvas(0, 29, 10, 10)
    stage = on_device([Scene(8, 8, count=2)], masks=False)
    with pytest.raises(ImageError, match="at most 1 pictures"):
        stage.table([DeviceCanvas(0, 30, 10, 10)] * 2)
    with pytest.raises(ImageError, match="lines at most 70 pixels wide"):
        stage.table([DeviceCanvas(0, 90_000, 30_000, 30_000)])
