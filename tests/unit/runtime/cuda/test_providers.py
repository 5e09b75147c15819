"""What is said where there is no GPU, no driver, or no package."""

from __future__ import annotations

import ctypes
import importlib.util

import pytest

from edgedet.errors import EngineError, MissingDependencyError
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.cuda.error_wording import cuda_error
from edgedet.runtime.cuda.providers import PROVIDERS, load_driver

MODULES = {"pycuda": "pycuda", "cuda-bindings": "cuda"}


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_driver = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")


@without_driver
@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_a_driver(provider):
    installed = importlib.util.find_spec(MODULES[provider]) is not None
    expected = r"the NVIDIA driver \(libcuda.so.1\)" if installed else f"the package '{MODULES[provider]}'"
    with pytest.raises(MissingDependencyError, match=expected):
        load_driver(provider)


@without_driver
def test_without_anything():
    with pytest.raises(MissingDependencyError, match=r"pycuda or cuda-bindings, and the NVIDIA driver.*edgedet doctor"):
        Device()


def test_a_provider_that_does_not_exist():
    with pytest.raises(EngineError, match=r"\(pycuda or cuda-bindings\), got 'numba'"):
        load_driver("numba")


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", "Use a smaller batch"),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", "The GPU is lost to this process"),
        ("CUDA_ERROR_TOO_MANY_PEERS", "Run again with CUDA_LAUNCH_BLOCKING=1"),
    ],
)
def test_an_error_of_the_driver(name, action):
    error = cuda_error("to do this", name, "because of that")
    assert error.name == name
    assert str(error).startswith(f"Expected CUDA to do this, got {name} (because of that). {action}")
