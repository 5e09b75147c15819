"""Host memory that the GPU copies from at full speed or reaches itself."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.runtime.cuda.device_buffer import DeviceBuffer
from edgedet.runtime.cuda.memory import Memory

__all__ = ["HostBuffer"]


class HostBuffer:
    """Pinned, mapped, managed or registered memory with a shape.

    Args:
        memory: that it lies in.
        shape: sizes of the axes.
        dtype: element type.
    """

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory = memory
        self.shape = shape
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.memory.allocation.nbytes

    @property
    def array(self) -> npt.NDArray[Any]:
        """The memory as a NumPy array, which keeps it alive. Wait for the stream before reading what the GPU wrote."""
        whole: npt.NDArray[Any] = np.frombuffer(_range_of(self.memory), self.dtype)
        return whole.reshape(self.shape)

    @property
    def on_device(self) -> DeviceBuffer:
        """The same memory as kernels reach it.

        Raises:
            EngineError: if it was not allocated as mapped.
        """
        if not self.memory.allocation.address:
            raise EngineError(
                "memory that the device can reach",
                f"{self.memory.allocation.kind.value} memory that is not mapped",
                "Allocate or register it with mapped=True",
            )
        return DeviceBuffer(self.memory, self.shape, self.dtype)

    def close(self) -> None:
        """Give the memory back now; arrays over it must not be touched afterwards."""
        self.memory.close()


def _range_of(memory: Memory) -> memoryview:
    """Return the host's view of memory as an object that refers to it, for NumPy to hold."""
    allocation = memory.allocation
    whole = (ctypes.c_char * allocation.nbytes).from_address(allocation.host_address)
    whole.memory = memory  # type: ignore[attr-defined]  # ctypes arrays take attributes; from_address keeps nothing alive
    return memoryview(whole)
