"""BoxMotion: where boxes are expected, by a Kalman filter of constant velocity for all tracks at once.

The noise is that of DeepSORT (Wojke, Bewley and Paulus 2017, arXiv:1703.07402), in shares of the box's height and for
30 steps a second, and independent between the coordinates. So the filter of centre and size falls apart into four of
two states, and each covariance into three numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

__all__ = ["BoxMotion", "centres"]

Array = npt.NDArray[np.float64]

_POSITION_NOISE = 1 / 20
_VELOCITY_NOISE = 1 / 160


@dataclass(frozen=True, eq=False)
class BoxMotion:
    """Estimates of N boxes: each field is (N, 4), for centre x, centre y, width and height.

    Attributes:
        position: in pixels.
        velocity: in pixels a step.
        variance: of the position.
        covariance: of position and velocity.
        velocity_variance: of the velocity.
    """

    position: Array
    velocity: Array
    variance: Array
    covariance: Array
    velocity_variance: Array

    @classmethod
    def start(cls, xyxy: npt.NDArray[np.floating]) -> BoxMotion:
        """Begin with boxes (N, 4) of left, top, right, bottom that may move anywhere."""
        measured = centres(xyxy)
        height = np.repeat(measured[:, 3:], 4, axis=1)
        return cls(
            measured,
            np.zeros_like(measured),
            (2 * _POSITION_NOISE * height) ** 2,
            np.zeros_like(measured),
            (10 * _VELOCITY_NOISE * height) ** 2,
        )

    @property
    def xyxy(self) -> Array:
        """The boxes (N, 4), left, top, right, bottom."""
        half = np.maximum(self.position[:, 2:], 0) / 2
        return np.concatenate([self.position[:, :2] - half, self.position[:, :2] + half], axis=1)

    def __len__(self) -> int:
        return len(self.position)

    def predict(self, steps: float) -> BoxMotion:
        """Return the estimates so many steps later."""
        height = self.position[:, 3:]
        return BoxMotion(
            self.position + steps * self.velocity,
            self.velocity,
            self.variance
            + steps * (2 * self.covariance + steps * self.velocity_variance)
            + steps * (_POSITION_NOISE * height) ** 2,
            self.covariance + steps * self.velocity_variance,
            self.velocity_variance + steps * (_VELOCITY_NOISE * height) ** 2,
        )

    def update(self, xyxy: npt.NDArray[np.floating]) -> BoxMotion:
        """Return the estimates after a measurement of every box (N, 4)."""
        noise = (_POSITION_NOISE * self.position[:, 3:]) ** 2
        gain = self.variance / (self.variance + noise)
        velocity_gain = self.covariance / (self.variance + noise)
        surprise = centres(xyxy) - self.position
        return BoxMotion(
            self.position + gain * surprise,
            self.velocity + velocity_gain * surprise,
            (1 - gain) * self.variance,
            (1 - gain) * self.covariance,
            self.velocity_variance - velocity_gain * self.covariance,
        )

    def shifted(self, by: Array) -> BoxMotion:
        """Return the estimates with all boxes moved by (2,) pixels, to the right and down."""
        return self._with(position=self.position + np.concatenate([by, np.zeros(2)]))

    def keep_size(self, where: npt.NDArray[np.bool_]) -> BoxMotion:
        """Return the estimates with the size at rest for the boxes that a mask (N,) chooses: nobody sees them."""
        velocity = self.velocity.copy()
        velocity[where, 2:] = 0
        return self._with(velocity=velocity)

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> BoxMotion:
        """Return the boxes that a mask or indices choose."""
        return self._each(lambda values: values[chosen])

    def put(self, at: npt.NDArray[np.int64], others: BoxMotion) -> BoxMotion:
        """Return the estimates with others in some places."""
        result = self._each(np.copy)
        for name in _FIELDS:
            getattr(result, name)[at] = getattr(others, name)
        return result

    def joined(self, others: BoxMotion) -> BoxMotion:
        """Return these boxes and then the others."""
        return BoxMotion(*(np.concatenate([getattr(self, name), getattr(others, name)]) for name in _FIELDS))

    def _each(self, change: Callable[[Array], Array]) -> BoxMotion:
        return BoxMotion(*(change(getattr(self, name)) for name in _FIELDS))

    def _with(self, **changes: Array) -> BoxMotion:
        return BoxMotion(**{**{name: getattr(self, name) for name in _FIELDS}, **changes})


_FIELDS = tuple(field.name for field in fields(BoxMotion))


def centres(xyxy: npt.NDArray[np.floating]) -> Array:
    """Return boxes (N, 4) of left, top, right, bottom as (N, 4) float64 centre x, centre y, width, height."""
    boxes = xyxy.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
