"""Time of a run on a CPU: both networks take turns on one picture, so that whatever else runs slows down both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from edgedet import machine
from edgedet.export.quantisation.feeding import detector_on
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

__all__ = ["Latency", "measure_latency"]

SECONDS = 4.0
"""How long the turns may take; three are made however long."""

MOST_TURNS = 50
FEWEST_TURNS = 3
THREADS = 1
CROPS = 32
"""Regions of a picture, for networks that are given crops: both get the same ones, and thousands would take minutes."""


@dataclass(frozen=True)
class Latency:
    """Processor time of one run of each network, pre- and post-processing left out.

    Attributes:
        float_ms: median in milliseconds.
        quantised_ms: likewise.
        turns: how often each was run after a first run that does not count.
        threads: of one run.
        engine: name and version of the engine.
        processor: what it ran on.
    """

    float_ms: float
    quantised_ms: float
    turns: int
    threads: int
    engine: str
    processor: str

    @property
    def speedup(self) -> float:
        """How many times as fast the quantised network is."""
        return self.float_ms / self.quantised_ms if self.quantised_ms else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {
            "float_ms": round(self.float_ms, 3),
            "quantised_ms": round(self.quantised_ms, 3),
            "speedup": round(self.speedup, 3),
            "turns": self.turns,
            "threads": self.threads,
            "engine": self.engine,
            "processor": self.processor,
        }


def measure_latency(
    spec: ModelSpec,
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    picture: Path,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> Latency:
    """Run two networks on one picture in turns, as the runtime runs them, on one thread.

    Args:
        spec: how both are fed and read.
        before: the float network.
        after: the quantised network.
        picture: a picture file.
        tell: told how many turns are done, and how many there are at most.

    Raises:
        ModelFileError: if ONNX Runtime cannot load one of them.
        EngineError: if it cannot run one of them.
    """
    image = read_image(picture)
    with _detector(spec, before) as first, _detector(spec, after) as second:
        networks = [(detector, detector.preprocess([image])) for detector in (first, second)]
        times: list[list[float]] = [[], []]
        for detector, prepared in networks:
            detector.infer(prepared)
        end = time.perf_counter() + SECONDS
        for turn in range(MOST_TURNS):
            for (detector, prepared), spent in zip(networks, times, strict=True):
                # With one thread a run stays on this one, and what other processes do is left out.
                start = time.thread_time()
                detector.infer(prepared)
                spent.append(time.thread_time() - start)
            tell(turn + 1, MOST_TURNS)
            if turn + 1 >= FEWEST_TURNS and time.perf_counter() > end:
                break
    tell(MOST_TURNS, MOST_TURNS)
    return Latency(
        float_ms=1e3 * statistics.median(times[0]),
        quantised_ms=1e3 * statistics.median(times[1]),
        turns=len(times[0]),
        threads=THREADS,
        engine=f"ONNX Runtime {onnxruntime.__version__}",
        processor=machine.cpu(Path("/")).model,
    )


def _detector(spec: ModelSpec, model: onnx.ModelProto) -> Detector[Any]:
    engine = OnnxRuntimeEngine(model.SerializeToString(), threads=THREADS)
    engine.select_outputs([output.name for output in spec.outputs])
    return detector_on(spec, engine, most_crops=CROPS)
