"""Copies between arrays of the same shape whose rows may lie apart, as one call each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgedet.errors import EngineError
from edgedet.runtime.cuda.driver import RowCopy

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device_buffer import DeviceBuffer
    from edgedet.runtime.cuda.driver import Driver

__all__ = ["copy_to_device", "copy_to_host", "copy_within", "row_copy"]


def copy_to_device(driver: Driver, into: DeviceBuffer, source: npt.NDArray[Any], stream: Any) -> None:
    """Queue a copy of a host array; see `Stream.upload`."""
    copy = row_copy(source, source.ctypes.data, into, into.address, from_host=True)
    if copy.rows == 1:
        driver.copy_to_device(copy.destination, copy.source, copy.width, stream)
    elif copy.rows:
        driver.copy_rows(copy, stream)


def copy_to_host(driver: Driver, into: npt.NDArray[Any], source: DeviceBuffer, stream: Any) -> None:
    """Queue a copy to a host array; see `Stream.download`."""
    if not into.flags.writeable:
        raise EngineError("a writable array to copy to", "one that is read-only", "Pass another array")
    copy = row_copy(source, source.address, into, into.ctypes.data, to_host=True)
    if copy.rows == 1:
        driver.copy_to_host(copy.destination, copy.source, copy.width, stream)
    elif copy.rows:
        driver.copy_rows(copy, stream)


def copy_within(driver: Driver, into: DeviceBuffer, source: DeviceBuffer, stream: Any) -> None:
    """Queue a copy on the device; see `Stream.copy`."""
    copy = row_copy(source, source.address, into, into.address)
    if copy.rows == 1:
        driver.copy_on_device(copy.destination, copy.source, copy.width, stream)
    elif copy.rows:
        driver.copy_rows(copy, stream)


def row_copy(
    source: DeviceBuffer | npt.NDArray[Any],
    source_address: int,
    into: DeviceBuffer | npt.NDArray[Any],
    into_address: int,
    *,
    from_host: bool = False,
    to_host: bool = False,
) -> RowCopy:
    """Return the rows that make up a copy: one, as long as the array, where both sides are contiguous.

    Raises:
        EngineError: if shapes or types differ, or the elements lie apart in more than one direction.
    """
    if source.shape != into.shape or source.dtype != into.dtype:
        raise EngineError(
            f"an array of shape {into.shape} and type {into.dtype}",
            f"one of shape {source.shape} and type {source.dtype}",
            "Make both the same",
        )
    itemsize = source.dtype.itemsize
    if 0 in source.shape:
        return RowCopy(source_address, 0, into_address, 0, 0, 0, from_host, to_host)
    # Axes of one element have no say in where things lie.
    axes = [axis for axis, size in enumerate(source.shape) if size != 1]
    sizes = [source.shape[axis] for axis in axes]
    from_strides = [source.strides[axis] for axis in axes]
    to_strides = [into.strides[axis] for axis in axes]
    inner = max(_run_start(sizes, from_strides, itemsize), _run_start(sizes, to_strides, itemsize))
    width = itemsize
    for size in sizes[inner:]:
        width *= size
    rows = 1
    for size in sizes[:inner]:
        rows *= size
    pitches = [_pitch(sizes[:inner], strides[:inner], width) for strides in (from_strides, to_strides)]
    return RowCopy(source_address, pitches[0], into_address, pitches[1], width, rows, from_host, to_host)


def _run_start(sizes: list[int], strides: list[int], itemsize: int) -> int:
    """Return the first axis from which on nothing lies between the elements."""
    step, start = itemsize, len(sizes)
    while start and strides[start - 1] == step:
        start -= 1
        step *= sizes[start]
    return start


def _pitch(sizes: list[int], strides: list[int], width: int) -> int:
    """Return the one distance from row to row."""
    if not sizes:
        return width
    pitch = strides[-1]
    step = pitch
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if stride != step or pitch < width:
            raise EngineError(
                "rows that lie one after the other at one distance",
                f"axes of sizes {sizes} at strides {strides}",
                "Copy it in parts, or make it contiguous first",
            )
        step *= size
    return pitch
