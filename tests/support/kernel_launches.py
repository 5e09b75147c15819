"""What tests of kernels share: memory whose values are not set, and launches in the order that a seed says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from host_kernels import HostKernels

__all__ = ["InOrder", "garbage"]


def garbage(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Allocate memory that holds no useful values, so that reading what was never written shows."""
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 0xCD
    return array


class InOrder:
    """A launcher whose blocks and threads run in order (seed 0) or in the order that a seed says.

    Attributes:
        names: of the kernels that were launched.
    """

    def __init__(self, kernels: HostKernels, seed: int) -> None:
        self.kernels, self.seed = kernels, seed
        self.names: list[str] = []

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        self.names.append(name)
        self.kernels.launch(name, grid, block, *arguments, order=self.seed)
