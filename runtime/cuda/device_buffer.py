"""Arrays in the device's memory, which torch, cupy and others take without a copy."""

from __future__ import annotations

import math
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.runtime.cuda.dlpack import DeviceType, ForeignTensor, export_tensor, import_tensor
from edgedet.runtime.cuda.driver import Allocation, MemoryKind
from edgedet.runtime.cuda.memory import Memory

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.cuda.stream import Stream

__all__ = ["DeviceBuffer", "Index", "buffer_of_foreign"]

Index = int | slice | EllipsisType | None
"""What a buffer is indexed with; lists and arrays of places would need a copy."""

_DEVICE_TYPES = {
    MemoryKind.DEVICE: DeviceType.CUDA,
    MemoryKind.EXTERNAL: DeviceType.CUDA,
    MemoryKind.PINNED: DeviceType.CUDA_HOST,
    MemoryKind.REGISTERED: DeviceType.CUDA_HOST,
    MemoryKind.MANAGED: DeviceType.CUDA_MANAGED,
}
_NO_WAIT = -1


class DeviceBuffer:
    """An array that kernels read and write, or a view of one; an `Array` of edgedet.runtime.kernels.

    It speaks ``__cuda_array_interface__`` (version 3) and DLPack (1.0 and before), so ``torch.from_dlpack(buffer)`` and
    ``cupy.asarray(buffer)`` share its memory. Whoever takes it that way waits for the work of `stream`; where the
    buffer has none, the calling thread waits for the whole device.

    Args:
        memory: that it lies in.
        shape: sizes of the axes.
        dtype: element type.
        address: of the first element; where the memory begins if None.
        strides: bytes from one element to the next on each axis; contiguous in C order if None.
        stream: on which it is written.

    Attributes:
        memory, shape, dtype, address, strides, stream: as given.
    """

    def __init__(
        self,
        memory: Memory,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        address: int | None = None,
        strides: tuple[int, ...] | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.memory = memory
        self.shape = tuple(map(int, shape))
        self.dtype = dtype
        self.address = memory.allocation.address if address is None else address
        self.strides = _c_strides(self.shape, dtype.itemsize) if strides is None else strides
        self.stream = stream

    def __repr__(self) -> str:
        return f"<DeviceBuffer {self.shape} {self.dtype} at 0x{self.address:x} on device {self.device.ordinal}>"

    @property
    def device(self) -> Device:
        """Whose memory it is."""
        return self.memory.device

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes, without what lies between them."""
        return self.size * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether nothing lies between the elements, in C order."""
        wanted = _c_strides(self.shape, self.dtype.itemsize)
        return all(size == 1 or a == b for size, a, b in zip(self.shape, self.strides, wanted, strict=True))

    def check_contiguous(self, purpose: str) -> None:
        """Check that nothing lies between the elements.

        Raises:
            EngineError: if something does.
        """
        if not self.is_contiguous:
            raise EngineError(
                f"a contiguous buffer for {purpose}",
                f"one of shape {self.shape} and strides {self.strides}",
                "Copy it into a new buffer first (Stream.copy), or take the whole instead of a part",
            )

    def __getitem__(self, key: Index | tuple[Index, ...]) -> DeviceBuffer:
        """Return a view, as NumPy's basic indexing would.

        Raises:
            EngineError: if the index is not an int, slice, ... or None, or lies outside.
        """
        keys = key if isinstance(key, tuple) else (key,)
        if not all(item is None or item is ... or isinstance(item, int | np.integer | slice) for item in keys):
            raise EngineError("ints, slices, ... or None as index", repr(key), "Gather elements with a kernel instead")
        # NumPy does the arithmetic on an array of this geometry that nobody reads. The ellipsis keeps it from reading
        # one element where ints name all axes.
        whole = np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, self.strides, writeable=False)
        try:
            part = whole[keys if ... in keys else (*keys, ...)]
        except IndexError as error:
            raise EngineError(f"an index into shape {self.shape}", f"{key!r} ({error})", "Stay inside") from error
        offset = _place(part) - _place(whole)
        return self._part(part.shape, self.dtype, self.address + offset, part.strides)

    def reshape(self, *shape: int) -> DeviceBuffer:
        """Return a contiguous buffer's memory in another shape; one size may be -1.

        Raises:
            EngineError: if the buffer is not contiguous, or the shape has another number of elements.
        """
        self.check_contiguous("another shape")
        try:
            geometry = np.broadcast_to(np.uint8(0), (self.size,)).reshape(shape).shape
        except ValueError as error:
            raise EngineError(
                f"a shape of {self.size} elements", str(shape), "Choose sizes whose product fits"
            ) from error
        return self._part(geometry, self.dtype, self.address, None)

    def astype_view(self, dtype: npt.DTypeLike) -> DeviceBuffer:
        """Return a contiguous buffer's bytes as elements of another type; the last axis changes its size.

        Raises:
            EngineError: if the buffer is not contiguous, or its last axis has no whole number of such elements.
        """
        self.check_contiguous("another element type")
        wanted = np.dtype(dtype)
        last = self.shape[-1:] or (1,)
        count, rest = divmod(last[0] * self.dtype.itemsize, wanted.itemsize)
        if rest:
            raise EngineError(
                f"rows of whole {wanted} elements",
                f"rows of {last[0]} {self.dtype} elements",
                "Choose another type, or reshape first",
            )
        return self._part((*self.shape[:-1], count), wanted, self.address, None)

    def _part(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], address: int, strides: tuple[int, ...] | None
    ) -> DeviceBuffer:
        return DeviceBuffer(self.memory, shape, dtype, address=address, strides=strides, stream=self.stream)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The CUDA array interface, version 3; the stream in it is the one to wait for."""
        if self.stream is None:
            self.device.synchronize()
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None if self.is_contiguous else self.strides,
            "stream": None if self.stream is None else self.stream.address,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's kind of device and the device's number."""
        return int(_DEVICE_TYPES[self.memory.allocation.kind]), self.device.ordinal

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Return the buffer as a DLPack capsule.

        Args:
            stream: the taker's, as a number; None for CUDA's default stream, -1 if it will wait itself.
            max_version: newest version of DLPack that the taker knows; before 1.0 where None.
            dl_device: where the taker wants it.
            copy: whether the taker wants a copy.

        Raises:
            BufferError: if it is wanted elsewhere, or as a copy.
        """
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("a DeviceBuffer is shared where it lies: it makes no copies and moves to no other device")
        if stream != _NO_WAIT:
            self._let_wait(1 if stream is None else stream)
        device_type, ordinal = self.__dlpack_device__()
        tensor = ForeignTensor(
            self.address, DeviceType(device_type), ordinal, self.dtype, self.shape, self.strides, keep=self
        )
        return export_tensor(tensor, versioned=max_version is not None and max_version[0] >= 1)

    def _let_wait(self, taker: int) -> None:
        if self.stream is None:
            self.device.synchronize()
        elif taker != self.stream.address:
            self.stream.let_foreign_wait(taker)

    def close(self) -> None:
        """Give the memory back now; all views of it are dead afterwards. Otherwise it goes with the last of them."""
        self.memory.close()


def buffer_of_foreign(device: Device, array: Any, stream: Stream | None) -> DeviceBuffer:
    """Return somebody else's array on a device as a buffer, without a copy; see `Device.view`."""
    # DLPack first: torch's array interface does not say which stream to wait for.
    tensor = _from_dlpack(array, stream) if hasattr(array, "__dlpack__") else _from_array_interface(array, stream)
    if stream is None:
        device.synchronize()
    if tensor.device_type is DeviceType.CPU or (
        tensor.device_type is DeviceType.CUDA and tensor.ordinal != device.ordinal
    ):
        raise EngineError(
            f"an array on {device!r}",
            f"one on {tensor.device_type.name} {tensor.ordinal}",
            "Move it there (torch: tensor.to('cuda')), or upload a host array with Stream.upload",
        )
    extent = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    nbytes = extent + tensor.dtype.itemsize
    allocation = Allocation(MemoryKind.DEVICE, nbytes, tensor.address, 0, None)
    memory = Memory(device, allocation, beside=tensor.keep, owned=False)
    return DeviceBuffer(memory, tensor.shape, tensor.dtype, strides=tensor.strides, stream=stream)


