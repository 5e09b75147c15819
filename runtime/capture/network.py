"""Network streams, read by a thread of their own so that no old frame waits and nobody waits for a dead server."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any

from edgedet.errors import SourceError
from edgedet.optional import is_installed
from edgedet.runtime.capture.address import without_credentials
from edgedet.runtime.capture.decoder import BrokenOffError, Decoder, NetworkOptions
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.source import OnBroken, Source
from edgedet.runtime.capture.video import OpenCvNetworkSource
from edgedet.runtime.channel import Channel, ChannelClosedError

__all__ = ["NetworkOptions", "NetworkSource", "open_network"]

_CLOSING_S = 1.0


@dataclass(frozen=True)
class _End:
    """What comes after the last frame: how many there were, and what went wrong, or None."""

    frames: int
    problem: str | None


class NetworkSource:
    """An RTSP, RTMP, UDP or HTTP address through PyAV (FFmpeg); live unless the server tells how long it is.

    Of a live stream ``read`` gives the newest frame: what came meanwhile is decoded, dropped and counted in
    ``dropped_before``. Of a recording it gives every frame. A stream that breaks off is over: ``edgedet.open_stream``
    opens it again (see Recovery).

    Args:
        address: of the stream, with user and password where it wants them.
        on_broken: not used.
        options: what is wanted of it.

    Raises:
        MissingDependencyError: if PyAV is not installed.
        SourceError: if it does not answer with a video.
    """

    moving = True

    def __init__(self, address: str, on_broken: OnBroken = None, options: NetworkOptions | None = None) -> None:
        decoder = Decoder(address, options or NetworkOptions())
        self.name, self.stem = without_credentials(address)
        self.live = decoder.live
        self.fps = decoder.fps
        self.frame_count = decoder.frame_count
        self._end: _End | None = None
        self._frames: Channel[Frame | _End] = Channel(1)
        self._thread = threading.Thread(
            target=_receive, args=(decoder, self.name, self._frames), name="edgedet-network", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, self._frames.close)

    def read(self) -> Frame | None:
        """Wait for the next frame; see ``Source.read``."""
        if self._end is None:
            try:
                item = self._frames.get()
            except ChannelClosedError:
                raise SourceError(
                    "a stream that is open", f"'{self.name}', which was closed", "Open it again"
                ) from None
            if isinstance(item, Frame):
                return item
            self._end = item
        self._check_end(self._end)
        return None

    def interrupt(self) -> None:
        """Let a ``read`` that waits give up; see ``Interruptible``."""
        self._frames.close()

    def close(self) -> None:
        """Close the connection; where the server does not answer, the thread that waits for it does so later."""
        self._frames.close()
        self._thread.join(_CLOSING_S)

    def _check_end(self, end: _End) -> None:
        """Raise SourceError where the frames stop before the source's end."""
        problem = end.problem
        if problem is None and self.live:
            problem = "the server ended it"
        # The count may be an estimate: only an end in the first nine tenths is surely too early.
        if problem is None and self.frame_count is not None and end.frames < 0.9 * self.frame_count:
            problem = f"it ended there, of about {self.frame_count} frames"
        if problem is not None:
            where = f"none after frame {end.frames}" if end.frames else "not a single one"
            raise SourceError(
                f"frames from '{self.name}' until it is stopped" if self.live else f"'{self.name}' to play to its end",
                f"{where} ({problem})",
                "Check the connection and the server",
            )


def open_network(address: str, on_broken: OnBroken = None, options: NetworkOptions | None = None) -> Source:
    """Open an address through PyAV where it is installed, else through OpenCV, which takes no options.

    Raises:
        MissingDependencyError: if there are options, and PyAV is not installed.
        SourceError: if it does not answer with a video.
    """
    if options is None and not is_installed("av"):
        return OpenCvNetworkSource(address, on_broken)
    return NetworkSource(address, on_broken, options)


def _receive(decoder: Decoder, name: str, frames: Channel[Frame | _End]) -> None:
    """Pass frames on until they end, or nobody wants them; only this thread closes the connection."""
    count = 0
    problem: str | None = None
    try:
        try:
            for picture in decoder.pictures():
                frame = _frame(decoder, picture, count, name)
                count += 1
                if decoder.live:
                    frames.replace(frame, _take_place)
                else:
                    frames.put(frame)
                del frame, picture
        except BrokenOffError as error:
            problem = str(error)
        except ChannelClosedError:
            raise
        except Exception as error:  # noqa: BLE001  # the reader raises it: it would wait for ever otherwise
            problem = f"{type(error).__name__}: {error}"
        finally:
            decoder.close()
        frames.put(_End(count, problem))
    except ChannelClosedError:
        pass


def _frame(decoder: Decoder, picture: Any, sequence: int, name: str) -> Frame:
    timestamp = time.monotonic_ns()
    if not decoder.live:
        timestamp = max(0, round(float((picture.pts or 0) * picture.time_base) * 1e9))
    planes, layout = decoder.planes(picture)
    unreadable, decoder.unreadable = decoder.unreadable, 0
    return Frame(planes, sequence, timestamp, name, unreadable, layout)


def _take_place(old: Frame | _End, new: Frame | _End) -> None:
    """Count a frame that nobody took among the ones that its successor follows."""
    assert isinstance(old, Frame)
    assert isinstance(new, Frame)
    new.dropped_before += old.dropped_before + 1
