"""A real GPU; every test here is skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_kernels import HostKernels, build, compiler

from edgedet.errors import EdgedetError
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.providers import PROVIDERS


@pytest.fixture(params=PROVIDERS)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The first GPU, through each provider that is installed."""
    try:
        opened = Device(provider=request.param)
    except EdgedetError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.fixture(scope="session")
def host_kernels(pytestconfig: pytest.Config) -> HostKernels:
    """The same kernels, compiled for the host."""
    if compiler() is None:
        pytest.skip("needs a C++ compiler (apt install g++)")
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("host_kernels"))