def _from_dlpack(array: Any, stream: Stream | None) -> ForeignTensor:
    device_type, _ = array.__dlpack_device__()
    # Only for a GPU may a stream be named at all.
    named = {"stream": _NO_WAIT if stream is None else stream.address} if device_type == DeviceType.CUDA else {}
    try:
        capsule = array.__dlpack__(**named, max_version=(1, 0))
    except TypeError:  # written before DLPack 1.0
        capsule = array.__dlpack__(**named)
    return import_tensor(capsule)


def _from_array_interface(array: Any, stream: Stream | None) -> ForeignTensor:
    facts = getattr(array, "__cuda_array_interface__", None)
    if facts is None:
        raise EngineError(
            "an array on a GPU, with __dlpack__ or __cuda_array_interface__",
            type(array).__name__,
            "Upload host memory with Stream.upload",
        )
    if stream is not None and facts.get("stream") is not None:
        stream.wait_for_foreign(facts["stream"])
    dtype = np.dtype(facts["typestr"])
    shape = tuple(facts["shape"])
    strides = facts.get("strides") or _c_strides(shape, dtype.itemsize)
    return ForeignTensor(facts["data"][0], DeviceType.CUDA_MANAGED, 0, dtype, shape, tuple(strides), keep=array)


def _c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = []
    step = itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _place(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
