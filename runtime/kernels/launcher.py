"""What a stage's launcher needs of the machine: memory, and a way to start a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Allocate", "Array", "Launcher"]


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
