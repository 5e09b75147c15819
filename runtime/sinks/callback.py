"""A function of yours as a sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from edgedet.runtime.stream import StreamResult

__all__ = ["CallbackSink"]


class CallbackSink:
    """Calls a function with each result.

    Args:
        function: gets the result; ``return False`` ends the run, anything else, None too, goes on. What it raises is
            reported once, after which it is called no more; other sinks go on.
        delivery: see ``Delivery``; by default it gets the newest result, so that it may be slow.
        pixels: whether it looks at ``result.frame.image`` or ``result.annotated``.
    """

    wrote: Final = None

    def __init__(
        self,
        function: Callable[[StreamResult], object],
        *,
        delivery: Literal["every", "newest", "caller"] = "newest",
        pixels: bool = True,
    ) -> None:
        self.delivery = delivery
        self.pixels = pixels
        self._function = function

    def write(self, result: StreamResult) -> bool:
        """Call the function; see ``Sink.write``."""
        return self._function(result) is not False

    def close(self) -> None:
        """Do nothing: the function is the caller's."""
