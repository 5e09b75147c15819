"""An hour of four cameras at 30 frames a second, as fast as the machine can, with everything going wrong at random.

432,000 frames go through a real stream: leased buffers, batches of four, tracking, sinks. Sources die and fail to open
again, frames are damaged or lost, one sink is slow, one raises, whoever is told about events raises too, and the caller
keeps some results. The sinks are closed and opened anew fifty times. Resident memory, open files and threads are
sampled each time; after a warm-up, in which pools and caches fill, memory must stay within 2 % of its median (it varies
with the pictures on their way), and the others are at the end what they were at the start.

It runs itself with MALLOC_ARENA_MAX=2, as a program that runs for months should: threads come and go here, and without
it glibc keeps what they freed in ever more heaps. ``in use`` is what was not freed, and must be flat either way.

    python benchmarks/soak.py --json soak.json
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from report import environment, resident_mb, show, write_report
from rich.table import Table
from small_network import small_network

import edgedet
from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.sinks import CallbackSink, JsonLinesSink, SinkRunner
from edgedet.runtime.stream import Origin, Recovery, SourceEvent, Statistics, Stream, StreamResult
from edgedet.runtime.tracking import Tracking

SOURCES = 4
FPS = 30
SAMPLES = 50
BUFFERS = 4
MEMORY_SHARE = 0.02
WIDTH, HEIGHT = 320, 180

_ARENAS = "MALLOC_ARENA_MAX"
_MALLINFO = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)

Image = npt.NDArray[np.uint8]


def main() -> None:
    """Run, print a table, and fail where something leaked or was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--frames", type=int, default=3600 * FPS * SOURCES, help="of all sources")
    parser.add_argument("--warm-up", type=int, default=40_000, help="frames before memory must be flat")
    parser.add_argument("--seed", type=int, default=0, help="what goes wrong follows from it")
    arguments = parser.parse_args()
    if _ARENAS not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, _ARENAS: "2"})  # noqa: S606  # itself
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "network.onnx"
        onnx.save(small_network(SOURCES), model)
        soak = Soak(model, Path(name), arguments.frames // SOURCES, arguments.seed)
        figures = soak.run(arguments.warm_up / arguments.frames)
    figures["seconds"] = round(time.perf_counter() - start, 1)
    faults = [name for name, fine in figures["fine"].items() if not fine]
    table = Table(title=f"{figures['results']} results; {'nothing leaked' if not faults else ', '.join(faults)}")
    table.add_column("")
    table.add_column("value", justify="right")
    for key, value in figures.items():
        if not isinstance(value, (dict, list)):
            table.add_row(key, str(value))
    for key in ("injected", "drops"):
        for name, count in figures[key].items():
            table.add_row(f"{key}: {name}", str(count))
    show(table)
    write_report(arguments.json, {"environment": environment(len(os.sched_getaffinity(0))), **figures})
    sys.exit(1 if faults else 0)


class Soak:
    """The run.

    Args:
        model: a network for ``SOURCES`` pictures.
        folder: for what sinks write.
        frames: of each source.
        seed: of everything that goes wrong.
    """

    def __init__(self, model: Path, folder: Path, frames: int, seed: int) -> None:
        self._model, self._folder = model, folder
        self.injected: Counter[str] = Counter()
        self._cameras = [Camera(f"camera {index}", frames, seed + index, self.injected) for index in range(SOURCES)]
        self._chance = random.Random(seed)  # noqa: S311  # chance, not secrets
        self._told = itertools.count()
        self._kept: deque[StreamResult] = deque(maxlen=8)
        self._samples: list[tuple[float, float, int, int]] = []

    def run(self, warm_up: float) -> dict[str, Any]:
        """Run and return the figures; those under ``fine`` must be true.

        Args:
            warm_up: share of the run before memory must be flat.
        """
        with edgedet.load(self._model, threads=1) as detector:
            before = _open_files(), threading.active_count()
            origins = [Origin(camera.connect(), camera.reconnect) for camera in self._cameras]
            recovery = Recovery(backoff_s=(0,), on_event=self._on_event)
            with edgedet.open_stream(
                detector, origins, policy="every", tracking=Tracking(), recovery=recovery
            ) as stream:
                self._consume(stream)
                statistics = stream.statistics
            self._kept.clear()
            after = _open_files(), threading.active_count()
        return self._figures(statistics, before, after, warm_up)

    def _consume(self, stream: Stream) -> None:
        step = max(1, sum(camera.total for camera in self._cameras) // SAMPLES)
        results = iter(stream)
        ended = False
        while not ended:
            ended = self._leg(results, step)
            if not ended:
                self._samples.append((resident_mb(), _in_use_mb(), _open_files(), threading.active_count()))

    def _leg(self, results: Any, step: int) -> bool:
        """Hand results to sinks of their own; tells whether there are no more."""
        lines = self._folder / "results.jsonl"
        sinks = [
            JsonLinesSink(lines),
            CallbackSink(self._slowly, delivery="newest"),
            CallbackSink(self._until_it_fails, delivery="newest"),
            CallbackSink(self._unreliable, delivery="caller"),
        ]
        written = 0
        with SinkRunner(sinks, live=False) as runner:
            for result in itertools.islice(results, step):
                if self._chance.random() < 0.05:
                    self._kept.append(result)
                if not runner.write(result):
                    raise RuntimeError("the sinks that work have ended")
                written += 1
        if written:
            with lines.open() as file:
                self.injected["results missing in a file"] += written - sum(1 for _ in file)
            lines.unlink()
        self.injected["sinks that failed"] += len(runner.errors)
        return written < step

    def _slowly(self, result: StreamResult) -> None:
        time.sleep(0.005)

    def _until_it_fails(self, result: StreamResult) -> None:
        if self._chance.random() < 0.02:
            raise ZeroDivisionError("a mistake in a callback")

    def _unreliable(self, result: StreamResult) -> None:
        if result.frame.sequence % 997 == 0:
            raise KeyError("a mistake in the caller's own thread")

    def _on_event(self, event: SourceEvent) -> None:
        self.injected[f"events: {event.kind}"] += 1
        if next(self._told) % 3 == 0:
            self.injected["exceptions in on_event"] += 1
            raise ZeroDivisionError("a mistake in whoever is told")

    def _figures(
        self, statistics: Statistics, before: tuple[int, int], after: tuple[int, int], warm_up: float
    ) -> dict[str, Any]:
        memory, in_use, files, threads = (np.array(each) for each in zip(*self._samples, strict=True))
        steady, steady_use = (each[round(len(each) * warm_up) :] for each in (memory, in_use))
        middle = float(np.median(steady))
        moved = float(np.abs(steady / middle - 1).max())
        grown = _growth(steady_use)
        delivered = sum(camera.delivered for camera in self._cameras)
        damaged = self.injected["damaged frames"]
        held = sum(camera.held for camera in self._cameras)
        return {
            "results": statistics.frames,
            "fps": round(statistics.fps, 1),
            "memory_mb": round(middle, 1),
            "memory_off_median_share": round(moved, 4),
            "memory_highest_over_lowest": round(float(steady.max() / steady.min()), 4),
            "memory_grown_share": round(_growth(steady), 4),
            "in_use_mb": round(float(np.median(steady_use)), 1),
            "in_use_grown_share": round(grown, 4),
            "open_files_before_and_after": [before[0], after[0]],
            "threads_before_and_after": [before[1], after[1]],
            "most_open_files": int(files.max()),
            "most_threads": int(threads.max()),
            "buffers_still_held": held,
            "restarts": sum(source.restarts for source in statistics.sources),
            "injected": dict(sorted(self.injected.items())),
            "drops": statistics.drops.by_cause(),
            "samples_mb": [round(float(value), 1) for value in memory],
            "in_use_samples_mb": [round(float(value), 1) for value in in_use],
            "fine": {
                "memory": moved <= MEMORY_SHARE,
                "memory in use": grown <= MEMORY_SHARE,
                "open files": before[0] == after[0],
                "threads": before[1] == after[1],
                "buffers": held == 0,
                "every frame has a result": statistics.frames == delivered - damaged,
                "every result is in a file": self.injected["results missing in a file"] == 0,
            },
        }


class Camera:
    """A camera with a few buffers, whose frames come as fast as buffers are free; frame n is taken at n / 30 s.

    Args:
        name: of the source.
        total: frames until it ends.
        seed: of what goes wrong.
        injected: is counted up.
    """

    def __init__(self, name: str, total: int, seed: int, injected: Counter[str]) -> None:
        self.name, self.total = name, total
        self.number = self.delivered = 0
        self.chance = random.Random(seed)  # noqa: S311  # chance, not secrets
        self.injected = injected
        random_pictures = np.random.default_rng(seed)
        self.pictures = random_pictures.integers(0, 256, (7, HEIGHT, WIDTH, 3), np.uint8)
        self._connections = 0
        self._open: list[Connection] = []

    @property
    def held(self) -> int:
        """Buffers that have not come back, of all connections that there were."""
        return sum(each.held for each in self._open)

    def connect(self) -> Connection:
        """Open it."""
        connection = Connection(self)
        self._open = [each for each in self._open if each.held] + [connection]
        return connection

    def reconnect(self) -> Connection:
        """Open it again, which fails at times."""
        if self.chance.random() < 0.3:
            self.injected["openings that failed"] += 1
            raise self.chance.choice([SourceError("a camera", "none", "Wait"), OSError(19, "No such device")])
        return self.connect()


class Connection:
    """A source: the camera while it is plugged in."""

    live = True
    moving = True
    frame_count = None
    fps: float | None = float(FPS)

    def __init__(self, camera: Camera) -> None:
        self.name = self.stem = camera.name
        self._camera = camera
        self._free = threading.Semaphore(BUFFERS)
        self._buffers: deque[Image] = deque(np.empty((HEIGHT, WIDTH, 3), np.uint8) for _ in range(BUFFERS))
        # A device has a file, which a leak would leave open.
        self._device = os.open("/dev/null", os.O_RDONLY)

    @property
    def held(self) -> int:
        """Buffers that have not come back."""
        return BUFFERS - len(self._buffers)

    def read(self) -> Frame | None:
        """Return the next frame; see ``Source.read``."""
        camera = self._camera
        lost = 0
        if camera.chance.random() < 0.001:
            camera.injected["deaths"] += 1
            raise camera.chance.choice([SourceError("a frame", "none", "Wait"), OSError(5, "I/O"), RuntimeError("odd")])
        if camera.chance.random() < 0.01:
            lost = camera.chance.randrange(1, 5)
            camera.injected["frames lost by the camera"] += lost
        if camera.number + lost >= camera.total:
            return None
        if not self._free.acquire(timeout=30):
            raise SourceError("a free buffer within 30 seconds", "none: leases leak", "Mend the stream")
        number = camera.number + lost
        camera.number = number + 1
        camera.delivered += 1
        buffer = self._buffers.popleft()
        buffer[...] = camera.pictures[number % len(camera.pictures)]
        lease = Lease(lambda _: self._take_back(buffer))
        picture = buffer
        if camera.chance.random() < 0.001:
            camera.injected["damaged frames"] += 1
            picture = buffer[..., :1]
        return Frame((picture,), number, round(number * 1e9 / FPS), self.name, lost, lease=lease)

    def close(self) -> None:
        """Close the device; see ``Source.close``."""
        device, self._device = self._device, -1
        if device >= 0:
            os.close(device)

    def _take_back(self, buffer: Image) -> None:
        self._buffers.append(buffer)
        self._free.release()


def _growth(samples: npt.NDArray[np.float64]) -> float:
    """Return the mean of the last third over that of the first, less 1."""
    third = max(1, len(samples) // 3)
    return float(samples[-third:].mean() / samples[:third].mean() - 1)


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33 and later."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO)


def _in_use_mb() -> float:
    """Return what the process has allocated and not freed; what is resident where the C library cannot tell."""
    gc.collect()  # what waits for the collector is not lost
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return resident_mb()
    library.mallinfo2.restype = _MallocInfo
    info = library.mallinfo2()
    return float(info.uordblks + info.hblkhd) / 1e6


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


if __name__ == "__main__":
    main()
