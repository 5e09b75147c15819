"""A network camera on this machine: JPEG pictures over HTTP, one after the other (multipart/x-mixed-replace)."""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import threading
from collections.abc import Callable, Iterator

import cv2
import videos

__all__ = ["CameraHandler", "FileHandler", "camera", "serving"]

PAUSE_S = 0.01


class QuietServer(http.server.ThreadingHTTPServer):
    """Says nothing of clients that go away, and does not wait for those that stay."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args: object) -> None:
        pass


class FileHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *args: object) -> None:
        pass


class CameraHandler(http.server.BaseHTTPRequestHandler):
    """Pictures without an end, or with one after ``frames`` of each answer; none while ``stalled`` is set."""

    frames: int | None = None
    numbers = itertools.count()
    stalled = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        pause = threading.Event()
        with contextlib.suppress(OSError):
            for sent in itertools.count():
                if self.frames is not None and sent >= self.frames:
                    return
                while self.stalled.is_set():
                    pause.wait(PAUSE_S)
                data = cv2.imencode(".jpg", videos.numbered_frame(next(self.numbers)))[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                pause.wait(PAUSE_S)

    def log_message(self, *args: object) -> None:
        pass


def camera(frames: int | None = None) -> type[CameraHandler]:
    """A camera with numbers of its own."""
    members = {"frames": frames, "numbers": itertools.count(), "stalled": threading.Event()}
    return type("Camera", (CameraHandler,), members)


@contextlib.contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """Serve at 127.0.0.1; yields host and port."""
    with QuietServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
