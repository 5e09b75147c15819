"""What the web page costs: processor time of a sink at 30 frames a second, with and without somebody who looks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from camera import pictures

from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.sinks import SinkRunner
from edgedet.runtime.sinks.web import Address, WebSink
from edgedet.runtime.stream import Latencies, StreamResult

__all__ = ["measure"]

_FPS = 30
_WAIT_S = 20.0
_VIEWER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as page:
    while page.read(65536):
        pass
"""


def measure() -> Callable[[int], dict[str, float]]:
    """Return what shows so many frames to one viewer, then to none, and tells the share of a core that each takes."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 400, (10, 2))
    found = Detections(
        np.concatenate([corner, corner + 60], axis=1).astype(np.float32),
        np.linspace(0.9, 0.3, 10, dtype=np.float32),
        np.arange(10),
        tuple(f"class {index}" for index in range(10)),
    )
    images = list(pictures(30))

    def turn(frames: int) -> dict[str, float]:
        sink = WebSink(Address(port=0))
        with SinkRunner([sink], live=True) as runner:
            command = [sys.executable, "-c", _VIEWER, f"{sink.address.url}stream?side=960&source=0"]
            viewer = subprocess.Popen(command)
            try:
                deadline = time.monotonic() + _WAIT_S
                while not sink.viewers and time.monotonic() < deadline:
                    time.sleep(0.01)
                if not sink.viewers:
                    raise RuntimeError("nobody could see the page")
                seen = show(runner, frames)
            finally:
                viewer.kill()
                viewer.wait()
            while sink.viewers and time.monotonic() < deadline:
                show(runner, 1)
            unseen = show(runner, frames)
        return {"with_viewer": seen, "without": unseen, "page": seen - unseen}

    def show(runner: SinkRunner, frames: int) -> float:
        """Hand over frames at the camera's rate; returns processor seconds a second."""
        start, processor = time.monotonic(), time.process_time()
        for number in range(frames):
            time.sleep(max(0.0, start + number / _FPS - time.monotonic()))
            frame = Frame((images[number % 30],), number, time.monotonic_ns(), "camera")
            runner.write(StreamResult(frame, found, Latencies(), 0, 0, "camera", 5.0))
        time.sleep(max(0.0, start + frames / _FPS - time.monotonic()))
        return (time.process_time() - processor) / (time.monotonic() - start)

    return turn
