"""The contract of a sink: where results go, one class a way out.

Adding one means a file with a class that has these members, and a row in the table of ``runtime/sinks/__init__.py``.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from edgedet.runtime.stream import StreamResult

__all__ = ["Delivery", "Lossy", "Sink"]

Delivery = Literal["every", "newest", "caller"]
"""How a ``SinkRunner`` hands results to a sink.

``every``: each one, in a thread of the sink's own; only of a live source are the oldest dropped where the sink is slow.
``newest``: the newest one, in a thread of its own; the ones that came meanwhile are dropped and counted.
``caller``: each one, in the thread that runs the stream, which waits (windows allow no other thread).
"""


class Sink(Protocol):
    """Takes the results of a stream in order.

    Attributes:
        delivery: which results it wants.
        pixels: whether it looks at the pixels of the frame, now; asked for each result.
        wrote: the file or folder with what came so far, quoted; None where there is none (yet).
    """

    @property
    def delivery(self) -> Delivery:
        """See the class."""

    @property
    def pixels(self) -> bool:
        """See the class."""

    @property
    def wrote(self) -> str | None:
        """See the class."""

    def write(self, result: StreamResult) -> bool:
        """Take one result; False says that no more are wanted (the viewer closed the window).

        Raises:
            SinkError: if it cannot be written. What was written before stays.
        """

    def close(self) -> None:
        """Finish what was written so that it can be used, however many results came; again does nothing.

        Raises:
            SinkError: if it cannot be finished.
        """


@runtime_checkable
class Lossy(Protocol):
    """A sink that drops results by itself, since what it sends to may be away.

    Attributes:
        dropped: how many so far.
    """

    dropped: int
