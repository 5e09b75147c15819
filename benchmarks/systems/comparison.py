"""Two answers to the same pictures: which objects are the same, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections
from edgedet.runtime.selection import Selection

__all__ = ["Answer", "Case", "Image", "System", "Tally"]

Image = npt.NDArray[np.uint8]
Answer = Detections | ClassMap | PanopticMap

SAME_OBJECT = 2.0
"""Objects of one class whose boxes differ by no more than this many pixels, on any side, may be the same."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model of edgedet, and the other implementation with the same weights.

    Attributes:
        model: the exported file.
        other: answers to a BGR picture as the other implementation does, in its pixels.
        selection: what edgedet answers with; the other one is set up to match.
        view: width and height at which pictures are shown to both, None where they may differ from the network's input.
            A map that the other implementation enlarges in two steps, or that it resamples with another filter, is
            compared where it does neither.
        mask_margin: pixels inside of each box's edge at which masks are not compared.
    """

    model: Path
    other: Callable[[Image], Answer]
    selection: Selection = field(default_factory=Selection)
    view: tuple[int, int] | None = None
    mask_margin: int = 0


@dataclass(frozen=True)
class System:
    """One network that is compared.

    Attributes:
        name: what the command line calls it.
        definition: the paper or package that says what it is.
        against: who answers beside edgedet.
        exported: what the file holds, in a few words.
        prepare: makes the case in a folder, for pictures like these.
        package: distribution that must be installed, None where edgedet's own suffice.
    """

    name: str
    definition: str
    against: str
    exported: str
    prepare: Callable[[Path, Sequence[Image]], Case]
    package: str | None = None


@dataclass
class Tally:
    """Sums over the pictures of one system; for ``mask_margin`` see ``Case``."""

    mask_margin: int = 0
    found: bool = False
    pictures: int = 0
    objects: int = 0
    matched: float = 0.0
    worst_box: float = 0.0
    worst_score: float = 0.0
    mask_ious: list[float] = field(default_factory=list)
    pixels: int = 0
    agreeing: int = 0
    qualities: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, other: Answer, found: Answer) -> None:
        """Compare the answers to one picture."""
        self.pictures += 1
        if isinstance(other, Detections) and isinstance(found, Detections):
            self._add_objects(other, found)
        elif isinstance(other, ClassMap) and isinstance(found, ClassMap):
            self.found |= len(np.unique(other.class_id)) > 1
            self.pixels += other.class_id.size
            self.agreeing += int(np.count_nonzero(other.class_id == found.class_id))
        elif isinstance(other, PanopticMap) and isinstance(found, PanopticMap):
            self._add_segments(other, found)
        else:
            raise TypeError(f"{type(other).__name__} beside {type(found).__name__}")

    def figures(self) -> dict[str, Any]:
        """Return the figures; None where the answers have no such part."""
        boxes = not self.pixels
        iou, unions, segments = (
            (sum(part) for part in zip(*self.qualities, strict=True)) if self.qualities else (0, 0, 0)
        )
        return {
            "pictures": self.pictures,
            "compared": self.objects if boxes else int(segments) or None,
            "matched": _share(self.matched, self.objects) if boxes else None,
            "worst_box_px": round(self.worst_box, 4) if boxes else None,
            "worst_score": round(self.worst_score, 6) if boxes else None,
            "mask_iou": round(float(np.mean(self.mask_ious)), 5) if self.mask_ious else None,
            "pixel_agreement": _share(self.agreeing, self.pixels) if self.pixels else None,
            "pq": _share(2 * iou, unions) if self.qualities else None,
        }

    def _add_objects(self, other: Detections, found: Detections) -> None:
        other, found = self._with_pixels(other), self._with_pixels(found)
        self.found |= len(other) > 0
        pairs = _pair(other, found)
        self.objects += max(len(other), len(found))
        self.matched += len(pairs)
        for a, b in pairs:
            self.worst_box = max(self.worst_box, float(np.abs(other.xyxy[a] - found.xyxy[b]).max()))
            self.worst_score = max(self.worst_score, abs(float(other.score[a]) - float(found.score[b])))
            if other.masks is not None and found.masks is not None:
                inside = self._inside(other.xyxy[a])
                self.mask_ious.append(_iou(other.masks.bitmap(a)[inside], found.masks.bitmap(b)[inside]))

    def _with_pixels(self, answer: Detections) -> Detections:
        """Leave out the objects without a mask to compare: several implementations do not answer with them."""
        masks = answer.masks
        if masks is None:
            return answer
        shown = [bool(masks.bitmap(index)[self._inside(box)].any()) for index, box in enumerate(answer.xyxy)]
        return answer.where(np.array(shown, np.bool_))

    def _inside(self, box: npt.NDArray[np.float32]) -> tuple[slice, slice]:
        """Return the rows and columns at which the masks of a box are compared: all, or those away from its edge."""
        if not self.mask_margin:
            return slice(None), slice(None)
        left, top = (np.ceil(box[:2]).astype(int) + self.mask_margin).tolist()
        right, bottom = (np.floor(box[2:]).astype(int) - self.mask_margin).tolist()
        return slice(top, max(bottom, top)), slice(left, max(right, left))

    def _add_segments(self, other: PanopticMap, found: PanopticMap) -> None:
        classes = [
            np.array([-1, *(item.class_id for item in answer.segments)])[_numbered(answer)] for answer in (other, found)
        ]
        self.pixels += classes[0].size
        self.agreeing += int(np.count_nonzero(classes[0] == classes[1]))
        self.found |= len(other.segments) > 0
        total = 0.0
        for a in other.segments:
            for b in found.segments:
                if a.class_id == b.class_id and (iou := _iou(other.mask(a), found.mask(b))) > 0.5:
                    total += iou
        self.qualities.append((total, len(other.segments) + len(found.segments), len(other.segments)))


def _pair(other: Detections, found: Detections) -> list[tuple[int, int]]:
    """Pair the objects, closest first: same class, boxes within reach, scores nearest where several fit."""
    if not len(other) or not len(found):
        return []
    apart = np.abs(other.xyxy[:, None] - found.xyxy[None]).max(axis=2)
    fits = (other.class_id[:, None] == found.class_id[None]) & (apart <= SAME_OBJECT)
    distance = apart + 10 * np.abs(other.score[:, None] - found.score[None])
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(other), np.bool_), np.ones(len(found), np.bool_)
    for flat in np.argsort(np.where(fits, distance, np.inf), axis=None, kind="stable")[
        : np.count_nonzero(fits)
    ].tolist():
        a, b = divmod(flat, len(found))
        if free[0][a] and free[1][b]:
            free[0][a] = free[1][b] = False
            pairs.append((a, b))
    return pairs


def _numbered(answer: PanopticMap) -> npt.NDArray[np.int64]:
    """Return the map with 1, 2, ... for its segments in the order of their table."""
    place = np.zeros(int(answer.segment_id.max()) + 1, np.int64)
    for index, item in enumerate(answer.segments):
        place[item.id] = index + 1
    return place[answer.segment_id]


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _share(part: float, whole: float) -> float:
    return round(float(part) / max(float(whole), 1.0), 6)
