"""The options that say what is wanted of a camera."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edgedet.cli.parameters import image_size

if TYPE_CHECKING:
    from edgedet.runtime.capture import CameraOptions

__all__ = ["camera_options"]


def _control(text: str) -> tuple[str, int]:
    """Read ``exposure=200`` as name and number."""
    match = re.fullmatch(r"\s*([^=]+?)\s*=\s*(-?[0-9]+)\s*", text)
    if match is None:
        raise click.BadParameter(f"Expected a name and a number such as brightness=128, got {text!r}")
    return match[1], int(match[2])


_OPTIONS = (
    click.option("--camera-format", metavar="CODE", help="YUYV, NV12, MJPG or what else edgedet cameras lists"),
    click.option("--camera-size", type=image_size, metavar="WxH", help="Size of a camera's pictures"),
    click.option("--camera-fps", type=click.FloatRange(min=0, min_open=True), help="Frames per second of a camera"),
    click.option(
        "--camera-memory",
        type=click.Choice(["auto", "mmap", "userptr", "dmabuf"]),
        help="Where a camera writes: the driver's buffers, this program's memory, or DMA heaps  [default: auto]",
    ),
    click.option("--camera-buffers", type=click.IntRange(2, 32), help="Buffers of a camera  [default: 6]"),
    click.option(
        "--camera-timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="How long to wait for a camera's next frame  [default: 5]",
    ),
    click.option(
        "--camera-control",
        type=_control,
        multiple=True,
        metavar="NAME=VALUE",
        help="Exposure, gain and the like, as edgedet cameras lists them; may be given several times",
    ),
)

_NAMES = {
    "camera_format": "pixel_format",
    "camera_size": "size",
    "camera_fps": "fps",
    "camera_memory": "memory",
    "camera_buffers": "buffers",
    "camera_timeout": "timeout",
}


def camera_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--camera-...`` to a command, which gets ``camera``, CameraOptions or None, instead of them."""

    @functools.wraps(command)
    def with_camera(*arguments: Any, camera_control: tuple[tuple[str, int], ...], **others: Any) -> None:
        given = {name: others.pop(option) for option, name in _NAMES.items()}
        settings = {name: value for name, value in given.items() if value is not None}
        if camera_control:
            settings["controls"] = dict(camera_control)
        command(*arguments, camera=_camera(settings) if settings else None, **others)

    for option in reversed(_OPTIONS):
        option(with_camera)
    return with_camera


def _camera(settings: dict[str, Any]) -> CameraOptions:
    from edgedet.runtime.capture import CameraOptions

    return CameraOptions(**settings)
