"""The newest record of each source, handed to any number of viewers; each takes it when it is ready for it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Broadcast", "View"]


@dataclass(frozen=True)
class View:
    """What a viewer looks at.

    Attributes:
        longest_side: pixels that there is room for.
        source: the only source, or None for all.
    """

    longest_side: int
    source: int | None = None

    def has(self, source: int) -> bool:
        """Tell whether a source is looked at."""
        return self.source is None or self.source == source


class Broadcast:
    """Holds one record a source; a slow viewer skips those that came meanwhile, and nobody waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._records: dict[int, tuple[int, bytes]] = {}
        self._views: Counter[View] = Counter()
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many look."""
        return self._views.total()

    def longest_side(self, source: int) -> int:
        """Return the pixels of the largest picture of a source that a viewer has room for; 0 where nobody looks."""
        with self._changed:
            return max((view.longest_side for view in self._views if view.has(source)), default=0)

    @property
    def closed(self) -> bool:
        """Whether there will be no more records."""
        return self._closed

    @contextlib.contextmanager
    def watched(self, view: View) -> Iterator[int]:
        """Count a viewer as long as the block runs.

        Yields:
            the number of the newest record: what was published before anybody looked is old.
        """
        with self._changed:
            self._views[view] += 1
            number = self._number
        try:
            yield number
        finally:
            with self._changed:
                self._views[view] -= 1
                self._views += Counter()  # leaves out what is 0

    def publish(self, source: int, record: bytes) -> None:
        """Replace the record of a source."""
        with self._changed:
            self._number += 1
            self._records[source] = (self._number, record)
            self._changed.notify_all()

    def newer(self, number: int, view: View, timeout_s: float) -> tuple[int, list[bytes]]:
        """Wait for records with a higher number.

        Returns:
            the highest number and the records that the viewer looks at, oldest first; the same number and none after
            the time-out, or once closed.
        """

        def found() -> list[tuple[int, bytes]]:
            records = self._records.items()
            return sorted(item for source, item in records if item[0] > number and view.has(source))

        with self._changed:
            self._changed.wait_for(lambda: self._closed or found(), timeout_s)
            newer = [] if self._closed else found()
            return (newer[-1][0] if newer else number), [record for _, record in newer]

    def close(self) -> None:
        """Wake every viewer for the last time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
