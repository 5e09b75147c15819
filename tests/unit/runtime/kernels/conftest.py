"""The kernels, compiled once a session for the machine that the tests run on."""

from __future__ import annotations

import pytest
from host_kernels import HostKernels, build, compiler


@pytest.fixture(scope="session")
def kernels(pytestconfig: pytest.Config) -> HostKernels:
    """All kernels of the project; the test is skipped where no C++ compiler is."""
    if compiler() is None:
        pytest.skip("needs a C++ compiler (apt install g++)")
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("host_kernels"))
