"""What a stream does about sources that fail, and how it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgedet.errors import SpecError

__all__ = ["Recovery", "SourceEvent"]


@dataclass(frozen=True)
class SourceEvent:
    """Something that happened to a source, beside its frames.

    Attributes:
        source_index: place of the source among the stream's sources.
        source_name: of the source.
        kind: ``failed`` (see ``error``), ``hung`` (no frame for as long as the watchdog waits), ``recovered``
            (frames come again), ``unreadable`` (a frame could not be decoded, after one that could).
        error: what went wrong, or None.
        retry_in_s: seconds until it is opened again; None where it is not, and the other sources go on without it.
    """

    source_index: int
    source_name: str
    kind: Literal["failed", "hung", "recovered", "unreadable"]
    error: BaseException | None = None
    retry_in_s: float | None = None

    def __str__(self) -> str:
        what = {
            "failed": "failed",
            "hung": "hangs",
            "recovered": "delivers again",
            "unreadable": "sent a frame that cannot be read",
        }[self.kind]
        why = f": {self.error}" if self.error is not None else ""
        then = "" if self.retry_in_s is None else f". It is opened again in {self.retry_in_s:g} s"
        return f"Source '{self.source_name}' {what}{why}{then}"


@dataclass(frozen=True)
class Recovery:
    """What a stream does about live sources that fail.

    Files are not opened again: a damaged one is left out of a stream of several sources, whose others go on.

    Attributes:
        restart: open failed live sources again, for ever. Otherwise their error ends a stream of one source, and is
            raised at the end of a stream of several.
        backoff_s: seconds before each attempt after a failure; the last one is repeated.
        watchdog_s: a live source that delivers no frame for so long is reported, and opened again where ``restart`` is
            set; None waits for ever.
        close_timeout_s: how long closing the stream waits at most, where a source or the engine hangs; their threads
            are left to end by themselves then.
        on_event: told about every event, from a thread of the stream; what it raises is logged. Every event is logged
            too (logger ``edgedet.runtime.stream``).
    """

    restart: bool = True
    backoff_s: tuple[float, ...] = (1, 2, 4, 8, 16, 30)
    watchdog_s: float | None = 20.0
    close_timeout_s: float = 5.0
    on_event: Callable[[SourceEvent], None] | None = None

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("backoff_s", bool(self.backoff_s) and min(self.backoff_s) >= 0, "one or more waits of 0 seconds or more"),
            ("watchdog_s", self.watchdog_s is None or self.watchdog_s > 0, "more than 0 seconds, or None"),
            ("close_timeout_s", self.close_timeout_s >= 0, "0 seconds or more"),
        ):
            if not fits:
                raise SpecError(f"{name} to be {wanted}", repr(getattr(self, name)), "Correct it")
