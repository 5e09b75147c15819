"""What the stages of a stream hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgedet.runtime.capture import Frame

__all__ = ["Batch", "End", "Item", "Job"]


@dataclass(eq=False)
class Job:
    """A frame on its way: of which source, and the milliseconds that reading it took."""

    index: int
    frame: Frame
    capture_ms: float


@dataclass(eq=False)
class Batch:
    """Frames that are inferred in one run: ``payload`` is what the last stage made of them.

    After ``infer`` the payload is a future, so that batches stand in order before their answers are there. ``spent_ms``
    has the milliseconds of each stage that is done.
    """

    jobs: list[Job]
    payload: Any = None
    spent_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class End:
    """After the last frame: why there are no more, or None where every source was read to its end."""

    error: BaseException | None = None


Item = Batch | End
