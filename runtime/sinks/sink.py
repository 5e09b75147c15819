"""The contract of a sink: where results go, one class a way out.

Adding one means a file with a class that has these members, and a row in the table of ``runtime/sinks/__init__.py``.
"""

from __future__ import annotations

from typing import Protocol

from edgedet.runtime.stream import StreamResult

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes the results of a stream in order.

    Attributes:
        wrote: the file or folder with what came so far, quoted; None where there is none (yet).
    """

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
