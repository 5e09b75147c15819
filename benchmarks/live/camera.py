"""A network camera whose pictures say when they were taken: MJPEG over HTTP at 30 frames a second.

    python benchmarks/live/camera.py

prints its address and the monotonic time of frame 0 as JSON, and serves whoever asks. The number of a frame is written
in its picture, in blocks of black and white, so that whoever shows a result can tell how old it is, whichever way it
came. Like a real camera it leaves out frames that the connection has no room for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.append(str(Path(__file__).parents[1]))

from scene import picture

__all__ = ["FPS", "HEIGHT", "WIDTH", "age_ms", "pictures"]

WIDTH, HEIGHT, FPS = 640, 480, 30
_BITS, _BLOCK, _SPEED = 10, 32, 3
_CYCLE = 1 << _BITS

Image = npt.NDArray[np.uint8]


def pictures(count: int) -> Iterator[Image]:
    """Yield frames: a scene that moves to the right, and the frame's number modulo 1024 in the first row of blocks."""
    scene = picture(WIDTH, HEIGHT)
    for number in range(count):
        image = np.roll(scene, _SPEED * number, axis=1)
        for bit in range(_BITS):
            image[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 * (number >> bit & 1)
        yield image


def age_ms(image: Image, start: float) -> float:
    """Return milliseconds since a picture was taken, at most 34 seconds.

    Args:
        image: as it was decoded.
        start: monotonic time of frame 0.
    """
    now = time.monotonic()
    middle = image[_BLOCK // 2, _BLOCK // 2 : _BITS * _BLOCK : _BLOCK, 1] > 127
    number = int((middle * (1 << np.arange(_BITS))).sum())
    newest = int((now - start) * FPS)
    taken = newest - (newest - number) % _CYCLE
    return (now - start - taken / FPS) * 1e3


class _Camera(BaseHTTPRequestHandler):
    jpegs: tuple[bytes, ...] = ()
    start = 0.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = int((time.monotonic() - self.start) * FPS) + 1
        try:
            while True:
                time.sleep(max(0.0, self.start + number / FPS - time.monotonic()))
                data = self.jpegs[number % _CYCLE]
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                number = max(number + 1, int((time.monotonic() - self.start) * FPS))
        except OSError:
            pass  # the viewer has gone

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        pass


def main() -> None:
    """Serve until the process is ended."""
    _Camera.jpegs = tuple(cv2.imencode(".jpg", image)[1].tobytes() for image in pictures(_CYCLE))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        _Camera.start = time.monotonic()
        address = f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg"
        print(json.dumps({"address": address, "start": _Camera.start}), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
