"""A sink for one of the sources of a stream, such as the video file of one camera."""

from __future__ import annotations

from edgedet.runtime.sinks.sink import Delivery, Sink
from edgedet.runtime.stream import StreamResult

__all__ = ["OneSource"]


class OneSource:
    """Passes on the results of one source, and nothing of the others.

    Args:
        sink: closed with this one.
        source_index: place of the source among the stream's sources.
    """

    def __init__(self, sink: Sink, source_index: int) -> None:
        self.source_index = source_index
        self.sink = sink

    @property
    def delivery(self) -> Delivery:
        """See ``Sink``."""
        return self.sink.delivery

    @property
    def pixels(self) -> bool:
        """See ``Sink``."""
        return self.sink.pixels

    @property
    def wrote(self) -> str | None:
        """See ``Sink``."""
        return self.sink.wrote

    def write(self, result: StreamResult) -> bool:
        """Pass a result of the source on; see ``Sink.write``."""
        return result.source_index != self.source_index or self.sink.write(result)

    def close(self) -> None:
        """Close the sink."""
        self.sink.close()
