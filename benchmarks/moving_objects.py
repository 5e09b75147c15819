"""Scenes with a known truth for trackers: objects that move, cover each other, come and go, and what a detector sees.

Everything is drawn from a seed. The detector misses objects, scores those low that are partly covered, moves box edges
by a share of the box's size, and sees things that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.results import Detections

__all__ = ["SCENES", "Scene", "SeenFrame", "frames_of"]

FloatArray = npt.NDArray[np.float64]
_WIDTH, _HEIGHT = 1280.0, 720.0
_VISIBLE = 0.25


@dataclass(frozen=True)
class Scene:
    """What happens in a scene.

    Attributes:
        name: for tables.
        objects: at a time.
        frames: that the camera takes.
        fps: of the camera.
        classes: of the objects, evenly.
        speed: pixels a second, of a typical object.
        turn: radians by which the direction changes in a second.
        crossing: objects come in pairs that walk towards each other.
        edge_noise: of the detector, as share of the box's size.
        missed: share of the objects that the detector does not see although nothing covers them.
        weak: share of the time in which the detector scores an object low.
        clutter: things in a frame that are not there, on average.
        dropped: share of the frames that the tracker does not get, by bursts.
        shake: pixels that the camera jumps between frames.
    """

    name: str
    objects: int = 12
    frames: int = 450
    fps: float = 30.0
    classes: int = 1
    speed: float = 150.0
    turn: float = 0.3
    crossing: bool = False
    edge_noise: float = 0.03
    missed: float = 0.02
    weak: float = 0.05
    clutter: float = 0.2
    dropped: float = 0.0
    shake: float = 0.0


SCENES = (
    Scene("plain"),
    Scene("crossing paths", objects=12, crossing=True),
    Scene("crowd with occlusions", objects=40, speed=100.0),
    Scene("low scores", weak=0.4, missed=0.05),
    Scene("misses and clutter", missed=0.2, clutter=2.0),
    Scene("dropped frames", dropped=0.5),
    Scene("slow camera", fps=8.0, frames=240),
    Scene("shaking camera", shake=12.0),
    Scene("turning fast", turn=2.5, speed=250.0),
    Scene("three classes", classes=3, objects=24, crossing=True),
)


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """One frame that reaches the tracker.

    Attributes:
        seconds: when it was taken.
        truth: (N, 4) boxes of the objects that can be seen.
        truth_id: (N,) int64.
        truth_class: (N,) int64.
        detections: what the detector answers, all that scores 0.1 or more.
    """

    seconds: float
    truth: FloatArray
    truth_id: npt.NDArray[np.int64]
    truth_class: npt.NDArray[np.int64]
    detections: Detections


def frames_of(scene: Scene, seed: int) -> Iterator[SeenFrame]:
    """Play a scene."""
    rng = np.random.default_rng(seed)
    crowd = _Crowd(scene, rng)
    camera = np.zeros(2)
    dropping = False
    for index in range(scene.frames):
        crowd.step(1 / scene.fps)
        camera = 0.9 * camera + rng.normal(0, scene.shake, 2)
        dropping = rng.random() < (0.6 if dropping else 0.4) * scene.dropped / 0.5
        boxes = crowd.boxes() + np.tile(camera, 2)
        visible = crowd.visible()
        detections = _detect(scene, rng, boxes, crowd, visible)
        if dropping and index:
            continue
        shown = visible > _VISIBLE
        yield SeenFrame(index / scene.fps, boxes[shown], crowd.identity[shown], crowd.kind[shown], detections)


class _Crowd:
    """The objects; one that has left the picture is replaced by another that comes in."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self._scene, self._rng = scene, rng
        count = scene.objects
        self.identity = np.arange(count)
        self.kind = np.arange(count) // 2 % scene.classes
        self.centre = np.zeros((count, 2))
        self.size = np.zeros((count, 2))
        self.angle = np.zeros(count)
        self.speed = np.zeros(count)
        self.weak = np.zeros(count, np.bool_)
        for index in range(count):
            self._place(index, inside=True)

    def step(self, seconds: float) -> None:
        """Let time pass."""
        scene, rng = self._scene, self._rng
        count = len(self.identity)
        self.angle += rng.normal(0, scene.turn * np.sqrt(seconds), count)
        self.speed *= np.exp(rng.normal(0, 0.3 * np.sqrt(seconds), count))
        self.centre += (seconds * self.speed)[:, None] * np.stack([np.cos(self.angle), np.sin(self.angle)], 1)
        self.size *= np.exp(rng.normal(0, 0.05 * np.sqrt(seconds), (count, 1)))
        self.weak = rng.random(count) < np.where(self.weak, 0.8, 0.2 * scene.weak / (1 - scene.weak))
        outside = ((self.centre < -60) | (self.centre > np.array([_WIDTH, _HEIGHT]) + 60)).any(1)
        for index in np.flatnonzero(outside):
            self.identity[index] = self.identity.max() + 1
            self._place(int(index), inside=False)

    def boxes(self) -> FloatArray:
        """Return the boxes (N, 4)."""
        return np.concatenate([self.centre - self.size / 2, self.centre + self.size / 2], 1)

    def visible(self) -> FloatArray:
        """Return the share (N,) of each box inside of the picture that no object nearer, with a lower foot, covers."""
        boxes = self.boxes()
        at = np.linspace(0.05, 0.95, 10)
        share = np.zeros(len(boxes))
        for index, (left, top, right, bottom) in enumerate(boxes):
            x, y = np.meshgrid(left + at * (right - left), top + at * (bottom - top))
            hidden = (x < 0) | (x > _WIDTH) | (y < 0) | (y > _HEIGHT)
            for other in boxes[boxes[:, 3] > bottom]:
                hidden |= (x > other[0]) & (x < other[2]) & (y > other[1]) & (y < other[3])
            share[index] = 1 - hidden.mean()
        return share

    def _place(self, index: int, *, inside: bool) -> None:
        rng, scene = self._rng, self._scene
        height = rng.uniform(50, 160)
        self.size[index] = height * rng.uniform(0.4, 0.6), height
        self.speed[index] = scene.speed * rng.uniform(0.5, 1.5)
        side = index % 2
        if inside:
            self.centre[index] = rng.uniform(0.05, 0.95, 2) * (_WIDTH, _HEIGHT)
        else:
            self.centre[index] = (-50 if side else _WIDTH + 50), rng.uniform(0.1, 0.9) * _HEIGHT
        if scene.crossing and side:
            self.centre[index, 1] = self.centre[index - 1, 1] + rng.normal(0, 10)
        ahead = 0.0 if side else np.pi
        spread = 0.15 if scene.crossing else 0.6
        self.angle[index] = ahead + rng.normal(0, spread)


