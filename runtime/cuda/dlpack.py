"""DLPack capsules in and out (https://dmlc.github.io/dlpack/latest/c_api.html), both of version 1.0 and before.

The structures are those of dlpack.h. A capsule that nobody took frees its tensor when it is collected; one that was
taken is renamed, and the taker calls the tensor's deleter.
"""

from __future__ import annotations

import ctypes
import enum
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedet.errors import EngineError

__all__ = ["DeviceType", "ForeignTensor", "ManagedTensor", "VersionedTensor", "export_tensor", "import_tensor"]


class DeviceType(enum.IntEnum):
    """DLDeviceType, as far as it is met here."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    CUDA_MANAGED = 13


@dataclass(frozen=True)
class ForeignTensor:
    """An array that crosses from one library to another.

    Args:
        address: of the first element.
        device_type, ordinal: where it lies.
        dtype: element type.
        shape: sizes of the axes.
        strides: bytes from one element to the next on each axis.
        keep: what keeps the memory alive.
    """

    address: int
    device_type: DeviceType
    ordinal: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    keep: object


class _Tensor(ctypes.Structure):
    """DLTensor; the strides are in elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class ManagedTensor(ctypes.Structure):
    """DLManagedTensor, before version 1.0."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


class VersionedTensor(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_OLD, _VERSIONED = b"dltensor", b"dltensor_versioned"
_STRUCTURES: dict[bytes, type[ManagedTensor | VersionedTensor]] = {_OLD: ManagedTensor, _VERSIONED: VersionedTensor}
_USED = {_OLD: b"used_dltensor", _VERSIONED: b"used_dltensor_versioned"}

# Prototypes of our own: those of ctypes.pythonapi are shared by everybody in the process.
_api = ctypes.pythonapi
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)(("PyCapsule_New", _api))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
# In its destructor a capsule has no references left, so that it must not become a Python object again.
_dying_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))

_exported: dict[int, tuple[object, ...]] = {}
"""Address of each structure that is out -> what must live as long."""


# Both may be called while the interpreter ends and has emptied this module, so they hold what they need themselves.
def _delete(address: int, exported: dict[int, tuple[object, ...]] = _exported) -> None:
    exported.pop(address, None)


_delete_pointer = _DELETER(_delete)


def _destroy(
    capsule: int, delete: Any = _delete, is_valid: Any = _dying_is_valid, pointer: Any = _dying_pointer
) -> None:
    for name in (b"dltensor", b"dltensor_versioned"):
        if is_valid(capsule, name):
            delete(pointer(capsule, name))


_destroy_pointer = _DESTRUCTOR(_destroy)

_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}


def export_tensor(tensor: ForeignTensor, *, versioned: bool) -> object:
    """Return a capsule that holds a tensor and all that it needs.

    Raises:
        BufferError: if DLPack has no such element type.
    """
    if tensor.dtype.kind not in _CODES or tensor.dtype.byteorder == ">":
        raise BufferError(f"DLPack has no element type {tensor.dtype}")
    name = _VERSIONED if versioned else _OLD
    ndim, itemsize = len(tensor.shape), tensor.dtype.itemsize
    shape = (ctypes.c_int64 * ndim)(*tensor.shape)
    strides = (ctypes.c_int64 * ndim)(*(step // itemsize for step in tensor.strides))
    managed = _STRUCTURES[name]()
    managed.tensor = _Tensor(
        tensor.address,
        tensor.device_type,
        tensor.ordinal,
        ndim,
        _CODES[tensor.dtype.kind],
        itemsize * 8,
        1,
        shape,
        strides,
    )
    managed.deleter = _delete_pointer
    if isinstance(managed, VersionedTensor):
        managed.major = 1
    address = ctypes.addressof(managed)
    _exported[address] = (managed, shape, strides, tensor.keep)
    return _new(address, name, _destroy_pointer)


def import_tensor(capsule: object) -> ForeignTensor:
    """Take a capsule's tensor; the memory lives as long as what the result keeps.

    Raises:
        EngineError: if it is no capsule that can still be taken, or its element type has no NumPy type.
    """
    name = next((name for name in _STRUCTURES if _is_valid(capsule, name)), None)
    if name is None:
        raise EngineError("a DLPack capsule that nobody has taken", repr(capsule), "Ask the array for a new one")
    address = _pointer(capsule, name)
    managed = _STRUCTURES[name].from_address(address)
    tensor = managed.tensor
    if isinstance(managed, VersionedTensor) and managed.major != 1:
        raise EngineError(
            "DLPack 1", f"version {managed.major}.{managed.minor}", "Update edgedet, or the other library"
        )
    if tensor.device_type not in DeviceType.__members__.values():
        raise EngineError(
            "an array on the CPU or on an NVIDIA GPU",
            f"DLPack's device {tensor.device_type}",
            "Move it to the GPU first",
        )
    if tensor.code not in _KINDS or tensor.lanes != 1:
        raise EngineError(
            "an element type that NumPy has",
            f"DLPack's code {tensor.code} with {tensor.bits} bits and {tensor.lanes} lanes",
            "Convert the array first (bfloat16 to float32, for one)",
        )
    dtype = np.dtype("bool" if _KINDS[tensor.code] == "b" else f"{_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim])
    else:
        strides = np.empty(0, dtype).reshape(0, *shape[1:]).strides if shape else ()
    _rename(capsule, _USED[name])
    return ForeignTensor(
        tensor.data + tensor.byte_offset,
        DeviceType(tensor.device_type),
        tensor.device_id,
        dtype,
        shape,
        strides,
        keep=_Taken(managed, address),
    )


class _Taken:
    """A structure of somebody else, deleted with this object."""

    def __init__(self, managed: ManagedTensor | VersionedTensor, address: int) -> None:
        if managed.deleter:
            weakref.finalize(self, managed.deleter, address)
