"""The examples' own reading of maps against torch's interpolation and against edgedet's heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from letterbox import Letterbox, letterbox
from plain_maps import class_map, resample
from plain_parts import part_map
from scenes import SCENE_CLASSES, THING_CLASSES
from torch import Tensor
from torch.nn import functional

from edgedet.maps import PanopticMap
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.heads.panoptic_deeplab import PanopticDeeplab
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.selection import Selection

SIDE = 64
SIZES = [(48, 64), (80, 60), (97, 131)]
EVERYTHING = Selection(confidence=0.0)


def placement(size: tuple[int, int]) -> Placement:
    spec = InputSpec(width=SIDE, height=SIDE, resize="letterbox", pad_position="center")
    return place(size[1], size[0], spec)


def noise(seed: int, channels: int) -> Tensor:
    coarse = torch.randn(1, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(SIDE // 4, SIDE // 4), mode="bicubic")


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_resampling_is_torch_s_interpolation(factor: int) -> None:
    maps = noise(0, 3)
    size = (16 * factor, 16 * factor)
    expected = functional.interpolate(maps, size=size, mode="bilinear")[0]
    # A picture of any size that fills the input.
    found = resample(maps, Letterbox(scale=SIDE / size[0], left=0, top=0), SIDE, size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_class_maps_are_those_of_the_head(size: tuple[int, int]) -> None:
    logits = noise(1, len(SCENE_CLASSES))
    found = class_map(lambda _: logits, np.zeros((*size, 3), np.uint8), SIDE)
    expected = ClassScores().decode_map((logits[0].numpy(),), placement(size), (SIDE, SIDE), EVERYTHING, SCENE_CLASSES)
    assert (found.class_id == expected.class_id).mean() > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_parts_are_those_of_the_head(size: tuple[int, int]) -> None:
    logits, offsets = noise(2, len(SCENE_CLASSES)) * 3, noise(3, 2) / 4
    heat = torch.zeros(1, 1, 16, 16)
    heat[0, 0, [3, 8, 12], [4, 12, 6]] = torch.tensor([0.9, 0.4, 0.7])
    heat[0, 0, 3, 5] = 0.5
    found = part_map(lambda _: (logits, heat, offsets), np.zeros((*size, 3), np.uint8), SIDE, 16.0, 40)
    head = PanopticDeeplab(thing_classes=THING_CLASSES, offset_scale=16.0, stuff_area=40)
    outputs = tuple(output[0].numpy() for output in (logits, heat, offsets))
    expected = head.decode_map(outputs, placement(size), (SIDE, SIDE), EVERYTHING, SCENE_CLASSES)
    assert sum(segment.is_thing for segment in expected.segments) == 3
    assert (class_of_pixels(found) == class_of_pixels(expected)).mean() > 0.995
    assert (found.segment_id == expected.segment_id).mean() > 0.995
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert (one.id, one.class_id, one.is_thing) == (other.id, other.class_id, other.is_thing)
        assert one.area == pytest.approx(other.area, rel=0.02)
        assert one.score == pytest.approx(other.score, abs=0.05)


def class_of_pixels(panoptic: PanopticMap) -> np.ndarray:
    table = np.full(len(panoptic.segments) + 1, -1)
    for segment in panoptic.segments:
        table[segment.id] = segment.class_id
    return np.asarray(table[panoptic.segment_id])


def test_without_a_centre_there_are_no_things() -> None:
    logits = torch.zeros(1, len(SCENE_CLASSES), 16, 16)
    logits[:, 4] = 1.0
    answer = part_map(
        lambda _: (logits, torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16)),
        np.zeros((64, 64, 3), np.uint8),
        SIDE,
        16.0,
        40,
    )
    assert answer.segments == () and not answer.segment_id.any()


def test_letterboxes_agree() -> None:
    for size in SIZES:
        mapping, other = letterbox(np.zeros((*size, 3), np.uint8), SIDE)[1], placement(size)
        assert (mapping.left, mapping.top) == (other.left, other.top)
