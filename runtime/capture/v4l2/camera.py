"""A V4L2 camera as a source of frames that lie where the driver wrote them."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import Frame, JpegFormat
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.source import OnBroken
from edgedet.runtime.capture.v4l2.buffer_queue import Taken
from edgedet.runtime.capture.v4l2.controls import set_controls
from edgedet.runtime.capture.v4l2.formats import ModeRequest, choose_mode
from edgedet.runtime.capture.v4l2.identity import Identity, find_camera
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.negotiation import negotiate
from edgedet.runtime.capture.v4l2.node import Node
from edgedet.runtime.capture.v4l2.options import CameraOptions, Granted

__all__ = ["CameraSource", "DeviceSource"]

_RATE_TOLERANCE = 0.05

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_PADDING = 64


class DeviceSource:
    """A V4L2 device such as ``/dev/video0``. Its frames are leases on the driver's buffers.

    The camera starts with the first ``read``, so that no frame is older than the wish for it. Frames may be held after
    ``close`` and released from any thread; while all buffers are held, ``read`` waits for one, and says so after
    ``options.timeout`` seconds.

    Args:
        path: of the device.
        on_broken: not used; damaged frames are dropped and counted in ``dropped_before``.
        options: what is wanted of it.

    Attributes:
        granted: what the driver granted.

    Raises:
        SourceError: if it cannot be opened, or not as wanted.
    """

    moving = True
    live = True
    frame_count: int | None = None

    def __init__(
        self, path: str | os.PathLike[str], on_broken: OnBroken = None, options: CameraOptions | None = None
    ) -> None:
        options = options or CameraOptions()
        self.name = os.fspath(path)
        self.stem = Path(path).name
        self._node = Node(path)
        try:
            self._identity, self._options = Identity.of(self._node), options
            layout, fps = _set_up(self._node, options)
            capture = negotiate(self._node, layout, options, f"'{self.name}'")
        except BaseException:  # whatever it is, the device is not left open
            self._node.close()
            raise
        self._layout: Layout = layout
        self._memory, self._queue = capture.memory, capture.queue
        self.fps: float | None = fps
        self.granted = Granted(
            camera=f"'{self.name}' ({self._node.card})",
            code=layout.code,
            pixel_format=layout.picture.pixel_format,
            width=layout.picture.width,
            height=layout.picture.height,
            fps=fps,
            chosen=self._memory.mode,
            copies=self._memory.copies,
            buffers=len(self._memory.buffers),
            refused=capture.refused,
        )
        self._started = False
        self._last_sequence = -1
        self._damaged = 0
        self._closing = threading.Lock()

    def read(self) -> Frame | None:
        """Wait for the next frame; see ``Source.read``.

        Raises:
            SourceError: if the camera was unplugged, failed, delivers nothing in time, or all its buffers are held.
        """
        self._check_open()
        if not self._started:
            self._node.stream_on()
            self._started = True
        while True:
            taken = self._queue.take()
            self._damaged += taken.damaged_before
            frame = self._frame(taken)
            if frame is not None:
                return frame
            self._damaged += 1

    def reopener(self) -> Callable[[], DeviceSource]:
        """Return what opens this camera again, also where it has another number by then; see ``Returning``."""
        return functools.partial(_reopen, self.name, self._identity, self._options)

    def interrupt(self) -> None:
        """Let a ``read`` that waits give up; see ``Interruptible``."""
        self._queue.interrupt()

    def close(self) -> None:
        """Stop the camera; frames that are held stay as they are."""
        with self._closing:
            if self._node.fd < 0:
                return
            self._queue.stop()
            self._node.stream_off()
            self._memory.forget()
            self._node.forget_buffers()
            self._node.close()

    def _frame(self, taken: Taken) -> Frame | None:
        """Make a frame of a buffer; None where it holds half a JPEG, and went back."""
        filled = taken.filled
        memory = self._memory.begin(filled.index)
        lease = Lease(
            functools.partial(self._queue.give_back, filled.index),
            tuple(plane.owner for plane in memory),
            functools.partial(self._memory.export, filled.index),
        )
        planes = self._layout.planes(memory, filled.spans, lease)
        picture = self._layout.picture
        if isinstance(picture, JpegFormat) and not _is_whole_jpeg(planes[0][0].data):
            lease.release()
            return None
        # Damaged frames have numbers too, as long as the driver counts.
        missed = filled.sequence - self._last_sequence - 1 if self._last_sequence >= 0 else 0
        dropped = max(missed, self._damaged)
        self._last_sequence, self._damaged = filled.sequence, 0
        now = time.monotonic_ns()
        timestamp = min(filled.timestamp_ns or now, now)  # some drivers reckon the time, and run ahead
        return Frame(planes, filled.sequence, timestamp, self.name, dropped, picture, lease)

    def _check_open(self) -> None:
        if self._node.fd < 0:
            raise SourceError("a camera that is open", f"'{self.name}', which was closed", "Open it again")


class CameraSource(DeviceSource):
    """A camera by number: 0 is ``/dev/video0``.

    Args:
        index: the number.
        on_broken: as for `DeviceSource`.
        options: what is wanted of it.
    """

    def __init__(self, index: int, on_broken: OnBroken = None, options: CameraOptions | None = None) -> None:
        super().__init__(f"/dev/video{index}", on_broken, options)
        self.stem = f"camera{index}"


def _reopen(path: str, identity: Identity, options: CameraOptions) -> DeviceSource:
    return DeviceSource(find_camera(path, identity), None, options)


def _set_up(node: Node, options: CameraOptions) -> tuple[Layout, float | None]:
    """Set format, size, rate and controls; returns what the driver granted."""
    request = ModeRequest(options.pixel_format, options.size, options.fps)
    mode = choose_mode(node.modes(options.size), request, f"'{node.path}' ({node.card})")
    layout = node.set_mode(mode)
    fps = node.set_rate(mode.rate_for(options.fps) or options.fps)
    if options.fps is not None and (fps is None or abs(fps - options.fps) > _RATE_TOLERANCE * options.fps):
        granted = "a driver that does not tell" if fps is None else f"{fps:.4g}, which the driver set instead"
        raise SourceError(
            f"'{node.path}' to deliver {options.fps:g} frames per second as {mode.code} {mode.width}x{mode.height}",
            granted,
            "Choose a rate that edgedet cameras lists, or leave it out",
        )
    set_controls(node, options.controls)
    return layout, fps


def _is_whole_jpeg(data: memoryview) -> bool:
    """Tell whether start and end are there; USB cameras send torn pictures, and pad them with zeros."""
    tail = bytes(data[-_JPEG_PADDING:]).rstrip(b"\0")
    return bytes(data[:2]) == _JPEG_START and tail.endswith(_JPEG_END)
