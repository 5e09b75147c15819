"""A real detector for streams, and the promise that no thread outlives a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgedet
from edgedet.runtime.detector import Detector


@pytest.fixture
def detector(write_model: Callable[..., Path]) -> Iterator[Detector]:
    with edgedet.load(write_model(), threads=1) as detector:
        yield detector


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while left := [each for each in threading.enumerate() if each.name.startswith("edgedet-") and each not in before]:
        assert time.monotonic() < deadline, [each.name for each in left]
        left[0].join(1)
