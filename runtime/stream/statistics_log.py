"""StatisticsLog: what a stream does as a line of text now and then, for logs that somebody reads later."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from edgedet.errors import SpecError
from edgedet.runtime.stream.statistics import Statistics

__all__ = ["StatisticsLog", "statistics_line"]

_LOG = logging.getLogger("edgedet.runtime.stream")


class StatisticsLog:
    """Writes a line again and again, also while nothing comes; a context manager that ends it.

    Args:
        read: returns the statistics of the stream.
        every_s: seconds from line to line.
        write: takes a line, from a thread of this; by default the logger ``edgedet.runtime.stream``, level INFO.

    Raises:
        SpecError: if the time is not above 0.
    """

    def __init__(
        self, read: Callable[[], Statistics], every_s: float, write: Callable[[str], object] = _LOG.info
    ) -> None:
        if not every_s > 0:
            raise SpecError("more than 0 seconds between two lines of statistics", f"{every_s:g}", "Correct it")
        self._read = read
        self._write = write
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgedet-statistics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; calling it again does nothing."""
        self._ended.set()
        self._thread.join()

    def __enter__(self) -> StatisticsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        before, since = self._read(), time.monotonic()
        due = since + self._every_s
        while not self._ended.wait(max(due - time.monotonic(), 0)):
            statistics, now = self._read(), time.monotonic()
            try:
                self._write(statistics_line(statistics, before, now - since))
            except (OSError, ValueError):  # a terminal or pipe that is gone
                return
            before, since = statistics, now
            due = max(due + self._every_s, now)


def statistics_line(statistics: Statistics, before: Statistics, seconds: float) -> str:
    """Say what happened between two readings of a stream's statistics.

    ``29.7 results per second, 12840 in all; age 41 ms, 95 % below 52 ms, 99 % below 55 ms; 3 frames dropped (2 queue,
    1 source); down: 'rtsp://gate'``: rate and drops are those of the interval, ages of the recent results.

    Args:
        statistics: now.
        before: at the beginning of the interval.
        seconds: length of the interval, above 0.
    """
    rate = (statistics.frames - before.frames) / seconds
    parts = [f"{rate:.1f} results per second, {statistics.frames} in all"]
    age = statistics.age
    if age.count:
        parts.append(f"age {age.p50:.0f} ms, 95 % below {age.p95:.0f} ms, 99 % below {age.p99:.0f} ms")
    earlier = before.drops.by_cause()
    drops = {cause: count - earlier[cause] for cause, count in statistics.drops.by_cause().items()}
    if any(drops.values()):
        causes = ", ".join(f"{count} {cause}" for cause, count in drops.items() if count)
        parts.append(f"{sum(drops.values())} frames dropped ({causes})")
    for state in ("down", "ended"):
        names = [repr(source.name) for source in statistics.sources if source.state == state]
        if names:
            parts.append(f"{state}: {', '.join(names)}")
    return "; ".join(parts)
