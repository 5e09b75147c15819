"""What a run has found, in one line: objects and segments are counted, classes of maps have shares of the pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections

__all__ = ["Contents", "count"]


@dataclass
class Contents:
    """Sums over the answers of one model.

    Attributes:
        numbers: class name -> objects or segments of it.
        shares: class name -> sum over the pictures of the share of their pixels.
        pictures: how many answers were added.
    """

    numbers: Counter[str] = field(default_factory=Counter)
    shares: dict[str, float] = field(default_factory=dict)
    pictures: int = 0
    _noun: str = ""

    def add(self, answer: Detections | ClassMap | PanopticMap) -> None:
        """Count what was found in one picture."""
        self.pictures += 1
        if isinstance(answer, ClassMap):
            for class_id, share in answer.shares().items():
                name = answer.class_name(class_id)
                self.shares[name] = self.shares.get(name, 0.0) + share
        elif isinstance(answer, PanopticMap):
            self._noun = "segment"
            self.numbers.update(answer.class_name(segment.class_id) for segment in answer.segments)
        else:
            self._noun = "object"
            self.numbers.update(answer.class_name(class_id) for class_id in answer.class_id.tolist())

    def summary(self, most: int) -> str:
        """Say how much of the most frequent classes there was, as the second half of a sentence."""
        if self.shares:
            largest = sorted(self.shares.items(), key=lambda item: -item[1])[:most]
            parts = [f"{share / self.pictures:.1%} {name}" for name, share in largest]
            return f": {', '.join(parts)}{_rest(len(self.shares) - most)}"
        parts = [f"{number} {name}" for name, number in self.numbers.most_common(most)] or ["none"]
        return f", {count(self.numbers.total(), self._noun)}: {', '.join(parts)}{_rest(len(self.numbers) - most)}"


def count(number: int, singular: str, plural: str = "") -> str:
    """Say how many there are of something."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _rest(classes: int) -> str:
    return f", and {count(classes, 'more class', 'more classes')}" if classes > 0 else ""
