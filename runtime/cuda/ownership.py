"""Who gives back what a device handed out, once and in order, from any thread and from finalizers."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager

from edgedet.errors import EdgedetError

__all__ = ["KINDS", "Ownership", "attempt"]

_LOG = logging.getLogger(__name__)

KINDS = ("graph", "memory", "event", "stream", "module")
"""What there is to give back, in the order in which a device gives it back before its context."""


class Ownership:
    """The things of one device.

    Finalizers run in any thread and between any two lines, so nothing here takes a lock: what is to be given back is
    taken out of a dictionary, which one caller only succeeds in.

    Args:
        current: makes the device's context current.
    """

    def __init__(self, current: Callable[[], AbstractContextManager[object]]) -> None:
        self._current = current
        self._things: dict[str, dict[int, Callable[[], None]]] = {kind: {} for kind in KINDS}
        self._numbers = itertools.count()
        self._holds = 0
        self._waiting: list[Callable[[], None]] = []

    def add(self, kind: str, owner: object, give_back: Callable[[], None]) -> Callable[[], None]:
        """Give a thing back when its owner is closed or no longer referred to.

        Args:
            kind: of KINDS.
            owner: the object that users hold.
            give_back: gives the thing back; refers to the driver's handles, not to the owner.

        Returns:
            What closes the owner; calling it again does nothing.
        """
        number = next(self._numbers)
        self._things[kind][number] = give_back
        finalizer = weakref.finalize(owner, self._give_back, kind, number)
        finalizer.atexit = False  # the device closes at exit, in its own order
        return finalizer

    def _give_back(self, kind: str, number: int) -> None:
        give_back = self._things[kind].pop(number, None)
        if give_back is None:
            return
        if self._holds:
            self._waiting.append(give_back)
            return
        with self._current():
            give_back()

    def count(self, kind: str) -> int:
        """How many things of a kind there are."""
        return len(self._things[kind])

    def hold(self) -> None:
        """Give nothing back until `resume`: freeing memory would end the capture of a graph."""
        self._holds += 1

    def resume(self) -> None:
        """End `hold`, and give back what became free meanwhile."""
        self._holds -= 1
        while self._waiting and not self._holds:
            give_back = self._waiting.pop()
            with self._current():
                give_back()

    def close(self) -> None:
        """Give everything back; the context is current. What fails is logged, and the rest goes on."""
        waiting, self._waiting = self._waiting, []
        for give_back in waiting:
            attempt(give_back)
        for kind in KINDS:
            while self._things[kind]:
                attempt(self._things[kind].popitem()[1])


def attempt(give_back: Callable[[], None]) -> None:
    """Give something back while everything ends: what fails is logged."""
    try:
        give_back()
    except EdgedetError as error:
        _LOG.warning("While closing the GPU: %s", error)
