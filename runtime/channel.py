"""A small bounded queue between two threads that either side can close at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Channel", "ChannelClosedError"]

T = TypeVar("T")


class ChannelClosedError(Exception):
    """The other side has gone; never leaves the stream."""


class Channel(Generic[T]):
    """Passes items in order, at most ``capacity`` waiting; waiting costs no processor time.

    ``queue.Queue`` cannot be closed while a thread waits in it before Python 3.13.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._closed = False
        lock = threading.Lock()
        self._has_room = threading.Condition(lock)
        self._has_items = threading.Condition(lock)

    def put(self, item: T) -> None:
        """Append an item, waiting for room.

        Raises:
            ChannelClosedError: if the channel is or gets closed.
        """
        with self._has_room:
            while len(self._items) >= self._capacity and not self._closed:
                self._has_room.wait()
            self._append(item)

    def replace(self, item: T, succeed: Callable[[T, T], None]) -> None:
        """Append an item without waiting; where there is no room it takes the place of the newest one.

        Args:
            item: the new item.
            succeed: called with the item that gives way and the new one, before anybody can take the new one.

        Raises:
            ChannelClosedError: if the channel is closed.
        """
        with self._has_room:
            if len(self._items) >= self._capacity and not self._closed:
                succeed(self._items.pop(), item)
            self._append(item)

    def get(self) -> T:
        """Take the oldest item, waiting for one.

        Raises:
            ChannelClosedError: if the channel is or gets closed.
        """
        with self._has_items:
            while not self._items and not self._closed:
                self._has_items.wait()
            if self._closed:
                raise ChannelClosedError
            item = self._items.popleft()
            self._has_room.notify()
            return item

    def wait(self) -> None:
        """Wait until there is an item to get, or the channel is closed."""
        with self._has_items:
            while not self._items and not self._closed:
                self._has_items.wait()

    def close(self) -> None:
        """Wake everyone who waits and drop what is left."""
        with self._has_items:
            self._closed = True
            self._items.clear()
            self._has_items.notify_all()
            self._has_room.notify_all()

    def _append(self, item: T) -> None:
        if self._closed:
            raise ChannelClosedError
        self._items.append(item)
        self._has_items.notify()
