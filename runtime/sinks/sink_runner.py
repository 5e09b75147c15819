"""Several sinks behind one stream: a slow one never slows a camera, and a broken one never stops the others.

                     +-- lane (a bounded queue and a thread) -- sink
    write(result) ---+-- lane ------------------------------- sink
                     +-- sinks that want the caller's own thread

What happens where a sink is slower than the stream:

| delivery of the sink | recorded source | live source |
|---|---|---|
| every | the stream waits: nothing is lost | the oldest waiting results are dropped and counted |
| newest | the waiting result is dropped and counted | the same |
| caller | the stream waits | the stream waits |

Each source of a stream has its own share of a queue, so that no camera takes another one's place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from edgedet.errors import EdgedetError, SinkError
from edgedet.runtime.sinks.one_source import OneSource
from edgedet.runtime.sinks.sink import Lossy, Sink
from edgedet.runtime.stream import StreamResult

__all__ = ["OnError", "SinkRunner"]

OnError = Callable[[EdgedetError], None]
"""Told once about each sink that fails, from that sink's thread."""

_CAPACITY = {"every": 8, "newest": 1}  # results of one source
_END_TIMEOUT_S = 10.0


class SinkRunner:
    """Hands every result to every sink; a context manager that closes them all.

    Args:
        sinks: open sinks, closed with the runner, or as soon as they fail.
        live: whether a source loses frames when nobody reads them (``source.live``).
        on_error: told about each sink that fails; the others go on.
    """

    def __init__(self, sinks: Sequence[Sink], *, live: bool, on_error: OnError | None = None) -> None:
        self.errors: list[EdgedetError] = []
        self._on_error = on_error
        self._lock = threading.Lock()
        self._sinks = tuple(sinks)
        self._direct = [sink for sink in sinks if sink.delivery == "caller"]
        self._lanes = [_Lane(sink, live, self._failed) for sink in sinks if sink.delivery != "caller"]

    @property
    def dropped(self) -> int:
        """Results that sinks did not get since they were slow, or dropped themselves, summed over the sinks."""
        lost = sum(sink.dropped for sink in self._sinks if isinstance(sink, Lossy))
        return lost + sum(lane.dropped for lane in self._lanes)

    def write(self, result: StreamResult) -> bool:
        """Hand a result over; False once a sink wants no more, or no sink is left that works.

        The frame's buffer goes back to the source: its picture is kept (``Frame.detach``) where a sink looks at it.
        """
        more = [self._write_here(sink, result) for sink in list(self._direct) if _wants(sink, result)]
        if self._lanes:
            if not any(sink.pixels for sink in self._sinks):
                result.frame.release()
            elif result.frame.planes:  # a function of the caller's may have released it
                result.frame.detach()
            more += [lane.put(result) for lane in self._lanes if lane.wants(result)]
        left = len(self._direct) + sum(not lane.failed for lane in self._lanes)
        return all(more) and (left > 0 or not self._sinks)

    def close(self) -> None:
        """Let every sink take what waits for it and finish; calling it again does nothing.

        Errors are in ``errors``, none is raised. A view that hangs is given up after ten seconds.
        """
        for lane in self._lanes:
            lane.finish()
        for sink in self._direct:
            self._close_here(sink)
        self._direct = []
        for lane in self._lanes:
            lane.join()

    def __enter__(self) -> SinkRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_here(self, sink: Sink, result: StreamResult) -> bool:
        try:
            return sink.write(result)
        except Exception as error:  # noqa: BLE001  # whatever a sink raises, the others go on
            self._direct.remove(sink)
            self._failed(_as_edgedet_error(sink, error))
            self._close_here(sink, quietly=True)
            return True

    def _close_here(self, sink: Sink, *, quietly: bool = False) -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001  # the other sinks are closed too
            if not quietly:
                self._failed(_as_edgedet_error(sink, error))

    def _failed(self, error: EdgedetError) -> None:
        with self._lock:
            self.errors.append(error)
        if self._on_error is not None:
            self._on_error(error)


class _Lane:
    """A queue before one sink, bounded for each source, and the thread that empties it."""

    def __init__(self, sink: Sink, live: bool, on_error: OnError) -> None:
        self.dropped = 0
        self.failed = False
        self._sink = sink
        self._on_error = on_error
        self._keeps_all = sink.delivery == "every"
        self._waits = self._keeps_all and not live
        self._items: deque[StreamResult] = deque()
        self._wanted = True
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"edgedet-{_name(sink)}", daemon=True)
        self._thread.start()

    def put(self, result: StreamResult) -> bool:
        """Queue a result; False once the sink wants no more."""
        source = result.source_index
        with self._changed:
            while self._waits and self._is_full(source) and self._takes:
                self._changed.wait()
            if self._takes:
                if self._is_full(source):
                    oldest = next(at for at, item in enumerate(self._items) if item.source_index == source)
                    del self._items[oldest]
                    self.dropped += 1
                self._items.append(result)
                self._changed.notify_all()
            return self._wanted

    def wants(self, result: StreamResult) -> bool:
        """Tell whether the result is of a source that the sink is for."""
        return _wants(self._sink, result)

    def finish(self) -> None:
        """Take no more results; the sink still gets those that wait, if it wants every one."""
        with self._changed:
            self._ending = True
            if not self._keeps_all:
                self._items.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the sink is closed."""
        # A file has as long as it needs, since giving up would lose it.
        self._thread.join(None if self._keeps_all else _END_TIMEOUT_S)
        if self._thread.is_alive():
            name = _name(self._sink)
            error = f"one that hangs for more than {_END_TIMEOUT_S:.0f} seconds"
            self._on_error(SinkError(f"a {name} that ends", error, "Check what it is connected to"))

    @property
    def _takes(self) -> bool:
        return self._wanted and not self.failed and not self._ending

    def _is_full(self, source: int) -> bool:
        waiting = sum(item.source_index == source for item in self._items)
        return waiting >= _CAPACITY[self._sink.delivery]

    def _run(self) -> None:
        for work in (self._write_all, self._sink.close):
            try:
                work()
            except Exception as error:  # noqa: BLE001  # whatever a sink raises, the others go on
                self._fail(error)

    def _write_all(self) -> None:
        while (result := self._next()) is not None:
            if not self._sink.write(result):
                with self._changed:
                    self._wanted = False
                    self._items.clear()
                    self._changed.notify_all()
                return

    def _next(self) -> StreamResult | None:
        with self._changed:
            while not self._items and not self._ending:
                self._changed.wait()
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            first, self.failed = not self.failed, True
            self._items.clear()
            self._changed.notify_all()
        if first:
            self._on_error(_as_edgedet_error(self._sink, error))


def _wants(sink: Sink, result: StreamResult) -> bool:
    return not isinstance(sink, OneSource) or sink.source_index == result.source_index


def _name(sink: Sink) -> str:
    return type(sink.sink if isinstance(sink, OneSource) else sink).__name__


def _as_edgedet_error(sink: Sink, error: Exception) -> EdgedetError:
    if isinstance(error, EdgedetError):
        return error
    wrapped = SinkError(
        f"a {_name(sink)} that takes every result",
        f"{type(error).__name__}: {error}",
        "Mend it; the other outputs go on without it",
    )
    wrapped.__cause__ = error
    return wrapped
