"""A drawn source with a known truth and a known clock: moving shapes whose boxes can be asked for, frame by frame.

    synthetic:640x480@30?seed=1&shapes=4&frames=300&realtime=0

Everything but the size may be left out. Each frame depends on seed and frame number alone, on every machine: width,
height, left, top, speeds and colour of each shape come in this order from SplitMix64 (Steele, Lea and Flood, Fast
splittable pseudorandom number generators, OOPSLA 2014), positions are whole pixels, and shapes bounce off the edges:

    x(n) = |((x0 + vx n + room) mod 2 room) - room|, with room = width - shape's width; y likewise
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.source import OnBroken

__all__ = ["SCHEME", "SyntheticOptions", "SyntheticSource", "Truth", "splitmix64"]

SCHEME = "synthetic:"

_ADDRESS = re.compile(r"synthetic:(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?(?:\?(.*))?")
_COUNTS = {"seed": "seed", "shapes": "shapes", "frames": "frame_count"}
_SWITCH = {"0": False, "1": True}
_BACKGROUND = 48
_SMALLEST = 16
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class SyntheticOptions:
    """What is drawn.

    Attributes:
        width, height: in pixels, at least 16.
        fps: frames per second.
        seed: what the shapes follow from.
        shapes: how many there are.
        frame_count: after which the source ends; None goes on for ever.
        realtime: deliver each frame when its time has come, as a camera does; frames that nobody read in time are lost
            and counted. Otherwise every frame is delivered as soon as it is wanted.

    Raises:
        SourceError: if there would be nothing to see.
    """

    width: int
    height: int
    fps: float = 30.0
    seed: int = 0
    shapes: int = 4
    frame_count: int | None = None
    realtime: bool = True

    def __post_init__(self) -> None:
        if min(self.width, self.height) < _SMALLEST or self.fps <= 0:
            raise SourceError(
                f"a size of at least {_SMALLEST}x{_SMALLEST} and a rate above 0",
                f"{self.width}x{self.height} at {self.fps:g}",
                "Choose, for example, synthetic:640x480@30",
            )

    @classmethod
    def parse(cls, address: str) -> SyntheticOptions:
        """Read an address (see the module).

        Raises:
            SourceError: if it is none.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise _no_address(address)
        chosen: dict[str, int | bool] = {}
        for name, value in parse_qsl(match[4] or "", keep_blank_values=True):
            if name in _COUNTS and re.fullmatch(r"[0-9]+", value):
                chosen[_COUNTS[name]] = int(value)
            elif name == "realtime" and value in _SWITCH:
                chosen[name] = _SWITCH[value]
            else:
                raise _no_address(address)
        return cls(int(match[1]), int(match[2]), float(match[3] or cls.fps), **chosen)  # type: ignore[arg-type]  # checked above


@dataclass(frozen=True, eq=False)
class Truth:
    """What is in a frame, shapes in front last.

    Attributes:
        xyxy: int64 (N, 4), in pixels: left, top, right, bottom; the last two just outside.
        class_id: int64 (N,): 0 rectangle, 1 disc.
    """

    xyxy: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Shape:
    """One shape: bool (H, W) of its pixels, colour as BGR, place in frame 0, and pixels it moves a frame."""

    pixels: npt.NDArray[np.bool_]
    colour: tuple[int, int, int]
    class_id: int
    start: tuple[int, int]
    speed: tuple[int, int]

    def place(self, number: int, width: int, height: int) -> tuple[int, int]:
        """Left and top in a frame."""
        own_height, own_width = self.pixels.shape
        rooms = width - own_width, height - own_height
        left, top = (
            _bounce(start + speed * number, room)
            for start, speed, room in zip(self.start, self.speed, rooms, strict=True)
        )
        return left, top


