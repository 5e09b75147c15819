"""The sink of the live page."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgedet.errors import SinkError
from edgedet.runtime.sinks.web.access import Address
from edgedet.runtime.sinks.web.broadcast import Broadcast
from edgedet.runtime.sinks.web.record import answer_json, kind_of_answer, pack, picture_jpeg
from edgedet.runtime.sinks.web.server import PageServer, Show
from edgedet.runtime.stream import StreamResult

__all__ = ["PageSettings", "WebSink"]

_RATE_WINDOW_S = 2.0
_EARLY = 0.2


@dataclass(frozen=True)
class PageSettings:
    """What the page shows, and how much that may cost.

    Attributes:
        title: of the page.
        lowest_confidence: what the model was asked for: where the threshold slider begins.
        confidence: where the slider stands at first.
        fps: at most so many frames a second of each source are encoded and sent.
        longest_side: pictures are made no larger than this many pixels, and smaller where no viewer has more room;
            boxes keep their accuracy.
        sources: names of the stream's sources, shown before their first frames come.
    """

    title: str = "edgedet"
    lowest_confidence: float = 0.0
    confidence: float = 0.25
    fps: float = 30.0
    longest_side: int = 960
    sources: tuple[str, ...] = ()


class WebSink:
    """Serves a page with the live pictures; encodes nothing while nobody looks.

    Args:
        address: where to listen; this machine only by default.
        token: what viewers must know (``Authorization: Bearer``, or ``/?token=`` once in a browser); None lets
            everybody in who reaches the address.
        settings: see ``PageSettings``.

    Attributes:
        address: where it listens.
        url: what to open in a browser, with the token.
        guarded: whether a token is needed.

    Raises:
        SinkError: if the address is taken, or the token has characters that a cookie cannot hold.
    """

    delivery: Final = "newest"
    wrote: Final = None

    def __init__(
        self, address: Address | None = None, token: str | None = None, settings: PageSettings | None = None
    ) -> None:
        if token is not None and not (token.isascii() and token.replace("-", "").replace("_", "").isalnum()):
            raise SinkError("a token of letters, digits, - and _", "another one", "Choose another token")
        self._settings = settings or PageSettings()
        self._broadcast = Broadcast()
        self._sources: dict[int, _Source] = {}
        self._names = _short(self._settings.sources)
        hello = {
            "hello": self._settings.title,
            "confidence": self._settings.confidence,
            "lowest_confidence": self._settings.lowest_confidence,
            "sources": self._names,
        }
        self._server: PageServer | None = PageServer(address or Address(), Show(hello, token), self._broadcast)
        self.address = self._server.address
        self.url = self.address.url + (f"?token={token}" if token else "")
        self.guarded = token is not None

    @property
    def pixels(self) -> bool:
        """Whether anybody looks; see ``Sink``."""
        return self._broadcast.viewers > 0

    @property
    def viewers(self) -> int:
        """How many look at the moment."""
        return self._broadcast.viewers

    def write(self, result: StreamResult) -> bool:
        """Show a result to whoever looks; see ``Sink.write``."""
        now = time.monotonic()
        source = self._sources.setdefault(result.source_index, _Source(1 / self._settings.fps))
        source.count(now, result)
        side = min(self._settings.longest_side, self._broadcast.longest_side(result.source_index))
        # A viewer may have come after the pixels were given back.
        if side and result.frame.planes and source.is_due(now):
            head = {**self._head(result), "fps": source.fps, "dropped": source.dropped}
            self._broadcast.publish(result.source_index, pack(head, picture_jpeg(result, side)))
        return True

    def close(self) -> None:
        """Stop serving; calling it again does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _head(self, result: StreamResult) -> dict[str, Any]:
        at, frame, spent = result.source_index, result.frame, result.latencies
        processing = spent.preprocess + spent.infer + spent.postprocess
        stages = {"preprocess": spent.preprocess, "infer": spent.infer, "postprocess": spent.postprocess}
        return {
            "source_index": at,
            "source": self._names[at] if at < len(self._names) else _shown(result.source_name or frame.name),
            "picture": _shown(frame.name),
            "frame": frame.sequence,
            "width": frame.width,
            "height": frame.height,
            "latency": round(processing if result.age_ms is None else result.age_ms, 2),
            "aged": result.age_ms is not None,
            "stages": {name: round(value, 2) for name, value in stages.items()},
            "kind": kind_of_answer(result.answer),
            "items": answer_json(result.answer),
        }


class _Source:
    """Rate and losses of one source, and when its next picture is due."""

    def __init__(self, interval_s: float) -> None:
        self.dropped = 0
        self._interval_s = interval_s
        self._due_s = 0.0
        self._arrivals: deque[float] = deque()

    @property
    def fps(self) -> float:
        """Results a second, lately."""
        elapsed = self._arrivals[-1] - self._arrivals[0]
        return round((len(self._arrivals) - 1) / elapsed, 2) if elapsed > 0 else 0.0

    def count(self, now: float, result: StreamResult) -> None:
        self.dropped += result.dropped
        self._arrivals.append(now)
        while now - self._arrivals[0] > _RATE_WINDOW_S and len(self._arrivals) > 2:
            self._arrivals.popleft()

    def is_due(self, now: float) -> bool:
        """Thin results out to the rate, allowing for cameras that are now early, now late."""
        if now < self._due_s - _EARLY * self._interval_s:
            return False
        late = now - self._due_s > self._interval_s
        self._due_s = (now if late else self._due_s) + self._interval_s
        return True


def _shown(name: str) -> str:
    """A name without its folder."""
    return name if "://" in name or name.startswith("/dev/") else Path(name).name


def _short(names: Sequence[str]) -> list[str]:
    """Names without their folders, where these are not what tells them apart."""
    counts = Counter(map(_shown, names))
    return [_shown(name) if counts[_shown(name)] == 1 else name for name in names]
