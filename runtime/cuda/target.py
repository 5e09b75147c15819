"""The GPU that is here, as far as engines depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.machine import jetson, nvidia
from edgedet.target import Target

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["current_target", "target_of"]


def current_target(ordinal: int = 0) -> Target:
    """Describe a GPU of this machine.

    Raises:
        MissingDependencyError: if no provider of CUDA's driver, or no driver, is installed.
        EngineError: if there is no such GPU.
    """
    from edgedet.runtime.cuda.device import Device

    with Device(ordinal) as device:
        return target_of(device)


def target_of(device: Device, root: Path = Path("/")) -> Target:
    """Describe an open device.

    Args:
        device: the GPU.
        root: what stands for ``/``, where driver and board are described in files.
    """
    board = jetson(root)
    return Target(
        (f"sm_{device.capability[0]}{device.capability[1]}",),
        gpu=device.name if board is None else board.model,
        driver=nvidia(root).driver or "",
        l4t="" if board is None else board.l4t,
        jetpack="" if board is None else board.jetpack or "",
    )