class SyntheticSource:
    """Moving shapes.

    Timestamps are of the monotonic clock, the moment at which a frame was due; without ``realtime`` they are positions
    from 0 on. Frame n is due n / fps seconds after frame 0.

    Args:
        options: what is drawn, or its address.
        on_broken: not used.

    Raises:
        SourceError: if the address is none.
    """

    moving = True

    def __init__(self, options: SyntheticOptions | str, on_broken: OnBroken = None) -> None:
        if isinstance(options, str):
            options = SyntheticOptions.parse(options)
        self.options = options
        self.name = f"{SCHEME}{options.width}x{options.height}@{options.fps:g}?seed={options.seed}"
        self.stem = "synthetic"
        self.live = options.realtime
        self.frame_count = options.frame_count
        self.fps: float | None = options.fps
        self._shapes = [_shape(options, index) for index in range(options.shapes)]
        self._start_ns: int | None = None
        self._next = 0
        self._ended = threading.Event()

    def read(self) -> Frame | None:
        """Draw the next frame, waiting until it is due; see ``Source.read``."""
        number = max(self._next, self._current()) if self.options.realtime else self._next
        missed, self._next = number - self._next, number + 1
        if self.frame_count is not None and number >= self.frame_count:
            return None
        due_ns = self.due_ns(number)
        wait = max(0, due_ns - time.monotonic_ns()) / 1e9 if self.options.realtime else 0.0
        if self._ended.is_set() or (wait and self._ended.wait(wait)):
            raise SourceError("a source that is open", f"'{self.name}', which was closed", "Open it again")
        return Frame((self.draw(number),), number, due_ns, self.name, missed)

    def interrupt(self) -> None:
        """Let a ``read`` that waits give up; see ``Interruptible``."""
        self._ended.set()

    def close(self) -> None:
        """End."""
        self._ended.set()

    def due_ns(self, number: int) -> int:
        """Return the timestamp of a frame; in real time frame 0 is due at the first ``read``."""
        return (self._start_ns or 0) + round(number * 1e9 / self.options.fps)

    def truth(self, number: int) -> Truth:
        """Return what is in a frame; any frame, delivered or not."""
        boxes = np.zeros((len(self._shapes), 4), np.int64)
        for row, shape in zip(boxes, self._shapes, strict=True):
            left, top = shape.place(number, self.options.width, self.options.height)
            height, width = shape.pixels.shape
            row[:] = left, top, left + width, top + height
        return Truth(boxes, np.array([shape.class_id for shape in self._shapes], np.int64))

    def draw(self, number: int) -> npt.NDArray[np.uint8]:
        """Draw a frame, BGR uint8 (H, W, 3)."""
        image = np.full((self.options.height, self.options.width, 3), _BACKGROUND, np.uint8)
        for shape, (left, top, right, bottom) in zip(self._shapes, self.truth(number).xyxy, strict=True):
            image[top:bottom, left:right][shape.pixels] = shape.colour
        return image

    def _current(self) -> int:
        """Return the number of the frame whose time it is."""
        now = time.monotonic_ns()
        if self._start_ns is None:
            self._start_ns = now
        return int((now - self._start_ns) * self.options.fps / 1e9)


def splitmix64(state: int) -> int:
    """Return the number that SplitMix64 makes of a state, 0..2**64-1; the next state is 0x9E3779B97F4A7C15 more."""
    mixed = (state + 0x9E3779B97F4A7C15) & _WORD
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _WORD
    return mixed ^ mixed >> 31


def _shape(options: SyntheticOptions, index: int) -> _Shape:
    """Make a shape from seed and index: an eighth to a quarter of the picture, 1 to 4 pixels a frame each way."""
    state = splitmix64(options.seed + (index << 32))

    def below(limit: int) -> int:
        nonlocal state
        value = splitmix64(state) % limit
        state = (state + 0x9E3779B97F4A7C15) & _WORD
        return value

    class_id = index % 2
    width, height = (size // 8 + below(size // 8 + 1) for size in (options.width, options.height))
    if class_id:
        width = height = min(width, height)
    start = below(options.width - width + 1), below(options.height - height + 1)
    speed = tuple((1 + below(4)) * (1 - 2 * below(2)) for _ in range(2))
    colour = tuple(96 + below(160) for _ in range(3))
    return _Shape(
        _disc(width) if class_id else np.ones((height, width), np.bool_),
        (colour[0], colour[1], colour[2]),
        class_id,
        start,
        (speed[0], speed[1]),
    )


def _disc(diameter: int) -> npt.NDArray[np.bool_]:
    """Pixels whose middle is within a circle that touches the box."""
    middle = np.arange(diameter) + 0.5 - diameter / 2
    inside: npt.NDArray[np.bool_] = middle[:, None] ** 2 + middle**2 <= (diameter / 2) ** 2
    return inside


def _bounce(position: int, room: int) -> int:
    """Fold a position on an endless line into 0..room."""
    return abs((position + room) % (2 * room) - room) if room else 0


def _no_address(address: str) -> SourceError:
    return SourceError(
        "synthetic:WIDTHxHEIGHT[@FPS][?seed=N&shapes=N&frames=N&realtime=0]",
        f"'{address}'",
        "Choose, for example, synthetic:640x480@30?seed=1",
    )
