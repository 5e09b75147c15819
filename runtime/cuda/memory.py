"""A range of memory and what keeps it alive."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.runtime.cuda.driver import Allocation

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["Memory", "check_writable_range"]


class Memory:
    """An allocation that is given back when nothing refers to it any more, or earlier by `close`.

    Args:
        device: that it was allocated on; kept open.
        allocation: what the driver gave.
        beside: what must live as long, such as the array whose memory was registered.
        owned: False where `beside` owns the memory, and there is nothing to give back.
    """

    def __init__(self, device: Device, allocation: Allocation, beside: object = None, *, owned: bool = True) -> None:
        self.device = device
        self.allocation = allocation
        self.beside = beside
        release = functools.partial(device.driver.release, allocation)
        self._close = device.ownership.add("memory", self, release) if owned else None

    def close(self) -> None:
        """Give the memory back now; every view of it is dead afterwards."""
        if self._close is not None:
            self._close()


def check_writable_range(array: npt.NDArray[Any]) -> None:
    """Check that an array is one range of bytes that can be written.

    Raises:
        EngineError: if it is not.
    """
    if not (array.flags.c_contiguous and array.flags.writeable and array.nbytes):
        raise EngineError(
            "a contiguous, writable array",
            f"one of shape {array.shape} and strides {array.strides}, writable: {array.flags.writeable}",
            "Pass the memory as a whole, as it was allocated",
        )
