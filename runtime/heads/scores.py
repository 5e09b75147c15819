"""What heads share about scores: the functions that turn logits into scores, and the choice of candidates.

The order of work is what makes decoding cheap: compare the raw values with the threshold first (a sigmoid is monotone,
so a logit is held against the inverse sigmoid of the threshold), and compute anything for the survivors only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.runtime.heads.head import Candidates
from edgedet.runtime.selection import Selection

__all__ = [
    "Chosen",
    "allowed_classes",
    "choose",
    "choose_softmax",
    "from_scores",
    "join",
    "logit",
    "sigmoid",
    "softmax",
]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_LARGEST_EXPONENT = 87.0
"""exp of this is the largest power of e that float32 holds, rounded down."""


class Chosen(NamedTuple):
    """Pairs of location and class that passed: three arrays of shape (N,), sorted by neither in particular."""

    location: IntArray
    class_id: IntArray
    value: FloatArray


def sigmoid(logits: Array) -> FloatArray:
    """Return 1 / (1 + exp(-x)) as float32, without overflow; NaN stays NaN."""
    values = np.maximum(np.asarray(logits, np.float32), np.float32(-_LARGEST_EXPONENT))
    result: FloatArray = np.float32(1) / (np.float32(1) + np.exp(-values))
    return result


def softmax(logits: Array) -> FloatArray:
    """Return the softmax over the last axis as float32."""
    logits = np.asarray(logits, np.float32)
    with np.errstate(invalid="ignore"):  # infinities of one sign give NaN, which never passes
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        result: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


def logit(probability: float) -> float:
    """Return a logit that whatever reaches the probability reaches too: the inverse sigmoid, a hair lower.

    The hair (a millionth of the probability) covers float32 rounding, so a logit threshold only prunes and the exact
    comparison is left to the score.
    """
    probability = min(probability, 1.0) * (1 - 1e-6)
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def allowed_classes(selection: Selection, classes: int) -> IntArray | None:
    """Return the class ids of ``selection.class_ids`` as an array, or None where all are wanted.

    Raises:
        SpecError: if one of them is not in 0..classes-1.
    """
    if selection.class_ids is None:
        return None
    wanted = np.array(sorted(set(selection.class_ids)), np.int64)
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= classes):
        raise SpecError(
            f"class ids in 0..{classes - 1}", ", ".join(map(str, selection.class_ids)), "Correct the classes to select"
        )
    return wanted


def choose(
    values: Array, threshold: float, selection: Selection, *, class_axis: int, multi_label: bool | None = None
) -> Chosen:
    """Choose the pairs of location and class whose value is at or above a threshold.

    A location answers with its best wanted class, or with all of them that pass where ``multi_label`` is set. NaN never
    passes, and does not keep another class of its location from passing.

    Args:
        values: (C, A) with ``class_axis`` 0, (A, C) with ``class_axis`` 1: scores or logits.
        threshold: in the unit of the values.
        selection: ``class_ids`` is applied; ``multi_label`` where the argument of that name is None.
        class_axis: which axis is the classes.
        multi_label: overrides the selection's.
    """
    wanted = allowed_classes(selection, values.shape[class_axis])
    if wanted is not None:
        values = values.take(wanted, axis=class_axis)
    passing = values >= threshold
    if selection.multi_label if multi_label is None else multi_label:
        chosen = _all_passing(values, passing, class_axis)
    else:
        chosen = _best_passing(values, passing, class_axis)
    return chosen if wanted is None else chosen._replace(class_id=wanted[chosen.class_id])


def choose_softmax(logits: Array, background: int | None, selection: Selection, *, multi_label: bool) -> Chosen:
    """Choose among (A, C) logits by their softmax at or above the confidence; class ids do not count the background.

    The softmax over all columns is at most that over the class and the background alone, sigmoid(class - background),
    so one subtraction rules most locations out before anything is exponentiated.

    Args:
        logits: (A, C), the background's column among them.
        background: index of that column (negative counts from the end), or None.
        selection: as for ``choose``.
        multi_label: as for ``choose``.
    """
    rows = np.arange(len(logits))
    if background is not None:
        foreground = np.delete(logits, background, axis=1)
        against = foreground - logits[:, background, None]
        rows = np.flatnonzero((against >= logit(selection.confidence)).any(axis=1))
    scores = softmax(logits[rows])
    if background is not None:
        scores = np.delete(scores, background, axis=1)
    chosen = choose(scores, selection.confidence, selection, class_axis=1, multi_label=multi_label)
    return chosen._replace(location=rows[chosen.location])


def from_scores(
    xyxy: Array, score: Array, class_id: IntArray, selection: Selection, location: IntArray | None = None
) -> Candidates:
    """Build candidates from decoded boxes and final scores, which are held against the confidence exactly."""
    score = np.asarray(score, np.float32)
    keep = score >= selection.confidence
    if keep.all():
        return Candidates(np.ascontiguousarray(xyxy, np.float32), score, class_id, location)
    kept = None if location is None else location[keep]
    return Candidates(np.ascontiguousarray(xyxy[keep], np.float32), score[keep], class_id[keep], kept)


def join(parts: Sequence[Candidates]) -> Candidates:
    """Put the candidates of several levels together."""
    if len(parts) == 1:
        return parts[0]
    return Candidates(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.class_id for part in parts]),
    )


def _all_passing(values: Array, passing: npt.NDArray[np.bool_], class_axis: int) -> Chosen:
    first, second = np.divmod(np.flatnonzero(passing), passing.shape[1] or 1)
    value = np.asarray(values[first, second], np.float32)
    return Chosen(second, first, value) if class_axis == 0 else Chosen(first, second, value)


def _best_passing(values: Array, passing: npt.NDArray[np.bool_], class_axis: int) -> Chosen:
    location = np.flatnonzero(passing.any(axis=class_axis))
    if not len(location):
        return Chosen(location, location, np.zeros(0, np.float32))
    rows = np.asarray(values.take(location, axis=1 - class_axis), np.float32)
    rows = rows.T if class_axis == 0 else rows
    class_id = rows.argmax(axis=1)
    value = rows[np.arange(len(rows)), class_id]
    broken = np.isnan(value)  # argmax takes NaN for the largest
    if broken.any():
        class_id[broken] = np.nanargmax(rows[broken], axis=1)
        value[broken] = np.nanmax(rows[broken], axis=1)
    return Chosen(location, class_id, value)
