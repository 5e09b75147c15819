"""The contract of a proposal method: a picture -> regions in which there may be an object of any class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Proposer"]


@dataclass(frozen=True)
class Proposer(ABC):
    """A way to propose regions: a frozen dataclass in a file of its own, whose fields are its parameters in the spec.

    Class attributes:
        name: what the ModelSpec calls it; also the name of its file.
    """

    name: ClassVar[str]

    @abstractmethod
    def prepare(self) -> None:
        """Make sure that all that it needs is there.

        Raises:
            MissingDependencyError: if an optional package is not installed.
        """

    @abstractmethod
    def __call__(self, image: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.float32]:
        """Propose regions of a picture; the same ones each time, from whichever thread.

        Args:
            image: (H, W, 3) uint8 BGR.
            count: at most this many.

        Returns:
            (N, 4) float32 xyxy in the picture's pixels (pixel edges), within it, no two alike, best first, at least
            one.
        """
