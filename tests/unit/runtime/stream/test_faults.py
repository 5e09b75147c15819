"""Streams whose sources die at random, whose frames are damaged, and whose callbacks raise."""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict

import numpy as np
import pytest
import videos
from stream_sources import ArraySource

from edgedet.errors import SourceError
from edgedet.runtime.capture import Frame
from edgedet.runtime.detector import Detector
from edgedet.runtime.stream import Origin, Recovery, Stream


class Shaky:
    """A camera that counts on over its restarts, fails where chance has it, and ends after ``total`` frames."""

    def __init__(self, name: str, total: int, seed: int) -> None:
        self.name = name
        self.total = total
        self.chance = random.Random(seed)
        self.numbers = itertools.count()
        self.delivered: list[int] = []
        self.lost: list[int] = []
        self.open = 0

    def connect(self) -> ShakyConnection:
        if self.chance.random() < 0.3:
            raise self.chance.choice([SourceError("a camera", "none", "Wait"), OSError(19, "No such device")])
        return ShakyConnection(self)


class ShakyConnection(ArraySource):
    def __init__(self, camera: Shaky) -> None:
        super().__init__(0, name=camera.name, live=True)
        self.frame_count = None
        self.camera = camera
        camera.open += 1
        assert camera.open == 1, "one connection at a time"

    def read(self) -> Frame | None:
        camera = self.camera
        if len(camera.delivered) + len(camera.lost) >= camera.total:
            return None
        if camera.chance.random() < 0.1:
            raise camera.chance.choice([SourceError("a frame", "none", "Wait"), OSError(5, "I/O"), RuntimeError("odd")])
        number = next(camera.numbers)
        image = videos.numbered_frame(number)
        if camera.chance.random() < 0.1:
            camera.lost.append(number)
            image = image[..., :1]
        else:
            camera.delivered.append(number)
        return Frame((image,), number, number, self.name)

    def close(self) -> None:
        if not self.closed:
            self.camera.open -= 1
        super().close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("in_flight", "batch"), [(1, 1), (3, "auto")])
def test_whatever_fails_the_rest_arrives(detector: Detector, seed, in_flight, batch):
    cameras = [Shaky(name, 40, 10 * seed + number) for number, name in enumerate("abc")]
    told = itertools.count()

    def on_event(event: object) -> None:
        if next(told) % 3 == 0:
            raise ZeroDivisionError("the caller's own mistake")

    origins = [Origin(ShakyConnection(camera), camera.connect) for camera in cameras]
    recovery = Recovery(backoff_s=(0,), on_event=on_event)
    seen = defaultdict(list)
    with Stream(detector, origins, policy="every", in_flight=in_flight, batch=batch, recovery=recovery) as stream:
        for result in stream:
            seen[result.source_name].append(result)
    statistics = {each.name: each for each in stream.statistics.sources}
    for camera in cameras:
        mine = seen[camera.name]
        assert [result.frame.sequence for result in mine] == camera.delivered
        for result in mine:
            assert np.array_equal(result.frame.image, videos.numbered_frame(result.frame.sequence))
        assert statistics[camera.name].drops.unreadable == len(camera.lost)
        after = [number for number in camera.lost if number > camera.delivered[-1]]
        assert sum(result.dropped for result in mine) == len(camera.lost) - len(after)
        assert camera.open == 0 and statistics[camera.name].state == "ended"


@pytest.mark.parametrize("stage", ["preprocess", "infer", "postprocess"])
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 7])
def test_an_error_in_any_stage_ends_everything(detector: Detector, monkeypatch, stage, error, at):
    real, calls = getattr(detector, stage), itertools.count()

    def fail(*arguments: object) -> object:
        if next(calls) == at:
            raise error("broken")
        return real(*arguments)

    monkeypatch.setattr(detector, stage, fail)
    source = ArraySource(10**9)
    seen = []
    with pytest.raises(error, match="broken"):
        seen.extend(result.frame.sequence for result in Stream(detector, source, in_flight=1))
    assert seen == list(range(at)) and source.closed


def test_queues_are_bounded_whatever_waits(detector: Detector):
    """Nobody takes a result: all sources come to a halt after as many frames as the queues hold."""
    sources = [ArraySource(10**9, name=str(number)) for number in range(3)]
    halted = threading.Event()
    with Stream(detector, sources, in_flight=2, batch=1) as stream:
        next(stream)
        before = [-1] * 3
        while [source.reads for source in sources] != before:
            before = [source.reads for source in sources]
            halted.wait(0.1)
        # Two wait behind each source and its thread holds one; then one is prepared, one waits, two are inferred or
        # wait for it, two have answers, and one was taken.
        assert sum(before) <= 3 * (2 + 1) + 1 + 1 + 2 + 2 + 1
        assert max(source.most_alive for source in sources) <= 16
