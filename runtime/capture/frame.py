"""Frame: one picture from a source, with where and when it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SourceError

__all__ = ["Frame", "PixelFormat"]

PixelFormat = Literal["BGR"]


@dataclass(eq=False)
class Frame:
    """A picture on loan from its source until it is released.

    Attributes:
        planes: the pixel planes as ``pixel_format`` orders them; BGR has one, (H, W, 3) uint8. Empty after ``release``.
        sequence: number of the frame in its source, from 0; gaps are frames that were never read.
        timestamp_ns: nanoseconds. Files: position in the recording (0 for pictures). Live sources: the monotonic clock
            when the frame arrived.
        name: the file, camera or address it comes from, without credentials.
        pixel_format: how the planes hold the picture.
        dropped_before: frames that were lost or skipped between the one delivered before and this one.
        width: in pixels.
        height: in pixels.
    """

    planes: tuple[npt.NDArray[np.uint8], ...]
    sequence: int
    timestamp_ns: int
    name: str
    pixel_format: PixelFormat = "BGR"
    dropped_before: int = 0
    width: int = field(init=False)
    height: int = field(init=False)

    def __post_init__(self) -> None:
        self.height, self.width = self.planes[0].shape[:2]

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The picture as BGR uint8 (H, W, 3), valid until ``release``; writing to it changes the frame.

        Raises:
            SourceError: if the frame was released.
        """
        if not self.planes:
            raise SourceError(
                "a frame that is still held",
                f"frame {self.sequence} of {self.name!r}, which was released",
                "Use the image before release(), or keep a copy of it",
            )
        return self.planes[0]

    def release(self) -> None:
        """Give the pixels back; calling it again does nothing."""
        self.planes = ()

    def __enter__(self) -> Frame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
