"""What a stream has done so far: rates, ages of results, and what became of the frames that have none."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgedet.runtime.stream.result import Latencies

__all__ = ["AGE_BUCKETS_MS", "Ages", "DropCause", "Drops", "SourceState", "SourceStatistics", "Statistics"]

AGE_BUCKETS_MS = (5, 10, 20, 33, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10000)
"""Upper bounds of the buckets in which ages are counted, in milliseconds; there is one more without a bound."""

DropCause = Literal["source", "policy", "queue", "unreadable"]
"""A field of ``Drops``."""

SourceState = Literal["up", "down", "ended"]
"""``down``: it failed or hangs, and may come back. ``ended``: it was read to its end, or failed for good."""


@dataclass(frozen=True)
class Drops:
    """Frames without a result, by cause.

    Attributes:
        source: lost before they could be read: by the driver, on the network, or damaged there.
        policy: left out because of ``rate=N``.
        queue: gave way to a newer frame while they waited for the model.
        unreadable: could not be decoded.
    """

    source: int = 0
    policy: int = 0
    queue: int = 0
    unreadable: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_cause().values())

    def by_cause(self) -> dict[str, int]:
        """Return cause -> frames."""
        return {cause.name: getattr(self, cause.name) for cause in fields(self)}

    def __add__(self, other: Drops) -> Drops:
        theirs = other.by_cause()
        return Drops(**{cause: count + theirs[cause] for cause, count in self.by_cause().items()})


@dataclass(frozen=True, eq=False)
class Ages:
    """Ages of results at their delivery: milliseconds since the timestamps of their frames. Live sources only.

    Attributes:
        recent: of the latest results (at most 1,024 a source), float64, in no order; what the percentiles are of.
        count: results since the start.
        total_ms: sum of the ages of all of these.
        buckets: how many of all of these are no older than each of ``AGE_BUCKETS_MS``, and older than the one before;
            the last is those that are older than all of them.
    """

    recent: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    count: int = 0
    total_ms: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(AGE_BUCKETS_MS) + 1)

    @property
    def p50(self) -> float:
        """Half of the recent results are no older, in milliseconds; NaN before the first one."""
        return self._percentiles[0]

    @property
    def p95(self) -> float:
        """95 % of the recent results are no older, in milliseconds; NaN before the first one."""
        return self._percentiles[1]

    @property
    def p99(self) -> float:
        """99 % of the recent results are no older, in milliseconds; NaN before the first one."""
        return self._percentiles[2]

    @functools.cached_property
    def _percentiles(self) -> tuple[float, float, float]:
        if not len(self.recent):
            return (float("nan"),) * 3
        low, middle, high = np.percentile(self.recent, (50, 95, 99)).tolist()
        return low, middle, high


@dataclass(frozen=True)
class SourceStatistics:
    """What became of one source.

    Attributes:
        name: of the source.
        frames: results delivered.
        fps: results per second between the first and the last one; 0 before there are two.
        drops: frames without a result, by cause.
        age: how old the results were.
        state: whether it delivers.
        restarts: how often it came back after it had failed.
    """

    name: str
    frames: int
    fps: float
    drops: Drops
    age: Ages
    state: SourceState
    restarts: int


@dataclass(frozen=True)
class Statistics:
    """What a stream has done so far.

    Attributes:
        frames: results delivered.
        dropped: frames that the source lost, could not read, or the policy skipped.
        fps: results per second between the first and the last one; 0 before there are two.
        latencies: means over the delivered frames.
        drops: the dropped frames by cause.
        age: how old the results were at their delivery.
        sources: each source for itself.
    """

    frames: int
    dropped: int
    fps: float
    latencies: Latencies
    drops: Drops = field(default_factory=Drops)
    age: Ages = field(default_factory=Ages)
    sources: tuple[SourceStatistics, ...] = ()
