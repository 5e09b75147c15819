"""What heads with few locations do to raw values: an activation named in their parameters, over all of them at once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.runtime.heads.scores import sigmoid, softmax

__all__ = ["Activation", "check_background", "class_probabilities"]

Activation = Literal["none", "sigmoid", "softmax"]
"""What is left to do to class scores; ``none`` where the network has done it."""


def class_probabilities(
    values: npt.NDArray[Any], activation: Activation, background: int | None
) -> npt.NDArray[np.float32]:
    """Activate (A, C) class scores and leave the background's column out.

    Args:
        values: raw class scores, the background among them.
        activation: what to do to them; a softmax runs over all columns.
        background: index of the background's column, or None.
    """
    if activation == "softmax":
        scores = softmax(values)
    else:
        scores = sigmoid(values) if activation == "sigmoid" else np.asarray(values, np.float32)
    return scores if background is None else np.delete(scores, background, axis=1)


def check_background(background: int | None, classes: int) -> None:
    """Hold the background's column against the number of class names.

    Raises:
        SpecError: if there is no such column.
    """
    if background is not None and not 0 <= background <= classes:
        raise SpecError(
            f"a head.background in 0..{classes}", str(background), "Use the index of the background's score column"
        )
