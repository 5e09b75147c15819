"""The contract of an engine: something that runs one network."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgedet.model_spec import TensorSpec

__all__ = ["Engine"]


class Engine(Protocol):
    """Runs a network. The detector owns pre- and post-processing; an engine only sees tensors."""

    @property
    def name(self) -> str:
        """Backend and device in words, for example ``onnxruntime (CPU)``."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The tensors to feed; -1 in a shape is a dynamic axis."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that come back, in the order of ``infer``'s answer."""

    def infer(self, *tensors: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        """Run the network on its input tensors, in the order of ``inputs``; may be called from several threads.

        Raises:
            EngineError: if the backend fails, with what it said.
        """

    def close(self) -> None:
        """Free the network; calling it twice is harmless."""
