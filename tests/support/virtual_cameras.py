"""The cameras of the guest that tests/vm/run.sh boots, by what their drivers can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgedet.runtime.capture.v4l2 import DeviceSource
from edgedet.runtime.capture.v4l2.controls import read_controls
from edgedet.runtime.capture.v4l2.node import Node

__all__ = [
    "CONTIGUOUS",
    "DRIVER",
    "FIRST",
    "MAIN",
    "MULTIPLANAR",
    "PATIENCE_S",
    "SECOND",
    "SMALL",
    "OpenCamera",
    "menu_value",
]

FIRST, SECOND, MULTIPLANAR, CONTIGUOUS = (f"/dev/video{number}" for number in range(4))
DRIVER = Path("/sys/bus/platform/drivers/vivid")

MAIN = "from edgedet.cli.main import main; main()"
"""The program, for ``python -c``."""

SMALL = {"size": (320, 180), "fps": 30, "buffers": 4, "timeout": 10.0}
"""What emulation carries."""

PATIENCE_S = 3.0
"""A time-out that is meant to be reached, yet is long enough for the next frame on a machine that is busy."""

OpenCamera = Callable[..., DeviceSource]


def menu_value(name: str, choice: str, path: str = FIRST) -> int:
    """Return the number of a menu's choice."""
    node = Node(path)
    try:
        (control,) = (control for control in read_controls(node) if control.name == name)
    finally:
        node.close()
    (value,) = (value for value, text in control.choices.items() if text == choice)
    return value
