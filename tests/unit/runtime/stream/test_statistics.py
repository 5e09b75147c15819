from __future__ import annotations

import math

import numpy as np
import pytest

from edgedet.runtime.capture import Frame
from edgedet.runtime.stream import Latencies, StreamResult
from edgedet.runtime.stream.statistics import AGE_BUCKETS_MS, Ages, Drops
from edgedet.runtime.stream.tally import Tally

PIXELS = np.zeros((2, 2, 3), np.uint8)


def result(index: int = 0, age_ms: float | None = None, spent: float = 1.0) -> StreamResult:
    frame = Frame((PIXELS,), 0, 0, "memory")
    return StreamResult(frame, None, Latencies(*(spent * each for each in (1, 2, 3, 4))), 0, index, "", age_ms)


def test_percentiles_are_those_of_numpy_over_the_recent_results():
    ages = np.random.default_rng(1).gamma(2, 20, 5000)
    tally = Tally(["camera"])
    for age in ages:
        tally.add(result(age_ms=float(age)))
    age = tally.statistics().age
    assert (age.p50, age.p95, age.p99) == pytest.approx(np.percentile(ages[-1024:], (50, 95, 99)))
    assert age.count == 5000 and age.total_ms == pytest.approx(ages.sum())
    assert len(age.recent) == 1024, "memory is constant"


def test_buckets_are_a_histogram_of_all_results():
    ages = [*AGE_BUCKETS_MS, *(bound + 0.5 for bound in AGE_BUCKETS_MS), 0.0, 7.0, 1e6]
    tally = Tally(["a", "b"])
    for number, age in enumerate(ages):
        tally.add(result(number % 2, age))
    # numpy's bins are closed on the left; these are closed on the right, as Prometheus' are.
    edges = [-math.inf, *(np.nextafter(bound, math.inf) for bound in AGE_BUCKETS_MS), math.inf]
    assert tally.statistics().age.buckets == tuple(np.histogram(ages, edges)[0])
    assert sum(tally.statistics().sources[1].age.buckets) == len(ages) // 2


def test_before_the_first_result():
    statistics = Tally(["camera"]).statistics()
    assert (statistics.frames, statistics.fps, statistics.dropped) == (0, 0, 0)
    assert all(math.isnan(value) for value in (statistics.age.p50, statistics.age.p95, statistics.age.p99))
    assert statistics.latencies == Latencies()
    assert Ages().count == 0


def test_rates_are_between_the_first_and_the_last_result(monkeypatch):
    clock = iter([10.0, 10.5, 11.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    tally = Tally(["a", "b"])
    for index in (0, 1, 0, 0):
        tally.add(result(index))
    statistics = tally.statistics()
    assert statistics.fps == pytest.approx(3 / 4)
    assert [each.fps for each in statistics.sources] == [pytest.approx(2 / 4), 0]


def test_latencies_are_means():
    tally = Tally(["a"])
    for spent in (1.0, 3.0):
        tally.add(result(spent=spent))
    assert tally.statistics().latencies == Latencies(2, 4, 6, 8)


def test_drops_by_cause_and_source():
    tally = Tally(["a", "b"])
    for index, cause, frames in [(0, "source", 3), (0, "queue", 1), (1, "queue", 2), (1, "policy", 5), (1, "queue", 0)]:
        tally.drop(index, cause, frames)
    statistics = tally.statistics()
    assert statistics.drops == Drops(source=3, policy=5, queue=3)
    assert statistics.dropped == 11
    assert [each.drops.total for each in statistics.sources] == [4, 7]


def test_a_restart_is_a_source_that_was_down_and_is_up():
    tally = Tally(["a"])
    for state in ("up", "down", "down", "up", "up", "down", "up", "ended"):
        tally.note(0, state)
    (source,) = tally.statistics().sources
    assert (source.restarts, source.state) == (2, "ended")
