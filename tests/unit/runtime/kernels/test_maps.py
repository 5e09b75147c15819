"""Semantic maps of the kernels against the heads: ids are equal; classes of scores but for ties within rounding."""

from __future__ import annotations

import ctypes
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from host_kernels import HostKernels
from kernel_launches import InOrder, garbage

from edgedet.errors import SpecError
from edgedet.maps import ClassMap
from edgedet.model_spec import InputSpec
from edgedet.runtime.heads.class_map import ClassMapHead
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.kernels.maps import ClassMaps, FieldRule
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.selection import Selection

Array = npt.NDArray[Any]
SIZE = (64, 48)
SOURCES = [(130, 97), (64, 48), (31, 77), (5, 160), (200, 3)]
PLACEMENTS = [place(*source, InputSpec(*SIZE)) for source in SOURCES]
LARGEST = (200, 160)


def names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def smooth(seed: int, classes: int, height: int, width: int) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(layer, (0, 0), 1.5) for layer in noise]) * 5


def run(
    kernels: HostKernels, head: ClassScores | ClassMapHead, output: Array, classes: int, seed: int = 0
) -> list[ClassMap]:
    stage = ClassMaps(garbage, head, output.shape, output.dtype, classes, SIZE, LARGEST)
    stage.run(InOrder(kernels, seed), stage.rules(PLACEMENTS), output)
    return stage.class_maps(np.asarray(stage.maps), np.asarray(stage.wrong), SOURCES, names(classes))


def expected(head: ClassScores | ClassMapHead, output: Array, classes: int) -> list[ClassMap]:
    return [
        head.decode_map([one], at, SIZE, Selection(), names(classes))
        for one, at in zip(output, PLACEMENTS, strict=True)
    ]


def plain_scores(field: Array, at: Placement, *, align_corners: bool = False) -> npt.NDArray[np.float64]:
    """(C, H, W) scores enlarged in double precision."""
    _, height, width = field.shape
    places = []
    for pixels, covered, offset, length, count in (
        (at.source_height, at.height, at.top, SIZE[1], height),
        (at.source_width, at.width, at.left, SIZE[0], width),
    ):
        middle = (np.arange(pixels) + 0.5) * covered / pixels + offset
        exact = (middle - 0.5) * (count - 1) / (length - 1) if align_corners else middle * count / length - 0.5
        exact = np.clip(exact, 0, count - 1)
        first = np.minimum(exact.astype(int), count - 2)
        places.append((first, exact - first))
    (row, down), (column, across) = places
    tall = field[:, row] * (1 - down)[:, None] + field[:, row + 1] * down[:, None]
    return np.asarray(tall[:, :, column] * (1 - across) + tall[:, :, column + 1] * across, np.float64)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_are_the_reference_but_for_ties(
    kernels: HostKernels, dtype: str, layout: Any, align_corners: bool
) -> None:
    fields = np.stack([smooth(seed, 7, 12, 17) for seed in range(len(SOURCES))]).astype(dtype)
    output = fields if layout == "NCHW" else np.ascontiguousarray(fields.transpose(0, 2, 3, 1))
    head = ClassScores(layout=layout, align_corners=align_corners)
    found, wanted = run(kernels, head, output, 7), expected(head, output, 7)
    for field, one, other, at in zip(fields, found, wanted, PLACEMENTS, strict=True):
        assert one.class_id.dtype == other.class_id.dtype
        unlike = np.nonzero(one.class_id != other.class_id)
        assert len(unlike[0]) <= one.class_id.size / 1000
        scores = plain_scores(field, at, align_corners=align_corners)
        picked = scores[(one.class_id[unlike], *unlike)], scores[(other.class_id[unlike], *unlike)]
        np.testing.assert_allclose(*picked, atol=1e-5)
        best = np.take_along_axis(scores, one.class_id[None].astype(int), 0)[0]
        assert (best >= scores.max(axis=0) - 1e-5).all()


