"""The stand-in for libcuda; the tests in on_standin/ run beside it in a process of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import standin_driver
from host_kernels import HostKernels, build, compiler

collect_ignore = [] if os.environ.get(standin_driver.PROVIDER) else ["on_standin"]


@pytest.fixture(scope="session")
def host_kernels(pytestconfig: pytest.Config) -> HostKernels:
    """The project's kernels, compiled for the host; the test is skipped where no C++ compiler is."""
    if compiler() is None:
        pytest.skip("needs a C++ compiler (apt install g++)")
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("host_kernels"))


@pytest.fixture(scope="session")
def standin(pytestconfig: pytest.Config, host_kernels: HostKernels) -> Path:
    """The folder of the stand-in's libcuda.so.1."""
    assert pytestconfig.cache is not None
    return standin_driver.build(pytestconfig.cache.mkdir("standin_cuda"))
