"""Asynchronous iteration over a stream: its results are waited for in a thread, never in the event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from edgedet.errors import SpecError
from edgedet.runtime.channel import Channel, ChannelClosedError
from edgedet.runtime.stream.result import StreamResult

if TYPE_CHECKING:
    from edgedet.runtime.stream.stream import Stream

__all__ = ["Awaiter"]

_Request = Future["StreamResult | None"]


class Awaiter:
    """Asks a stream for its next result, one at a time.

    Where whoever waits is cancelled, the result is not lost: the next call returns it. The thread holds the stream only
    while it works, so a stream that nobody holds is collected, and the thread ends with it.

    Args:
        stream: what to ask.
    """

    def __init__(self, stream: Stream) -> None:
        self._requests: Channel[_Request] = Channel(1)
        self._pending: _Request | None = None
        self._asked = False
        self._thread = threading.Thread(
            target=_serve, args=(weakref.ref(stream), self._requests), name="edgedet-await", daemon=True
        )
        weakref.finalize(stream, self._requests.close)
        self._thread.start()

    async def next(self) -> StreamResult | None:
        """Wait for the next result; None at the end, or when the stream is closed.

        Raises:
            SpecError: if another task waits for it already. Also what the stream raises.
        """
        if self._asked:
            raise SpecError(
                "one task that iterates over a stream",
                "two that wait for its next result",
                "Iterate in one task, and hand results to others through an asyncio.Queue",
            )
        self._asked = True
        try:
            return await self._next()
        finally:
            self._asked = False

    async def _next(self) -> StreamResult | None:
        if self._pending is None:
            self._pending = Future()
            self._pending.set_running_or_notify_cancel()  # whoever gives up waiting does not cancel the request
            try:
                self._requests.put(self._pending)
            except ChannelClosedError:
                self._pending = None
                return None
        try:
            result = await asyncio.wrap_future(self._pending)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        return result

    def stop(self, timeout_s: float) -> None:
        """End the thread; what is waited for ends with the stream."""
        self._requests.close()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)


def _serve(stream: Callable[[], Stream | None], requests: Channel[_Request]) -> None:
    try:
        while True:
            _answer(stream, requests.get())
    except ChannelClosedError:
        pass


def _answer(find: Callable[[], Stream | None], request: _Request) -> None:
    try:
        stream = find()
        if stream is not None:
            wait = stream.wait_for_item()
            del stream
            wait()
            stream = find()
        result = None if stream is None else next(stream, None)
    except BaseException as error:  # noqa: BLE001  # whoever waits raises it
        request.set_exception(error)
    else:
        request.set_result(result)
