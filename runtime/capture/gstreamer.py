"""Any pipeline of GStreamer that ends in an appsink, as a source of frames that lie where GStreamer has put them.

    gst:v4l2src device=/dev/video0 io-mode=dmabuf ! video/x-raw,format=NV12 ! appsink
    gst:nvarguscamerasrc ! nvvidconv bl-output=false ! video/x-raw(memory:NVMM),format=NV12 ! appsink

| pictures | from |
|---|---|
| BGR, RGB, GRAY8, YUY2, UYVY, NV12, I420 | memory of the processor or DMA buffers (``Frame.dmabuf``) |
| NV12 and others of these in memory:NVMM | a Jetson's NvBufSurface, pitch-linear; NOT RUN ON HARDWARE |
| image/jpeg | decoded by OpenCV when somebody looks at the picture |

The appsink keeps what it is told to (``max-buffers``, ``drop``). One that is told nothing would queue without bound, so
it is given one place, and drops the older frame where the pipeline is live. Frames of a live pipeline are never held
back to be shown in time (``sync``): they are handed out as they come.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from edgedet.errors import EdgedetError, SourceError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.gstreamer_library import load_gstreamer, take_any_layout
from edgedet.runtime.capture.gstreamer_memory import Layout, Loans, Mapping, read_layout
from edgedet.runtime.capture.source import OnBroken

__all__ = ["SCHEME", "GStreamerSource"]

SCHEME = "gst:"

_MODULES = ("Gst", "GstApp", "GstVideo", "GstAllocators")
_SLICE_NS = 100_000_000
_NO_OFFSET = (1 << 64) - 1
_MOST_READ_BY_GPU = 2


class GStreamerSource:
    """A pipeline. Its frames are leases on GStreamer's buffers, mapped until nothing looks at them any more.

    A pipeline is live where GStreamer says so (cameras, ``is-live=true``). Timestamps of a live one are of the
    monotonic clock, the moment that the picture was taken as far as its source tells; otherwise positions in the
    recording.
    Sequence numbers are the source's own where its buffers carry them (v4l2src), else counted.

    Args:
        pipeline: as gst-launch takes it, with or without ``gst:`` before it.
        on_broken: not used.
        timeout: seconds to wait for the pipeline to start, and for the next frame.

    Raises:
        MissingDependencyError: if GStreamer or PyGObject is not there.
        SourceError: if there is no such pipeline, it does not start, or its pictures are of a kind that edgedet does
            not read.
    """

    moving = True
    frame_count: int | None = None

    def __init__(self, pipeline: str, on_broken: OnBroken = None, timeout: float = 10.0) -> None:
        self._gst = load_gstreamer(*_MODULES)
        description = pipeline.removeprefix(SCHEME).strip()
        self.name = f"{SCHEME}{description}"
        self.stem = "gstreamer"
        self._timeout = timeout
        self._ended = threading.Event()
        self._closing = threading.Lock()
        self._loans = Loans()
        self._caps: Any = None
        self._layout: Layout | None = None
        self._last = -1
        self._pipeline, self._sink = self._parsed(description)
        try:
            self.live = self._started()
            self._first: Any = self._pulled()
            if self._first is None:
                raise self._broken("it ended")
            self.fps: float | None = self._layout_of(self._first).fps
        except BaseException:  # whatever it is, the pipeline is not left running
            self.close()
            raise

    def read(self) -> Frame | None:
        """Wait for the next frame; see ``Source.read``.

        Raises:
            SourceError: if the pipeline fails, delivers nothing in time, or its pictures become others that edgedet
                does not read.
        """
        self._loans.settle(_MOST_READ_BY_GPU)
        sample = self._next()
        if sample is None:
            return None
        layout = self._layout_of(sample)
        mapping = Mapping(self._gst, sample, layout, self.name)
        lease = self._loans.lend(mapping)
        sequence, dropped = self._count(sample.get_buffer())
        planes = mapping.planes(lease)
        return Frame(planes, sequence, self._timestamp(sample), self.name, dropped, layout.picture, lease)

    def interrupt(self) -> None:
        """Let a ``read`` that waits give up; see ``Interruptible``."""
        self._ended.set()

    def close(self) -> None:
        """Stop the pipeline; frames that are held stay as they are."""
        self._ended.set()
        with self._closing:
            self._first = None
            self._pipeline.set_state(self._gst.Gst.State.NULL)
            self._loans.settle()

    def _parsed(self, description: str) -> tuple[Any, Any]:
        gst = self._gst.Gst
        try:
            pipeline = gst.parse_launch(description)
        except self._gst.GLib.Error as error:
            raise SourceError(
                "a pipeline of GStreamer", f"'{description}' ({error.message})", "Try it with gst-launch-1.0"
            ) from error
        sinks = []
        if isinstance(pipeline, gst.Bin):
            elements = pipeline.iterate_recurse()
            while (found := elements.next())[0] == gst.IteratorResult.OK:
                if isinstance(found[1], self._gst.GstApp.AppSink):
                    sinks.append(found[1])
        if len(sinks) != 1:
            raise SourceError(
                "a pipeline with one appsink", f"{len(sinks)} in '{description}'", "End it with: ! appsink"
            )
        take_any_layout(self._gst, sinks[0].get_static_pad("sink"))
        return pipeline, sinks[0]

    def _started(self) -> bool:
        """Start; returns whether the pipeline is live."""
        gst = self._gst.Gst
        answer = self._pipeline.set_state(gst.State.PAUSED)
        if answer == gst.StateChangeReturn.FAILURE:
            self._raise_error()
            raise self._broken("it does not start")
        if answer == gst.StateChangeReturn.ASYNC:
            deadline = time.monotonic() + self._timeout
            while answer == gst.StateChangeReturn.ASYNC and time.monotonic() < deadline:
                self._raise_error()
                answer = self._pipeline.get_state(_SLICE_NS)[0]
        live = bool(answer == gst.StateChangeReturn.NO_PREROLL)
        bounded = bool(self._sink.get_property("max-buffers"))
        if not bounded:
            self._sink.set_property("max-buffers", 1)
        if live:
            self._sink.set_property("sync", False)
            if not bounded:
                self._sink.set_property("drop", True)
        self._pipeline.set_state(gst.State.PLAYING)
        return live

    def _next(self) -> Any:
        first, self._first = self._first, None
        if first is None:
            return self._pulled()
        # What waited since the start is old: a live pipeline has a newer one, unless nothing came since.
        self._check_open()
        newer = self._sink.try_pull_sample(0) if self.live else None
        return newer or first

    def _pulled(self) -> Any:
        """Wait for a sample; None at the end."""
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            self._check_open()
            sample = self._sink.try_pull_sample(_SLICE_NS)
            if sample is not None:
                return sample
            self._check_open()
            self._raise_error()
            if self._sink.is_eos():
                return None
        raise self._broken(f"nothing for {self._timeout:g} seconds; frames that were not released may hold all buffers")

    def _raise_error(self) -> None:
        """Raise what an element has told of its failure."""
        message = self._pipeline.get_bus().pop_filtered(self._gst.Gst.MessageType.ERROR)
        if message is not None:
            error, _ = message.parse_error()
            raise self._broken(f"{message.src.get_name()}: {error.message}")

    def _layout_of(self, sample: Any) -> Layout:
        caps = sample.get_caps()
        if self._layout is None or not caps.is_equal(self._caps):
            self._layout = read_layout(self._gst, caps, self.name)
            self._caps = caps
        return self._layout

    def _count(self, buffer: Any) -> tuple[int, int]:
        """Return number of a frame, and how many are missing before it."""
        numbered = buffer.offset != _NO_OFFSET and buffer.offset_end == buffer.offset + 1
        sequence = buffer.offset if numbered and buffer.offset > self._last else self._last + 1
        dropped = sequence - self._last - 1 if self._last >= 0 else 0
        self._last = sequence
        return sequence, dropped

    def _timestamp(self, sample: Any) -> int:
        gst = self._gst.Gst
        now = time.monotonic_ns()
        pts = sample.get_buffer().pts
        if pts == gst.CLOCK_TIME_NONE:
            return now if self.live else 0
        if not self.live:
            return max(0, int(sample.get_segment().to_stream_time(gst.Format.TIME, pts)))
        clock = self._pipeline.get_pipeline_clock()
        if not isinstance(clock, gst.SystemClock) or clock.get_property("clock-type") != gst.ClockType.MONOTONIC:
            return now
        running = int(sample.get_segment().to_running_time(gst.Format.TIME, pts))
        return min(now, int(self._pipeline.get_base_time()) + running)

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise SourceError("a pipeline that is open", f"'{self.name}', which was closed", "Open it again")

    def _broken(self, problem: str) -> EdgedetError:
        where = f"none after frame {self._last}" if self._last >= 0 else "not a single one"
        return SourceError(f"frames from '{self.name}'", f"{where} ({problem})", "Try the pipeline with gst-launch-1.0")