def test_a_single_channel_is_held_against_the_threshold(kernels: HostKernels) -> None:
    output = np.stack([smooth(seed, 1, 9, 11) for seed in range(len(SOURCES))])
    for dtype in ("f4", "f2"):
        head = ClassScores(threshold=0.3)
        values = output.astype(dtype)
        found, wanted = run(kernels, head, values, 2), expected(head, values, 2)
        for one, other in zip(found, wanted, strict=True):
            assert (one.class_id != other.class_id).mean() < 1e-3
            assert 0 < one.class_id.mean() < 1


def test_ties_and_scores_that_are_no_numbers(kernels: HostKernels) -> None:
    """Of equal classes the first is best; a NaN is never best."""
    output = np.zeros((len(SOURCES), 4, 6, 8), np.float32)
    assert all((found.class_id == 0).all() for found in run(kernels, ClassScores(), output, 4))
    output[:, 2] = 1
    output[:, 1] = np.nan
    output[:, 3] = -np.inf
    assert all((found.class_id == 2).all() for found in run(kernels, ClassScores(), output, 4))
    output[:] = np.nan
    assert all((found.class_id == 0).all() for found in run(kernels, ClassScores(), output, 4))


def test_more_classes_than_a_byte_holds(kernels: HostKernels) -> None:
    output = np.stack([smooth(seed, 300, 4, 5) for seed in range(len(SOURCES))])
    found, wanted = run(kernels, ClassScores(), output, 300, seed=4), expected(ClassScores(), output, 300)
    for one, other in zip(found, wanted, strict=True):
        assert one.class_id.dtype == np.uint16
        assert (one.class_id != other.class_id).mean() < 1e-3
    assert max(one.class_id.max() for one in found) > 255


@pytest.mark.parametrize("dtype", ["i8", "i4", "u1", "?", "f4", "f2"])
@pytest.mark.parametrize("shape", [(13, 18), (1, 13, 18), (13, 18, 1)])
def test_ids_are_the_reference(kernels: HostKernels, dtype: str, shape: tuple[int, ...]) -> None:
    classes = 2 if dtype == "?" else 21
    ids = np.random.default_rng(3).integers(0, classes, (len(SOURCES), *shape)).astype(dtype)
    head = ClassMapHead()
    for seed in (0, 6):
        for one, other in zip(run(kernels, head, ids, classes, seed), expected(head, ids, classes), strict=True):
            assert one.class_id.dtype == other.class_id.dtype
            np.testing.assert_array_equal(one.class_id, other.class_id)


@pytest.mark.parametrize(
    ("dtype", "value", "told"),
    [("i8", 21, "21..21"), ("i8", -(2**40), "-2147483647"), ("f4", np.nan, "-2147483647"), ("f2", -0.5, "-1..-1")],
)
def test_ids_without_a_name_are_told(kernels: HostKernels, dtype: str, value: float, told: str) -> None:
    ids = np.zeros((len(SOURCES), 13, 18), dtype)
    ids[2, 4, 4] = value
    with pytest.raises(SpecError, match=f"got {told}"):
        run(kernels, ClassMapHead(), ids, 21)


def test_many_classes_of_ids(kernels: HostKernels) -> None:
    ids = np.random.default_rng(3).integers(0, 400, (len(SOURCES), 13, 18))
    for one, other in zip(run(kernels, ClassMapHead(), ids, 400), expected(ClassMapHead(), ids, 400), strict=True):
        assert one.class_id.dtype == np.uint16
        np.testing.assert_array_equal(one.class_id, other.class_id)


@pytest.mark.parametrize(
    ("head", "dtype", "classes"),
    [(ClassScores(), "f8", 3), (ClassScores(), "i4", 3), (ClassMapHead(), "i2", 3), (ClassMapHead(), "i8", 70_000)],
)
def test_what_has_no_kernel_is_refused(head: ClassScores | ClassMapHead, dtype: str, classes: int) -> None:
    with pytest.raises(SpecError, match="Run the model on the CPU"):
        ClassMaps(garbage, head, (1, 3, 4, 5), dtype, classes, SIZE, LARGEST)


def test_the_rule_is_laid_out_as_the_kernel_reads_it() -> None:
    assert ctypes.sizeof(FieldRule) == 56
