"""The annotated picture as an RTSP stream, for video recorders, players and other programs: GStreamer's RTSP server.

    results -> appsrc -> videoconvert -> the first encoder that is here -> RTP -> any number of clients

| encoder | of |
|---|---|
| nvv4l2h264enc | a Jetson; not run on hardware |
| v4l2h264enc | other boards (Raspberry Pi, i.MX, Rockchip); not run on hardware |
| x264enc | gstreamer1.0-plugins-ugly |
| openh264enc | gstreamer1.0-plugins-bad |
| jpegenc | gstreamer1.0-plugins-good; JPEG over RTP |

Nothing is encoded while nobody looks. A client that is slow loses pictures; ``write`` never waits for one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgedet.errors import SinkError
from edgedet.runtime.capture.gstreamer_library import load_gstreamer
from edgedet.runtime.sinks.web import Address
from edgedet.runtime.stream import StreamResult

__all__ = ["RtspAddress", "RtspSink"]

_DEFAULT_FPS = 30.0
_END_TIMEOUT_S = 5.0
_SMALLEST = 16

_PAY_H264 = "h264parse config-interval=-1 ! rtph264pay pt=96"
_ENCODERS = {
    "nvv4l2h264enc": f"nvvidconv ! nvv4l2h264enc maxperf-enable=true insert-sps-pps=true idrinterval=30 ! {_PAY_H264}",
    "v4l2h264enc": f"videoconvert ! v4l2h264enc ! {_PAY_H264}",
    "x264enc": "videoconvert ! video/x-raw,format=I420 "
    f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! {_PAY_H264}",
    "openh264enc": f"videoconvert ! openh264enc complexity=low gop-size=30 ! {_PAY_H264}",
    "jpegenc": "videoconvert ! video/x-raw,format=I420 ! jpegenc ! rtpjpegpay pt=26",
}
"""Element -> what follows the appsrc, the best first."""

_STEPS = {"jpegenc": 8}
"""Element -> what width and height are multiples of (RFC 2435 for JPEG), two where it is not here (4:2:0)."""


@dataclass(frozen=True)
class RtspAddress:
    """Where the stream is served.

    Attributes:
        host: name or address of this machine to listen at.
        port: 0 stands for any free one.
        path: without a slash before it.
    """

    host: str = "127.0.0.1"
    port: int = 8554
    path: str = "live"

    @classmethod
    def parse(cls, text: str) -> RtspAddress:
        """Read ``[HOST:]PORT[/PATH]``.

        Raises:
            SinkError: if it is not that.
        """
        place, _, path = text.partition("/")
        try:
            address = Address.parse(place)
        except SinkError:
            address = None
        if address is None or not re.fullmatch(r"[\w.~-]+(/[\w.~-]+)*", path or cls.path, re.ASCII):
            raise SinkError("[HOST:]PORT[/PATH] for the RTSP stream", f"'{text}'", "Choose, for example, 8554/live")
        return cls(address.host, address.port, path or cls.path)

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        return Address(self.host, self.port).is_loopback

    @property
    def url(self) -> str:
        """What a player opens; for "all interfaces" the address under which the network knows this machine."""
        return "rtsp" + Address(self.host, self.port).url.removeprefix("http") + self.path


class RtspSink:
    """An RTSP server with the annotated pictures of one or more sources; the size is that of a source's first frame.

    Args:
        address: where; of several sources each has a path of its own below it.
        names: of the sources where there are several, as they stand in the path.
        fps: what players are told; 30 where None.

    Attributes:
        address: with the port that was taken.
        encoder: the element that encodes.
        urls: one a source.

    Raises:
        MissingDependencyError: if GStreamer's RTSP server or PyGObject is not there.
        SinkError: if no encoder is there, or the port is taken.
    """

    delivery: Final = "newest"
    pixels: Final = True
    wrote: str | None = None

    def __init__(self, address: RtspAddress, names: Sequence[str] = (), fps: float | None = None) -> None:
        self._gst = load_gstreamer("Gst", "GstApp", "GstRtspServer")
        self.encoder = self._best_encoder()
        paths = [f"{address.path}/{_in_path(name)}" for name in names] if len(names) > 1 else [address.path]
        self._context = self._gst.GLib.MainContext()
        self._server = self._gst.GstRtspServer.RTSPServer(address=address.host, service=str(address.port))
        self._mounts = [_Mount(self._gst, self.encoder, fps or _DEFAULT_FPS) for _ in paths]
        for path, mount in zip(paths, self._mounts, strict=True):
            self._server.get_mount_points().add_factory(f"/{path}", mount.factory)
        try:
            self._listening = self._server.create_source(None)
        except self._gst.GLib.Error as error:
            raise SinkError(
                f"to listen at {address.host}, port {address.port}, for the RTSP stream",
                f"an error ({error.message})",
                "Name another port, or an address of this machine",
            ) from error
        self._listening.attach(self._context)
        self.address = replace(address, port=int(self._server.get_bound_port()))
        self.urls = tuple(replace(self.address, path=path).url for path in paths)
        self._loop = self._gst.GLib.MainLoop(context=self._context)
        self._thread: threading.Thread | None = threading.Thread(
            target=self._loop.run, name="edgedet-rtsp", daemon=True
        )
        self._thread.start()

    def write(self, result: StreamResult) -> bool:
        """Hand a picture to the clients of its source; see ``Sink.write``."""
        index = result.source_index if len(self._mounts) > 1 else 0
        mount = self._mounts[index]
        frame = result.frame
        mount.check_size((frame.width, frame.height))
        if mount.watched:
            mount.push(result.annotated)
        return True

    def close(self) -> None:
        """Let the clients go and give the port back."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ending = self._gst.GLib.idle_source_new()
        ending.set_callback(self._end)
        ending.attach(self._context)
        thread.join(_END_TIMEOUT_S)

    def _end(self, *_: object) -> bool:
        remove = self._gst.GstRtspServer.RTSPFilterResult.REMOVE
        self._server.client_filter(lambda server, client: remove)
        self._listening.destroy()
        self._loop.quit()
        return False

    def _best_encoder(self) -> str:
        for name in _ENCODERS:
            if self._gst.Gst.ElementFactory.find(name) is not None:
                return name
        raise SinkError(
            f"an encoder for RTSP, one of {', '.join(_ENCODERS)}",
            "none",
            "Install the system's package gstreamer1.0-plugins-ugly or gstreamer1.0-plugins-bad",
        )


