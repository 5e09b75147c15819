"""Tally: the counting behind ``Statistics``, in constant memory, from any thread."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Sequence

import numpy as np

from edgedet.runtime.stream.result import Latencies, StreamResult
from edgedet.runtime.stream.statistics import (
    AGE_BUCKETS_MS,
    Ages,
    DropCause,
    Drops,
    SourceState,
    SourceStatistics,
    Statistics,
)

__all__ = ["Tally"]

_RECENT = 1024


class Tally:
    """Counts what happens to the frames of each source.

    Args:
        names: of the sources.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._counts = [_Count(name) for name in names]
        self._rate = _Rate()
        self._sums = [0.0] * 4

    def add(self, result: StreamResult) -> None:
        """Count a delivered result."""
        now = time.perf_counter()
        spent = result.latencies
        with self._lock:
            self._rate.add(now)
            self._counts[result.source_index].add(now, result.age_ms)
            for index, value in enumerate((spent.capture, spent.preprocess, spent.infer, spent.postprocess)):
                self._sums[index] += value

    def drop(self, index: int, cause: DropCause, frames: int = 1) -> None:
        """Count frames of a source that will have no result."""
        if frames:
            with self._lock:
                self._counts[index].drops[cause] += frames

    def note(self, index: int, state: SourceState) -> None:
        """Note how a source is."""
        with self._lock:
            count = self._counts[index]
            count.restarts += count.state == "down" and state == "up"
            count.state = state

    def statistics(self) -> Statistics:
        """Return the counts up to now."""
        with self._lock:
            sources = tuple(count.statistics() for count in self._counts)
            frames, fps = self._rate.frames, self._rate.fps
            means = Latencies(*(value / max(frames, 1) for value in self._sums))
        drops = sum((source.drops for source in sources), Drops())
        ages = [source.age for source in sources]
        age = Ages(
            np.concatenate([each.recent for each in ages]),
            sum(each.count for each in ages),
            sum(each.total_ms for each in ages),
            tuple(map(sum, zip(*(each.buckets for each in ages), strict=True))),
        )
        return Statistics(frames, drops.total, fps, means, drops, age, sources)


class _Rate:
    """Results, and the time between the first and the last."""

    def __init__(self) -> None:
        self.frames = 0
        self._first = self._last = 0.0

    def add(self, now: float) -> None:
        self._last = now
        if not self.frames:
            self._first = now
        self.frames += 1

    @property
    def fps(self) -> float:
        elapsed = self._last - self._first
        return (self.frames - 1) / elapsed if elapsed > 0 else 0.0


class _Count:
    """One source."""

    def __init__(self, name: str) -> None:
        self.drops: dict[DropCause, int] = dict.fromkeys(("source", "policy", "queue", "unreadable"), 0)
        self.state: SourceState = "up"
        self.restarts = 0
        self._name = name
        self._rate = _Rate()
        self._ages = np.empty(_RECENT)
        self._aged = 0
        self._age_sum = 0.0
        self._buckets = [0] * (len(AGE_BUCKETS_MS) + 1)

    def add(self, now: float, age_ms: float | None) -> None:
        self._rate.add(now)
        if age_ms is not None:
            self._ages[self._aged % _RECENT] = age_ms
            self._aged += 1
            self._age_sum += age_ms
            self._buckets[bisect.bisect_left(AGE_BUCKETS_MS, age_ms)] += 1

    def statistics(self) -> SourceStatistics:
        recent = self._ages[: min(self._aged, _RECENT)].copy()
        ages = Ages(recent, self._aged, self._age_sum, tuple(self._buckets))
        drops = Drops(**self.drops)
        return SourceStatistics(self._name, self._rate.frames, self._rate.fps, drops, ages, self.state, self.restarts)
