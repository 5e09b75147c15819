from __future__ import annotations

import dataclasses
import itertools
import logging

import numpy as np
import pytest
from stream_sources import Until

from edgedet.errors import SpecError
from edgedet.runtime.stream import Ages, Drops, Latencies, SourceStatistics, Statistics
from edgedet.runtime.stream.statistics_log import StatisticsLog, statistics_line


def statistics(frames: int, drops: Drops | None = None, ages: list[float] | None = None, **states: str) -> Statistics:
    drops = drops or Drops()
    age = Ages(np.array(ages or []), len(ages or []), sum(ages or []))
    sources = tuple(SourceStatistics(name, frames, 0, drops, age, state, 0) for name, state in states.items())
    return Statistics(frames, drops.total, 1.0, Latencies(), drops, age, sources)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (statistics(140, Drops(queue=3)), "4.0 results per second, 140 in all"),
        (statistics(100, Drops(queue=3)), "0.0 results per second, 100 in all"),
        (
            statistics(400, Drops(queue=3), [each / 10 for each in range(101)]),
            "30.0 results per second, 400 in all; age 5 ms, 95 % below 10 ms, 99 % below 10 ms",
        ),
        (
            statistics(400, Drops(source=5, queue=12)),
            "30.0 results per second, 400 in all; 14 frames dropped (5 source, 9 queue)",
        ),
        (
            statistics(100, Drops(queue=3), gate="down", yard="up", file="ended"),
            "0.0 results per second, 100 in all; down: 'gate'; ended: 'file'",
        ),
    ],
)
def test_a_line(now, expected):
    assert statistics_line(now, statistics(100, Drops(queue=3)), 10) == expected


def test_lines_come_again_and_again_each_since_the_one_before():
    readings = itertools.chain(map(statistics, (0, 10, 10)), itertools.repeat(statistics(30)))
    lines = Until()
    with StatisticsLog(lambda: next(readings), 0.01, lines):
        lines.count(4)
    seen = [str(line) for line in lines.seen]
    assert "10 in all" in seen[0] and seen[1].startswith("0.0 results") and "30 in all" in seen[2]
    assert seen[3].startswith("0.0 results")


def test_by_default_they_go_to_the_log(caplog):
    arrived = Until()
    handler = logging.Handler()
    handler.emit = lambda record: arrived(record.getMessage())
    logger = logging.getLogger("edgedet.runtime.stream")
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, logger.name), StatisticsLog(lambda: statistics(7), 0.01):
        assert arrived.count(1)[0] == "0.0 results per second, 7 in all"
    logger.removeHandler(handler)


def test_a_terminal_that_is_gone_ends_it_quietly():
    tried = Until()

    def write(line: str) -> None:
        tried(line)
        raise BrokenPipeError

    log = StatisticsLog(lambda: statistics(7), 0.01, write)
    tried.count(1)
    log._thread.join(20)
    assert not log._thread.is_alive() and len(tried.seen) == 1
    log.close()


@pytest.mark.parametrize("every_s", [0, -1, float("nan")])
def test_a_time_that_makes_no_sense(every_s):
    with pytest.raises(SpecError, match="more than 0 seconds"):
        StatisticsLog(lambda: statistics(7), every_s)


def test_fields_of_drops_are_named_in_the_line():
    every = Drops(**{field.name: 1 for field in dataclasses.fields(Drops)})
    assert statistics_line(statistics(1, every), statistics(0), 1).endswith(
        "4 frames dropped (1 source, 1 policy, 1 queue, 1 unreadable)"
    )
