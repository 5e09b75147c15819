"""The pictures on which the answers of two networks differ most, drawn side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.quantisation.judge import SURE, Answer, disagreement, target_detector
from edgedet.maps import ClassMap, PanopticMap
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections
from edgedet.runtime.capture import read_image
from edgedet.runtime.overlay import annotate

__all__ = ["PicturePair", "PicturePairs", "compare_pictures"]

SHOWN = 3
WIDEST = 640
"""Pixels of a drawn picture's longer side."""

QUALITY = 82


@dataclass(frozen=True, eq=False)
class PicturePair:
    """One picture with what both networks found in it.

    Attributes:
        path: the picture file.
        disagreement: of what either is sure of with all that the other found, the larger of both (see
            `judge.disagreement`).
        float_answer: what the float network is sure of (scores of at least `judge.SURE`), or its map.
        quantised_answer: likewise.
    """

    path: Path
    disagreement: float
    float_answer: Answer
    quantised_answer: Answer

    def draw(self) -> tuple[bytes, bytes]:
        """Return both answers drawn on the picture, as JPEG files."""
        image = read_image(self.path)
        return _jpeg(annotate(image, self.float_answer)), _jpeg(annotate(image, self.quantised_answer))

    def describe(self) -> tuple[str, str]:
        """Return both answers in words."""
        return _words(self.float_answer), _words(self.quantised_answer)


@dataclass(frozen=True, eq=False)
class PicturePairs:
    """What the comparison found.

    Attributes:
        compared: every picture that was looked at with its disagreement, the most different first.
        shown: the first few of them with the answers; only those that differ at all.
    """

    compared: tuple[tuple[Path, float], ...]
    shown: tuple[PicturePair, ...]


def compare_pictures(
    spec: ModelSpec,
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    paths: Sequence[Path],
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> PicturePairs:
    """Run two networks over pictures, one at a time, and keep the answers that differ most.

    Args:
        spec: how both are fed and read.
        before: the float network.
        after: the quantised network.
        paths: picture files.
        tell: told how many are done.
    """
    compared: list[tuple[Path, float]] = []
    shown: list[PicturePair] = []
    with target_detector(spec, before) as first, target_detector(spec, after) as second:
        for done, path in enumerate(paths, start=1):
            image = read_image(path)
            a, b = first(image), second(image)
            sure_a, sure_b = _sure(a), _sure(b)
            # Both ways, since what only one of them finds is a difference whichever it is.
            apart = max(disagreement([sure_a], [b]), disagreement([sure_b], [a]))
            compared.append((path, apart))
            if apart > 0.0:
                shown.append(PicturePair(path, apart, sure_a, sure_b))
                shown = sorted(shown, key=lambda pair: -pair.disagreement)[:SHOWN]
            tell(done, len(paths))
    return PicturePairs(tuple(sorted(compared, key=lambda item: -item[1])), tuple(shown))


def _sure(answer: Answer) -> Answer:
    return answer.where(answer.score >= SURE) if isinstance(answer, Detections) else answer


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    scale = WIDEST / max(image.shape[:2])
    if scale < 1.0:
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()


def _words(answer: Answer) -> str:
    if isinstance(answer, ClassMap):
        shares = sorted(answer.shares().items(), key=lambda item: -item[1])
        found = [f"{share:.0%} {answer.class_name(class_id)}" for class_id, share in shares if share >= 0.005]
    elif isinstance(answer, PanopticMap):
        found = _counted([answer.class_name(segment.class_id) for segment in answer.segments])
    else:
        found = _counted([item.class_name for item in answer])
    return ", ".join(found) or "nothing"


def _counted(names: list[str]) -> list[str]:
    return [f"{count} x {name}" for name, count in sorted(Counter(names).items())]
