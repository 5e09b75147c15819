"""A device on the stand-in, and the check that nothing is left of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_driver
from host_kernels import HostKernels

from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.stream import Stream

KINDS = ("device", "pinned", "managed", "registered", "external", "streams", "events", "graphs", "modules", "foreign")


@pytest.fixture
def provider() -> str:
    """The provider that this process tests."""
    return os.environ[standin_driver.PROVIDER]


@pytest.fixture
def device(provider: str) -> Iterator[Device]:
    """An open device."""
    with Device(provider=provider) as opened:
        yield opened


@pytest.fixture
def stream(device: Device) -> Stream:
    """A stream of it."""
    return device.stream()


@pytest.fixture
def kernels() -> HostKernels:
    """The kernels as the tests of the stages launch them: without any driver."""
    return HostKernels(Path(os.environ["STANDIN_CUDA_KERNELS"]))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Nothing of the driver's is left after a test, and no context is current."""
    before = {kind: standin_driver.count(kind) for kind in KINDS}
    yield
    gc.collect()
    assert {kind: standin_driver.count(kind) for kind in KINDS} == before
    assert standin_driver.count("depth") == 0
    assert standin_driver.count("retained") == 0
