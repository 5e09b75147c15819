from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgedet.errors import SpecError
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads import ClassMapHead, head_from_spec
from edgedet.runtime.preprocess import Placement, place
from edgedet.runtime.selection import Selection

NAMES = tuple("abcdef")


def decode(ids: np.ndarray, placement: Placement, size: tuple[int, int], names: tuple[str, ...] = NAMES):
    return ClassMapHead().decode_map([ids], placement, size, Selection(), names)


def ids(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, len(NAMES), shape)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32])
def test_the_nearest_id_is_taken(dtype):
    """OpenCV's exact nearest neighbour has the same convention: the middle of a pixel decides."""
    grid = ids(33, 33).astype(dtype)
    found = decode(grid, Placement(640, 427, 0, 0, 513, 513), (513, 513))
    expected = cv2.resize(grid.astype(np.uint8), (640, 427), interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.mean(found.class_id != expected) < 1e-3
    assert found.class_id.dtype == np.uint8


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (16, 16, 1)])
def test_axes_of_one_are_no_matter(shape):
    grid = ids(16, 16)
    found = decode(grid.reshape(shape), Placement(16, 16, 0, 0, 64, 64), (64, 64))
    assert np.array_equal(found.class_id, grid)


def test_padding_is_cut_off():
    grid = np.full((64, 64), 5)
    grid[16:48] = 2
    found = decode(grid, place(100, 50, InputSpec(64, 64)), (64, 64))
    assert found.class_id.shape == (50, 100) and (found.class_id == 2).all()


def test_many_classes_need_16_bits():
    names = tuple(map(str, range(300)))
    found = decode(np.array([[0, 299]]), Placement(4, 2, 0, 0, 2, 1), (2, 1), names)
    assert found.class_id.dtype == np.uint16 and found.class_id.tolist() == [[0, 0, 299, 299]] * 2


@pytest.mark.parametrize("wrong", [6, 255, -1])
def test_a_class_without_a_name_is_an_error(wrong):
    with pytest.raises(SpecError, match=r"class ids in 0\.\.5 from the model"):
        decode(np.array([[0, wrong]]), Placement(2, 1, 0, 0, 2, 1), (2, 1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (-1, 1, 8, 8), (1, 8, 8, 1), (1, -1, -1, -1)])
def test_fitting_outputs_pass(shape):
    ClassMapHead().check([TensorSpec("ids", shape, "int64")], 6, (8, 8))


@pytest.mark.parametrize("shape", [(1, 21, 8, 8), (8, 8), (1, 8)])
def test_others_are_refused(shape):
    with pytest.raises(SpecError, match=r"class ids, \[B,h,w\]"):
        ClassMapHead().check([TensorSpec("ids", shape, "int64")], 6, (8, 8))


def test_it_goes_by_its_name():
    assert head_from_spec(ClassMapHead().spec()) == ClassMapHead()