class _Mount:
    """One path: the pipeline that all its clients share, while there are any.

    Args:
        gst: modules of GStreamer.
        encoder: a key of ``_ENCODERS``.
        fps: what players are told.
    """

    def __init__(self, gst: Any, encoder: str, fps: float) -> None:
        self._gst = gst
        self._rate = f"{round(fps * 1000)}/1000"
        self._step = _STEPS.get(encoder, 2)
        self._size: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._entry: Any = None
        self.factory = gst.GstRtspServer.RTSPMediaFactory(shared=True)
        # The newest picture takes the place of one that the encoder has not taken.
        self.factory.set_launch(
            "( appsrc name=entry is-live=true do-timestamp=true format=time block=false max-buffers=1 "
            f"leaky-type=downstream ! {_ENCODERS[encoder]} name=pay0 )"
        )
        self.factory.connect("media-configure", self._configure)

    @property
    def watched(self) -> bool:
        """Whether there is a client."""
        return self._entry is not None

    def check_size(self, size: tuple[int, int]) -> None:
        """Keep the size of the first picture.

        Raises:
            SinkError: if this one has another, or is too small to be encoded.
        """
        if min(size) < _SMALLEST:
            got = f"{size[0]}x{size[1]}"
            raise SinkError(f"pictures of at least {_SMALLEST}x{_SMALLEST} for RTSP", got, "Leave out the RTSP stream")
        if self._size is None:
            self._size = size
        if size != self._size:
            raise SinkError(
                f"pictures of one size, {self._size[0]}x{self._size[1]}",
                f"{size[0]}x{size[1]}",
                "Leave out the RTSP stream for a source whose size changes",
            )

    def push(self, image: npt.NDArray[np.uint8]) -> None:
        """Hand a BGR picture over."""
        height, width = (size - size % self._step for size in image.shape[:2])
        gst = self._gst.Gst
        with self._lock:
            entry = self._entry
            if entry is None:
                return
            caps = f"video/x-raw,format=BGR,width={width},height={height},framerate={self._rate}"
            entry.set_caps(gst.Caps.from_string(caps))
            rows = np.ascontiguousarray(image[:height, :width])
            entry.push_buffer(gst.Buffer.new_wrapped(_padded(rows).tobytes()))

    def _configure(self, _: object, media: Any) -> None:
        """Take the new pipeline's entry; from the server's thread."""
        with self._lock:
            self._entry = media.get_element().get_child_by_name("entry")
        media.connect("unprepared", self._forget)

    def _forget(self, media: Any) -> None:
        with self._lock:
            if self._entry is not None and self._entry == media.get_element().get_child_by_name("entry"):
                self._entry = None


def _padded(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Bring rows to the distance that GStreamer takes them to have, a multiple of four bytes."""
    height, width = image.shape[:2]
    rows = image.reshape(height, 3 * width)
    return np.pad(rows, ((0, 0), (0, -3 * width % 4)))


def _in_path(name: str) -> str:
    """Make a name of what may stand in a path."""
    return re.sub(r"[^\w.~-]+", "_", name, flags=re.ASCII) or "source"
