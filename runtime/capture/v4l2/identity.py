"""Which camera a device is, so that it is found again under another number.

The kernel gives a camera that is plugged in again the lowest number that is free, and a number is not free while
anybody holds a frame in the camera's old memory. With two cameras the numbers may also change places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2.node import Node

__all__ = ["Identity", "find_camera"]

_SYSFS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Identity:
    """What stays the same while a camera is in the same socket.

    Attributes:
        card: its name.
        bus: where it is plugged in.
        part: its number among the devices of one camera, such as colour and infrared; -1 where the kernel does not say.
    """

    card: str
    bus: str
    part: int

    @classmethod
    def of(cls, node: Node) -> Identity:
        """Ask an open device."""
        part = -1
        with contextlib.suppress(OSError, ValueError):
            part = int((_SYSFS / Path(node.path).resolve().name / "index").read_text())
        return cls(node.card, node.bus, part)


def find_camera(path: str, wanted: Identity, folder: Path = Path("/dev")) -> str:
    """Return where a camera is now.

    Args:
        path: where it was; it is looked for there first.
        wanted: which it is.
        folder: of the devices.

    Returns:
        The path of the same camera in the same socket; else ``path``, where one of the same name is now.

    Raises:
        SourceError: if it is not there.
    """
    found = dict(_identities(path, folder))
    same = [name for name, identity in found.items() if identity == wanted]
    if same:
        return same[0]
    if path in found and found[path].card == wanted.card:
        return path
    there = ", ".join(f"{name} ({identity.card})" for name, identity in found.items()) or "none"
    raise SourceError(f"'{path}', {wanted.card} at {wanted.bus}", f"these cameras: {there}", "Plug it in again")


def _identities(first: str, folder: Path) -> Iterator[tuple[str, Identity]]:
    others = sorted(map(str, folder.glob("video*")), key=lambda name: (len(name), name))
    for path in dict.fromkeys([first, *others]):
        with contextlib.suppress(SourceError):
            node = Node(path)
            try:
                yield path, Identity.of(node)
            finally:
                node.close()
