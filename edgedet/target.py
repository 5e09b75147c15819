"""Target: the device that an engine is built for, and whether one that is here can run it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgedet.errors import SpecError

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A GPU as far as engines depend on it.

    Attributes:
        compute_capabilities: of the GPU, or of all GPUs that an ahead-of-time build was made for (``sm_87``).
        gpu: its name as the driver tells it; empty for an ahead-of-time build.
        driver: the driver's version; empty where unknown.
        l4t: release of the Jetson's software (``36.4.3``); empty on anything else.
        jetpack: the same as a JetPack version, where its package is installed.
    """

    compute_capabilities: tuple[str, ...]
    gpu: str = ""
    driver: str = ""
    l4t: str = ""
    jetpack: str = ""

    def __post_init__(self) -> None:
        if not self.compute_capabilities:
            raise SpecError("a compute capability", "none", "Name one, for example 'sm_87'")
        wrong = [name for name in self.compute_capabilities if not re.fullmatch(r"sm_\d{2,3}", name)]
        if wrong:
            raise SpecError("compute capabilities such as 'sm_87'", repr(wrong[0]), "Correct the target")

    def __str__(self) -> str:
        capabilities = ", ".join(self.compute_capabilities)
        return f"{self.gpu} ({capabilities})" if self.gpu else capabilities

    def differs_from(self, here: Target, *, any_gpu: bool) -> str | None:
        """Say in words why the device that is here cannot run what was built for this one; None where it can.

        Args:
            here: the device that is to run it, with one compute capability.
            any_gpu: whether any GPU of the same compute capability will do, because the engine was built ahead of time
                or for compatible hardware; otherwise it must be the same model of GPU.
        """
        capability = here.compute_capabilities[0]
        if capability not in self.compute_capabilities:
            return f"built for {self}, this is {here}"
        if not any_gpu and self.gpu and here.gpu and self.gpu != here.gpu:
            return f"built on a {self.gpu}, this is a {here.gpu}"
        return None
