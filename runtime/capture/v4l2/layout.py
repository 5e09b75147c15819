"""How a granted format lies in memory, and the picture's planes as views of it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.runtime.capture.frame import JpegFormat
from edgedet.runtime.capture.lease import Lease
from edgedet.runtime.capture.v4l2.memory import MemoryPlane
from edgedet.runtime.pixel_formats import PictureFormat, split_planes

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """What the driver granted.

    Attributes:
        code: V4L2's four characters.
        picture: what the bytes mean.
        memory_sizes: bytes of each memory plane of a buffer.
        pitches: bytes from one row to the next in each memory plane, as far as edgedet uses them.
    """

    code: str
    picture: PictureFormat | JpegFormat
    memory_sizes: tuple[int, ...]
    pitches: tuple[int, ...]

    def is_whole(self, spans: Sequence[tuple[int, int]]) -> bool:
        """Tell whether a filled buffer holds a whole picture.

        Args:
            spans: of each memory plane, where the data begins and where it ends, in bytes.
        """
        if len(spans) != len(self.memory_sizes):
            return False
        if isinstance(self.picture, JpegFormat):
            return spans[0][1] > spans[0][0]
        return all(end - start >= needed for (start, end), needed in zip(spans, self._needed(), strict=True))

    def planes(
        self, memory: Sequence[MemoryPlane], spans: Sequence[tuple[int, int]], lease: Lease
    ) -> tuple[npt.NDArray[np.uint8], ...]:
        """View a filled buffer as the planes of the picture, which keep lease and memory.

        Args:
            memory: of the buffer.
            spans: as for `is_whole`, which must have agreed.
            lease: of the buffer.
        """
        blocks = [_block(plane, start, end, lease) for plane, (start, end) in zip(memory, spans, strict=True)]
        if isinstance(self.picture, JpegFormat):
            return (blocks[0][None],)
        if len(blocks) == 1:
            return split_planes(blocks[0], self.picture, self.pitches[0])
        sizes = self.picture.plane_sizes
        return tuple(
            np.lib.stride_tricks.as_strided(block, size, (pitch, 1), writeable=False)
            for block, size, pitch in zip(blocks, sizes, self.pitches, strict=True)
        )

    def _needed(self) -> tuple[int, ...]:
        """Bytes without which a plane's last pixel is missing."""
        assert not isinstance(self.picture, JpegFormat)
        sizes = self.picture.plane_sizes
        if len(self.memory_sizes) == len(sizes):
            return tuple((rows - 1) * pitch + row for (rows, row), pitch in zip(sizes, self.pitches, strict=True))
        return (_contiguous_bytes(self.picture, self.pitches[0]),)


def _contiguous_bytes(picture: PictureFormat, pitch: int) -> int:
    """Bytes of a picture whose planes follow each other, up to its last pixel."""
    steps = {"NV12": (pitch, pitch + pitch % 2), "I420": (pitch, *[(pitch + 1) // 2] * 2)}.get(
        picture.pixel_format, (pitch,)
    )
    _, length = picture.plane_sizes[-1]
    whole = sum(count * step for (count, _), step in zip(picture.plane_sizes, steps, strict=True))
    return whole - steps[-1] + length


def _block(plane: MemoryPlane, start: int, end: int, lease: Lease) -> npt.NDArray[np.uint8]:
    """View a part of a memory plane as an array that refers to the lease."""
    block = (ctypes.c_uint8 * (end - start)).from_address(plane.address + start)
    block.lease = lease  # type: ignore[attr-defined]  # ctypes arrays take attributes; from_address keeps nothing alive
    return np.frombuffer(memoryview(block), np.uint8)
