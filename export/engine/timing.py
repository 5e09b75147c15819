"""Two engines of one model against each other on the GPU: whether the lower precision is worth having.

Explicit INT8 can be slower than FP16 where Q/DQ break fusions or the network is small. Both engines run in turns, so
that clocks that rise and fall meet both alike, and the medians are compared. Runs are replayed as CUDA graphs where
driver and engine can, as they are in use; time is taken between two events on the stream, without copies.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.export.engine.process import OnProgress
from edgedet.runtime.engines.tensorrt import TensorRTEngine

if TYPE_CHECKING:
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["PAYS", "ROUNDS", "Clock", "SpeedComparison", "compare_speed", "time_on_stream"]

Clock = Callable[["Stream", Callable[[], None]], float]
"""Queues work on a stream by calling a function, waits for it, and returns how long it took, in milliseconds."""

PAYS = 1.03
"""How many times as fast a lower precision must be to be worth its loss of accuracy."""

ROUNDS = 200
_WARM_UP = 20

_NAMES = {"float32": "FP32", "float16": "FP16", "int8": "INT8", "int8+float16": "INT8 with FP16"}


@dataclass(frozen=True)
class SpeedComparison:
    """How long a run of two engines takes.

    Attributes:
        precision: of the engine that is judged, as a ModelSpec names it.
        milliseconds: median of its runs.
        other: precision of the engine that it is held against.
        other_milliseconds: median of that one's runs.
        rounds: runs of each.
    """

    precision: str
    milliseconds: float
    other: str
    other_milliseconds: float
    rounds: int

    @property
    def speedup(self) -> float:
        """How many times as fast the engine is as the other one."""
        return self.other_milliseconds / self.milliseconds

    @property
    def pays(self) -> bool:
        """Whether that is worth it."""
        return self.speedup >= PAYS

    def verdict(self) -> str:
        """Return one line that says whether the precision pays."""
        mine, other = (_NAMES.get(name, name) for name in (self.precision, self.other))
        times = f"{self.milliseconds:.3f} and {self.other_milliseconds:.3f} ms"
        if self.pays:
            return f"{mine} is {self.speedup:.2f}x as fast as {other} ({times})"
        return f"{mine} does not pay here, at {self.speedup:.2f}x the speed of {other} ({times}): keep {other}"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {
            "precision": self.precision,
            "milliseconds": round(self.milliseconds, 4),
            "other": self.other,
            "other_milliseconds": round(self.other_milliseconds, 4),
            "speedup": round(self.speedup, 4),
            "pays": self.pays,
            "rounds": self.rounds,
            "verdict": self.verdict(),
        }


def time_on_stream(stream: Stream, queue: Callable[[], None]) -> float:
    """Measure with CUDA events (see `Clock`)."""
    first, last = (stream.device.event(timing=True) for _ in range(2))
    try:
        stream.record(first)
        queue()
        stream.record(last)
        last.synchronize()
        return first.elapsed_ms(last)
    finally:
        first.close()
        last.close()


def compare_speed(
    engine: TensorRTEngine,
    other: TensorRTEngine,
    *,
    rounds: int = ROUNDS,
    clock: Clock = time_on_stream,
    on_progress: OnProgress | None = None,
) -> SpeedComparison:
    """Run two engines in turns, at the shapes that they were built to be fastest at.

    Args:
        engine: the one to judge.
        other: the one to hold it against, of the same model in another precision.
        rounds: runs of each that count.
        clock: takes the time.
        on_progress: told how many of the rounds are done.

    Raises:
        EngineError: if one of them fails.
    """
    times: tuple[list[float], list[float]] = ([], [])
    with _runner(engine, clock) as first, _runner(other, clock) as second:
        for done in range(rounds):
            times[0].append(first())
            times[1].append(second())
            if on_progress is not None:
                on_progress("Time both engines", done + 1, rounds)
    medians = [statistics.median(found) for found in times]
    return SpeedComparison(_precision(engine), medians[0], _precision(other), medians[1], rounds)


@contextmanager
def _runner(engine: TensorRTEngine, clock: Clock) -> Iterator[Callable[[], float]]:
    """Yield what runs an engine once and returns the milliseconds that it took."""
    stream = engine.device.stream()
    worker = engine.worker(stream, {spec.name: _shape(engine, spec.name, spec.shape) for spec in engine.inputs})
    graph = None
    try:
        random = np.random.default_rng(0)
        for buffer in worker.inputs.values():
            stream.upload(buffer, random.random(buffer.shape).astype(buffer.dtype))
        for _ in range(_WARM_UP):
            worker.enqueue()
        stream.synchronize()
        if worker.capturable and engine.device.driver.has_graphs:
            graph = stream.capture(worker.enqueue)
        captured = graph
        queue = worker.enqueue if captured is None else lambda: stream.run(captured)
        yield lambda: clock(stream, queue)
    finally:
        stream.synchronize()
        if graph is not None:
            graph.close()
        worker.close()
        stream.close()


def _shape(engine: TensorRTEngine, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return engine.profile(name)[1] if any(size < 1 for size in shape) else shape


def _precision(engine: TensorRTEngine) -> str:
    return str((engine.manifest.spec or {}).get("precision", "float32"))
