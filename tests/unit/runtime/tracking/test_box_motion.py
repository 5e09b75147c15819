"""The filter against a dense one of eight states, written with matrices as in the textbooks."""

import numpy as np
import pytest

from edgedet.runtime.tracking.box_motion import BoxMotion, centres

BOXES = np.array([[100.0, 50.0, 140.0, 150.0], [300.0, 200.0, 420.0, 260.0]])


class DenseFilter:
    """Kalman filter of one box: state (x, y, w, h and their velocities), all in 8 x 8 matrices."""

    def __init__(self, box):
        centre = centres(box[None])[0]
        height = centre[3]
        self.x = np.concatenate([centre, np.zeros(4)])
        self.p = np.diag(np.repeat([2 * height / 20, 10 * height / 160], 4) ** 2)

    def predict(self, steps):
        motion = np.eye(8)
        motion[:4, 4:] = steps * np.eye(4)
        height = self.x[3]
        noise = steps * np.diag(np.repeat([height / 20, height / 160], 4) ** 2)
        self.x, self.p = motion @ self.x, motion @ self.p @ motion.T + noise

    def update(self, box):
        seen = np.eye(4, 8)
        spread = seen @ self.p @ seen.T + (self.x[3] / 20) ** 2 * np.eye(4)
        gain = self.p @ seen.T @ np.linalg.inv(spread)
        self.x = self.x + gain @ (centres(box[None])[0] - seen @ self.x)
        self.p = self.p - gain @ seen @ self.p


def test_it_is_the_dense_filter():
    rng = np.random.default_rng(0)
    motion, dense = BoxMotion.start(BOXES), [DenseFilter(box) for box in BOXES]
    for steps in (1, 1, 2.5, 0.4, 9, 1):
        seen = BOXES + rng.normal(0, 5, BOXES.shape)
        motion = motion.predict(steps).update(seen)
        for box, each in zip(seen, dense, strict=True):
            each.predict(steps)
            each.update(box)

    for row, each in enumerate(dense):
        assert motion.position[row] == pytest.approx(each.x[:4])
        assert motion.velocity[row] == pytest.approx(each.x[4:])
        assert motion.variance[row] == pytest.approx(np.diag(each.p)[:4])
        assert motion.covariance[row] == pytest.approx(np.diag(each.p[:4, 4:]))
        assert motion.velocity_variance[row] == pytest.approx(np.diag(each.p)[4:])


def test_steady_motion_is_learned_at_any_rhythm():
    motion = BoxMotion.start(BOXES)
    time = 0.0
    for steps in [1, 3, 1, 2, 5, 1, 1, 4] * 8:
        time += steps
        motion = motion.predict(steps).update(BOXES + np.array([4.0, -1.0, 4.0, -1.0]) * time)

    assert motion.velocity[:, 0] == pytest.approx(4, abs=0.05)
    assert motion.velocity[:, 1] == pytest.approx(-1, abs=0.05)
    assert motion.predict(10).xyxy == pytest.approx(BOXES + np.array([4.0, -1.0, 4.0, -1.0]) * (time + 10), abs=1)


def test_boxes_are_what_was_measured_at_first():
    assert BoxMotion.start(BOXES).xyxy == pytest.approx(BOXES)


def test_a_shift_moves_boxes_and_nothing_else():
    motion = BoxMotion.start(BOXES).predict(1)

    moved = motion.shifted(np.array([5.0, -7.0]))

    assert moved.xyxy == pytest.approx(BOXES + np.array([5, -7, 5, -7]))
    assert moved.velocity is motion.velocity and moved.variance is motion.variance


def test_a_size_at_rest_stays():
    motion = BoxMotion.start(BOXES)
    for grown in range(1, 6):
        motion = motion.predict(1).update(BOXES + np.array([-2.0, -2.0, 2.0, 2.0]) * grown)

    ahead = motion.keep_size(np.array([True, False])).predict(10)

    assert ahead.position[0, 2:] == pytest.approx(motion.position[0, 2:])
    assert (ahead.position[1, 2:] > motion.position[1, 2:] + 5).all()


def test_rows_are_chosen_replaced_and_joined():
    motion, other = BoxMotion.start(BOXES), BoxMotion.start(BOXES[:1] + 10)

    assert motion.put(np.array([1]), other).xyxy == pytest.approx(np.stack([BOXES[0], BOXES[0] + 10]))
    assert motion.xyxy == pytest.approx(BOXES), "the original is unchanged"
    assert motion.where(np.array([False, True])).joined(other).xyxy == pytest.approx(
        np.stack([BOXES[1], BOXES[0] + 10])
    )
    assert len(motion.joined(other)) == 3
