"""CameraOptions: what a user wants of a camera; and what the driver made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgedet.errors import SourceError
from edgedet.runtime.capture.frame import FramePixelFormat
from edgedet.runtime.capture.v4l2.memory import Allocate

__all__ = ["MEMORY_MODES", "CameraOptions", "Granted", "MemoryMode"]

MemoryMode = Literal["auto", "mmap", "userptr", "dmabuf"]
MEMORY_MODES: tuple[MemoryMode, ...] = ("auto", "mmap", "userptr", "dmabuf")

_MOST_BUFFERS = 32  # VIDEO_MAX_FRAME


@dataclass(frozen=True)
class CameraOptions:
    """How to open a V4L2 camera. What is given is kept to, or opening fails; the rest is chosen.

    Attributes:
        pixel_format: V4L2's code (YUYV, UYVY, NV12, GREY, RGB3, BGR3, MJPG, ...) or RGB, BGR, I420.
        size: width and height in pixels.
        fps: frames per second.
        memory: where the driver writes. ``mmap``: its own buffers; ``userptr``: this process's memory; ``dmabuf``:
            buffers of another driver, or of the kernel's DMA heaps. ``auto`` tries: where ``allocate`` is given, to
            have the driver write there, else to copy there; without it the driver's own buffers, then our own.
        buffers: how many; each frame that is held takes one away from the driver.
        timeout: seconds to wait for a frame, and for a buffer to be released.
        allocate: returns memory for one plane of one buffer, given its bytes (whole pages): a uint8 array that starts
            at a page, or an object with such an ``array`` (``edgedet.runtime.gpu.camera_memory.camera_memory`` makes
            memory that a GPU reads); with memory="dmabuf" a file descriptor. ``Frame.memory`` gives it back.
        controls: exposure, gain and the like by name (``edgedet cameras`` lists them), set in this order.

    Raises:
        SourceError: if a value makes no sense.
    """

    pixel_format: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    memory: MemoryMode = "auto"
    buffers: int = 6
    timeout: float = 5.0
    allocate: Allocate | None = None
    controls: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("memory", self.memory in MEMORY_MODES, " or ".join(map(repr, MEMORY_MODES))),
            ("buffers", 2 <= self.buffers <= _MOST_BUFFERS, f"2 to {_MOST_BUFFERS}"),
            ("timeout", self.timeout > 0, "more than 0 seconds"),
            ("fps", self.fps is None or self.fps > 0, "more than 0"),
            ("size", self.size is None or min(self.size) > 0, "width and height in pixels"),
        ):
            if not fits:
                raise SourceError(f"{name} of a camera to be {wanted}", repr(getattr(self, name)), "Correct it")


@dataclass(frozen=True)
class Granted:
    """What the driver granted, as read back from it.

    Attributes:
        camera: its name.
        code: V4L2's code of the pixel format.
        pixel_format: as frames name it.
        width, height: in pixels.
        fps: nominal frames per second; None where the driver does not tell.
        chosen: memory mode.
        copies: of each frame in user space before it lies in the memory that was asked for.
        buffers: how many.
        refused: the modes that were tried before, and why each did not work.
    """

    camera: str
    code: str
    pixel_format: FramePixelFormat
    width: int
    height: int
    fps: float | None
    chosen: MemoryMode
    copies: int
    buffers: int
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = f" at {self.fps:.4g} frames per second" if self.fps else ""
        copies = "1 copy" if self.copies == 1 else f"{self.copies} copies"
        picture = f"{self.code} {self.width}x{self.height}{rate}"
        return f"{self.camera}: {picture}, {self.buffers} buffers ({self.chosen}), {copies}"
