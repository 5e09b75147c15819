"""StreamResult: one frame and what was found in it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.overlay import annotate

__all__ = ["Latencies", "StreamResult"]


@dataclass(frozen=True)
class Latencies:
    """Milliseconds that each stage worked on a frame, or on its batch, without waiting for the stages beside it."""

    capture: float = 0.0
    preprocess: float = 0.0
    infer: float = 0.0
    postprocess: float = 0.0


@dataclass(frozen=True, eq=False)
class StreamResult:
    """One frame and what was found in it.

    Attributes:
        frame: the picture, ``frame.image``; yours as long as you keep it. A camera has its buffer back by now, unless
            the detector reads frames where they lie (on a GPU): then the planes are the camera's until the result after
            the next is asked for, or ``frame.release()``.
        answer: what the model answers with, in pixels of ``frame``: Detections, a ClassMap or a PanopticMap.
        latencies: how long each stage took.
        dropped: frames of this source lost or skipped between its result before and this one.
        source_index: place of the source among the stream's sources.
        source_name: name of the source; ``frame.name`` may be that of a file in it.
        age_ms: milliseconds from the frame's timestamp to the delivery of the result; None where the source is not
            live, since its timestamps are positions in a recording.
    """

    frame: Frame
    answer: Detections | ClassMap | PanopticMap
    latencies: Latencies
    dropped: int
    source_index: int = 0
    source_name: str = ""
    age_ms: float | None = None

    @property
    def detections(self) -> Detections:
        """The answer of a model that finds boxes.

        Raises:
            SpecError: if the model answers with a map.
        """
        if not isinstance(self.answer, Detections):
            raise SpecError(
                "a model that answers with boxes",
                f"one that answers with a {type(self.answer).__name__}",
                "Read result.answer",
            )
        return self.answer

    @functools.cached_property
    def annotated(self) -> npt.NDArray[np.uint8]:
        """A copy of the picture with the answer drawn on it, BGR uint8 (H, W, 3); drawn once."""
        return annotate(self.frame.image, self.answer)
