"""Panoptic-DeepLab on the device against the head: the same segments; pixels but for ties within rounding."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.panoptic_deeplab import PanopticDeeplab
from edgedet.runtime.kernels.panoptic_deeplab import CENTER_PLACEMENT, DeeplabMaps, DeeplabRule
from edgedet.runtime.preprocess import place
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
NAMES = ("sky", "road", "car", "person", "tree")
SKY, ROAD, CAR, PERSON, TREE = range(5)
HEAD = PanopticDeeplab(thing_classes=(CAR, PERSON), stuff_area=150, nms_kernel=5, max_centers=20)
SIZE = (64, 48)
SOURCES = [(70, 53), (41, 37)]
PLACEMENTS = [place(*source, InputSpec(*SIZE)) for source in SOURCES]
LARGEST = (70, 53)
EVERYTHING = Selection(confidence=0)


def smooth(random: np.random.Generator, count: int, height: int, width: int, radius: float) -> Array:
    noise = random.normal(size=(count, height, width)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(layer, (0, 0), radius) for layer in noise]) * radius


def answers(seed: int, dtype: str = "f4") -> list[Array]:
    """Smooth logits and offsets, and a heatmap with a dozen bumps, each of another size of map."""
    random = np.random.default_rng(seed)
    semantic = np.stack([smooth(random, 5, 12, 16, 2.0) * 8 for _ in SOURCES])
    heatmap = np.stack([np.abs(smooth(random, 1, 24, 32, 1.5)) for _ in SOURCES])
    offsets = np.stack([smooth(random, 2, 15, 20, 2.0) * 6 for _ in SOURCES])
    return [values.astype(dtype) for values in (semantic, heatmap, offsets)]


def run(
    kernels: HostKernels,
    outputs: list[Array],
    head: PanopticDeeplab = HEAD,
    selection: Selection = EVERYTHING,
    seed: int = 0,
) -> list[PanopticMap]:
    shapes = [values.shape for values in outputs]
    stage = DeeplabMaps(garbage, np.copy, head, selection, shapes, outputs[0].dtype, SIZE, LARGEST)
    semantic, offsets, nearest = stage.rules(PLACEMENTS)
    first, second, third = outputs
    stage.run(InOrder(kernels, seed), (semantic, offsets, nearest), stage.centers(PLACEMENTS), (first, second, third))
    return stage.panoptic_maps(np.asarray(stage.maps), np.asarray(stage.table), SOURCES, NAMES)


def expected(
    outputs: list[Array], head: PanopticDeeplab = HEAD, selection: Selection = EVERYTHING
) -> list[PanopticMap]:
    return [
        head.decode_map([values[picture] for values in outputs], at, SIZE, selection, NAMES)
        for picture, at in enumerate(PLACEMENTS)
    ]


def check(found: list[PanopticMap], wanted: list[PanopticMap]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.segment_id.dtype == other.segment_id.dtype
        assert [(item.id, item.class_id, item.is_thing) for item in one.segments] == [
            (item.id, item.class_id, item.is_thing) for item in other.segments
        ]
        np.testing.assert_allclose(
            [item.score for item in one.segments], [item.score for item in other.segments], rtol=1e-3
        )
        assert [item.area for item in one.segments] == [int(one.mask(item).sum()) for item in one.segments]
        assert (one.segment_id != other.segment_id).mean() < 2e-3


HEADS = {
    "default": HEAD,
    "sigmoid": replace(HEAD, center_activation="sigmoid", center_threshold=0.55),
    "few centers": replace(HEAD, max_centers=2),
    "small window": replace(HEAD, nms_kernel=1, center_threshold=0.4),
    "offsets in cells": replace(HEAD, offset_scale=3.2),
    "large stuff": replace(HEAD, stuff_area=900),
    "no center reaches it": replace(HEAD, center_threshold=50.0),
    "only stuff": replace(HEAD, thing_classes=()),
    "only things": replace(HEAD, thing_classes=(0, 1, 2, 3, 4)),
}


@pytest.mark.parametrize("name", HEADS)
def test_segments_are_those_of_the_head(kernels: HostKernels, name: str) -> None:
    outputs = answers(len(name))
    wanted = expected(outputs, HEADS[name])
    check(run(kernels, outputs, HEADS[name], seed=len(name)), wanted)
    assert any(found.segments for found in wanted) or name == "large stuff"


def test_half_precision_and_the_order_of_threads(kernels: HostKernels) -> None:
    outputs = answers(3, "f2")
    wanted = expected(outputs)
    first = run(kernels, outputs)
    check(first, wanted)
    assert any(item.is_thing for found in wanted for item in found.segments)
    for seed in (2, 31):
        again = run(kernels, outputs, seed=seed)
        assert [found.segments for found in again] == [found.segments for found in first]
        assert all((one.segment_id == other.segment_id).all() for one, other in zip(again, first, strict=True))


def test_selection(kernels: HostKernels) -> None:
    outputs = answers(8)
    for selection in (Selection(confidence=0.3), Selection(confidence=0.0, class_ids=(CAR, SKY))):
        check(run(kernels, outputs, selection=selection), expected(outputs, selection=selection))


def test_of_a_plateau_one_cell_a_window_is_a_center(kernels: HostKernels) -> None:
    outputs = answers(5)
    outputs[1][:, :, 3:15, 4:20] = 2.0
    outputs[1][1] = 0.5
    wanted = expected(outputs)
    check(run(kernels, outputs), wanted)
    assert max(len(found.segments) for found in wanted) > 8


def test_broken_numbers(kernels: HostKernels) -> None:
    outputs = answers(6)
    outputs[0][0, 1, 3:5] = np.nan
    outputs[0][1, 2, :, 4] = np.inf
    outputs[1][0, 0, 2:6] = np.nan
    outputs[2][0, 0, 5] = np.nan
    outputs[2][1, 1, :, 3] = -np.inf
    check(run(kernels, outputs), expected(outputs))


def test_a_batch_that_is_not_full(kernels: HostKernels) -> None:
    outputs = answers(3)
    stage = DeeplabMaps(
        garbage, np.copy, HEAD, EVERYTHING, [values.shape for values in outputs], np.float32, SIZE, LARGEST
    )
    rules, centers = stage.rules(PLACEMENTS), stage.centers(PLACEMENTS)
    rules[:, 1], centers[1] = 0, 0
    stage.run(InOrder(kernels, 0), (rules[0], rules[1], rules[2]), centers, (outputs[0], outputs[1], outputs[2]))
    found = stage.panoptic_maps(np.asarray(stage.maps), np.asarray(stage.table), SOURCES[:1], NAMES)
    check(found, expected(outputs)[:1])


def test_too_many_parts_are_refused() -> None:
    shapes = [(1, 30, 4, 4), (1, 1, 4, 4), (1, 2, 4, 4)]
    with pytest.raises(SpecError, match="at most 1024 objects and classes"):
        DeeplabRule.of(replace(HEAD, max_centers=1000), EVERYTHING, shapes)


def test_the_structures_are_laid_out_as_the_kernels_read_them() -> None:
    assert (ctypes.sizeof(DeeplabRule), CENTER_PLACEMENT.itemsize) == (56, 48)