def _detect(
    scene: Scene, rng: np.random.Generator, boxes: FloatArray, crowd: _Crowd, visible: FloatArray
) -> Detections:
    count = len(boxes)
    score = np.clip(visible * rng.normal(0.85, 0.08, count), 0, 1)
    score = np.where(crowd.weak, np.minimum(score, rng.uniform(0.1, 0.3, count)), score)
    found = (score > 0.1) & (visible > _VISIBLE) & (rng.random(count) >= scene.missed)
    noise = rng.normal(0, scene.edge_noise, (count, 4)) * np.tile(crowd.size, 2) * (2 - visible)[:, None]
    false = rng.poisson(scene.clutter)
    corner = rng.uniform(0, 0.9, (false, 2)) * (_WIDTH, _HEIGHT)
    clutter = np.concatenate([corner, corner + rng.uniform(40, 120, (false, 2))], 1)
    xyxy = np.concatenate([(boxes + noise)[found], clutter])
    scores = np.concatenate([score[found], rng.uniform(0.1, 0.45, false)])
    kinds = np.concatenate([crowd.kind[found], rng.integers(0, scene.classes, false)])
    best_first = np.argsort(-scores)
    return Detections(
        xyxy[best_first].astype(np.float32), scores[best_first].astype(np.float32), kinds[best_first].astype(np.int64)
    )
