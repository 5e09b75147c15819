import numpy as np
import pytest

from edgedet.runtime.tracking.camera_shift import camera_shift

RNG = np.random.default_rng(1)
OBJECTS = np.concatenate([RNG.uniform(0, 1000, (10, 2)), RNG.uniform(40, 120, (10, 2))], axis=1)
CLASSES = np.arange(10) % 2


def moved(by, objects=OBJECTS):
    return objects + np.array([*by, 0, 0])


@pytest.mark.parametrize("by", [(30, 0), (-25, 40), (0, -50)])
def test_objects_that_agree_tell_it(by):
    order = RNG.permutation(10)
    noise = RNG.normal(0, 1, OBJECTS.shape)

    shift = camera_shift(OBJECTS, CLASSES, (moved(by) + noise)[order], CLASSES[order])

    assert shift == pytest.approx(by, abs=2)


def test_a_minority_that_moves_does_not():
    seen = OBJECTS.copy()
    seen[:3, 0] += 40

    assert camera_shift(OBJECTS, CLASSES, seen, CLASSES).tolist() == [0, 0]


def test_it_is_found_although_some_objects_are_missing_and_others_are_new():
    seen = np.concatenate([moved((35, 10))[3:], moved((500, 200))[:2]])

    shift = camera_shift(OBJECTS, CLASSES, seen, np.concatenate([CLASSES[3:], CLASSES[:2]]))

    assert shift == pytest.approx((35, 10), abs=0.1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_objects_tell_nothing(count):
    seen = moved((30, 0))[:count]

    assert camera_shift(OBJECTS[:count], CLASSES[:count], seen, CLASSES[:count]).tolist() == [0, 0]


def test_objects_of_other_classes_tell_nothing():
    assert camera_shift(OBJECTS, CLASSES, moved((30, 0)), CLASSES + 2).tolist() == [0, 0]


def test_objects_of_another_size_tell_nothing():
    seen = moved((30, 0)) * np.array([1, 1, 2, 2])

    assert camera_shift(OBJECTS, CLASSES, seen, CLASSES).tolist() == [0, 0]


@pytest.mark.parametrize("count", [48, 49, 200])
def test_many_objects_tell_it_too(count):
    rng = np.random.default_rng(count)
    objects = np.concatenate([rng.uniform(0, 4000, (count, 2)), rng.uniform(40, 120, (count, 2))], axis=1)

    shift = camera_shift(objects, np.zeros(count, int), moved((-20, 33), objects), np.zeros(count, int))

    assert shift == pytest.approx((-20, 33))
