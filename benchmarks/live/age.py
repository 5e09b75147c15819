"""How old results are when the model is slower than the camera, by different ways from camera to result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from camera import FPS, age_ms
from contestants import Ultralytics

import edgedet

__all__ = ["WAYS", "measure"]

_WARM_UP = 10

Ages = Iterator[dict[str, float]]


def measure(way: str, model: Path, address: str, start: float, threads: int) -> Callable[[int], dict[str, Any]]:
    """Return what runs so many frames one way, and tells how old the results were.

    Args:
        way: one of ``WAYS``.
        model: the network.
        address: of the camera.
        start: monotonic time of its frame 0.
        threads: of the engine.
    """
    play = WAYS[way](model, threads)

    def turn(frames: int) -> dict[str, Any]:
        rows: list[dict[str, float]] = []
        results = play(address, start)
        for index, row in enumerate(results):
            if index >= _WARM_UP:
                rows.append(row)
            if len(rows) == frames:
                break
        results.close()  # type: ignore[attr-defined]  # a generator: closes what it opened
        return {name: [round(row[name], 2) for row in rows] for name in rows[0]}

    return turn


def _edgedet(model: Path, threads: int) -> Callable[[str, float], Ages]:
    """Open_stream with its defaults; ``over`` is the age beyond one frame time and the result's own stages."""

    def play(address: str, start: float) -> Ages:
        with edgedet.open_stream(model, address) as stream:
            for result in stream:
                spent = result.latencies
                assert result.age_ms is not None
                own = spent.preprocess + spent.infer + spent.postprocess
                yield {
                    "glass_ms": age_ms(result.frame.image, start),
                    "age_ms": result.age_ms,
                    "engine_ms": spent.infer,
                    "share_of_bound": result.age_ms / (1e3 / FPS + own),
                    "share_of_engine_bound": result.age_ms / (1e3 / FPS + spent.infer),
                }

    return play


def _opencv_loop(model: Path, threads: int) -> Callable[[str, float], Ages]:
    """``cv2.VideoCapture`` read in a loop, as tutorials have it."""
    detector = Ultralytics(model, threads)

    def play(address: str, start: float) -> Ages:
        capture = cv2.VideoCapture(address)
        try:
            while True:
                arrived, image = capture.read()
                if not arrived:
                    return
                run = detector.detect(np.asarray(image, np.uint8))
                yield {"glass_ms": age_ms(image, start), "engine_ms": run.infer}
        finally:
            capture.release()

    return play


def _ultralytics(model: Path, threads: int) -> Callable[[str, float], Ages]:
    """``YOLO.predict(address, stream=True)``, which reads in a thread of its own and keeps the newest frame."""
    detector = Ultralytics(model, threads)

    def play(address: str, start: float) -> Ages:
        for result in detector.yolo.predict(address, stream=True, **detector.settings):
            yield {"glass_ms": age_ms(result.orig_img, start), "engine_ms": result.speed["inference"]}
        return

    return play


WAYS: dict[str, Callable[[Path, int], Callable[[str, float], Ages]]] = {
    "edgedet": _edgedet,
    "ultralytics stream": _ultralytics,
    "VideoCapture + ultralytics": _opencv_loop,
}
"""Name -> what makes a player, which yields a row of milliseconds a result."""
