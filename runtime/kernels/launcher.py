"""What a stage's launcher needs of the machine: memory, and a way to start a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Allocate", "Array", "Launcher", "Upload", "address_of"]


class Array(Protocol):
    """Memory that kernels can reach: a NumPy array where they run on the host, a DeviceBuffer where on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""


class Allocate(Protocol):
    """Makes arrays once, when a stage is built; nothing is allocated while frames flow."""

    def __call__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return a contiguous array whose values are not set."""


class Upload(Protocol):
    """Puts constants where kernels can reach them, once, when a stage is built."""

    def __call__(self, values: npt.NDArray[Any]) -> Array:
        """Return a contiguous copy."""


class Launcher(Protocol):
    """Starts kernels in order on one stream (or runs them at once on the host)."""

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        """Start a kernel; it may run after this returns.

        Args:
            name: of the __global__ function.
            grid: one to three sizes, in blocks.
            block: one to three sizes, in threads.
            arguments: arrays (their address is passed), None (a null pointer), or ctypes values and structures (passed
                by value).
        """


def address_of(array: Array) -> int:
    """Return where an array begins, for a structure that a kernel is given by value.

    Args:
        array: a NumPy array, or a buffer with an ``address``. (Its ``__cuda_array_interface__`` would have it too, but
            asking for that may wait for the device.)
    """
    if isinstance(array, np.ndarray):
        return array.ctypes.data
    address: int = array.address  # type: ignore[attr-defined]  # what memory on a device has and NumPy's lacks
    return address
