"""Frames a second of four sources through one engine, and of the engine alone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from contestants import CONTESTANTS, Edgedet

import edgedet

__all__ = ["RUNNERS", "measure"]

RUNNERS = ("onnxruntime", "engine", "edgedet", "ultralytics", "supervision")
"""ONNX Runtime with its defaults and edgedet's engine on a prepared tensor; then four videos to results."""


def measure(runner: str, model: Path, videos: Sequence[str], threads: int) -> Callable[[int], dict[str, float]]:
    """Return what runs so many frames, and tells frames a second and milliseconds of processor a frame."""
    work = _work(runner, model, videos, threads)

    def turn(frames: int) -> dict[str, float]:
        processor = sum(os.times()[:2])
        start = time.perf_counter()
        work(frames)
        elapsed = time.perf_counter() - start
        return {"fps": frames / elapsed, "processor_ms": (sum(os.times()[:2]) - processor) * 1e3 / frames}

    return turn


def _work(runner: str, model: Path, videos: Sequence[str], threads: int) -> Callable[[int], None]:
    if runner == "edgedet":
        return lambda frames: _stream(model, videos, frames)
    if runner in ("onnxruntime", "engine"):
        alone = Edgedet(model, threads) if runner == "engine" else CONTESTANTS[runner](model, threads)
        return lambda frames: [alone.engine() for _ in range(frames)] and None
    detector = CONTESTANTS[runner](model, threads)

    def loop(frames: int) -> None:
        """Read the videos in turn, one picture after the other, as tutorials have it."""
        captures = [cv2.VideoCapture(video) for video in videos]
        for capture in itertools.islice(itertools.cycle(captures), frames):
            arrived, image = capture.read()
            assert arrived
            detector.detect(np.asarray(image, np.uint8))
        for capture in captures:
            capture.release()

    return loop


def _stream(model: Path, videos: Sequence[str], frames: int) -> None:
    with edgedet.open_stream(model, list(videos)) as stream:
        for _ in itertools.islice(stream, frames):
            pass
