"""CUDA's driver interface by the packages that wrap it, one file each, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable

from edgedet.errors import EngineError, MissingDependencyError
from edgedet.runtime.cuda.driver import Driver

__all__ = ["PROVIDERS", "load_driver"]


def _pycuda() -> Driver:
    from edgedet.runtime.cuda.providers import pycuda

    return pycuda.load()


def _cuda_bindings() -> Driver:
    from edgedet.runtime.cuda.providers import cuda_bindings

    return cuda_bindings.load()


PROVIDERS: dict[str, Callable[[], Driver]] = {"pycuda": _pycuda, "cuda-bindings": _cuda_bindings}
"""Name as pip knows it -> what makes the driver; the first that is installed is taken."""


def load_driver(provider: str | None = None) -> Driver:
    """Import a provider and initialise CUDA.

    Args:
        provider: a key of PROVIDERS; the first that is installed where None.

    Raises:
        MissingDependencyError: if it, or every one of them, is not installed, or there is no NVIDIA driver.
        CudaError: if the NVIDIA driver finds no device.
        EngineError: if there is no provider of that name.
    """
    if provider is not None:
        if provider not in PROVIDERS:
            raise EngineError(
                f"a CUDA provider ({' or '.join(PROVIDERS)})",
                f"'{provider}'",
                "Name one of them, or none for the first",
            )
        return PROVIDERS[provider]()
    reasons = []
    for make in PROVIDERS.values():
        try:
            return make()
        except MissingDependencyError as error:
            reasons.append(f"of {error.expected}: {error.got}")
    raise MissingDependencyError(
        "pycuda or cuda-bindings, and the NVIDIA driver, for running on a GPU",
        "; ".join(reasons),
        "Install one with: pip install 'edgedet[cuda]' (or 'edgedet[pycuda]', which needs nvcc), or see edgedet doctor",
    )
