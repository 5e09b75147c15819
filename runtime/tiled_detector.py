"""TiledDetector: a detector that looks at a large picture through tiles, with the stages of a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import overload

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections
from edgedet.runtime.capture import Frame
from edgedet.runtime.detector import Detector, Picture, Prepared, image_of
from edgedet.runtime.engines.engine import Engine
from edgedet.runtime.heads import MapHead, head_from_spec
from edgedet.runtime.preprocess import check_image
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiling import Tiling, View
from edgedet.runtime.view_merge import merge_views

__all__ = ["TiledDetector", "TiledPicture"]

Image = npt.NDArray[np.uint8]

_BATCH = 8
"""Tiles a run where the network takes any number."""


@dataclass(frozen=True, eq=False)
class TiledPicture:
    """A picture with the views through which it is looked at, and what they show as soon as that is known.

    Attributes:
        image: BGR uint8 (H, W, 3); the views are parts of it, nothing is copied.
        views: the tiles, and the whole picture where it is wanted.
        found: of each view, in its own pixels; empty before inference.
    """

    image: Image
    views: tuple[View, ...]
    found: tuple[Detections, ...] = ()


class TiledDetector:
    """A detector whose pictures may be much larger than what its network takes.

    Each picture is looked at through overlapping tiles, and what they show is merged (see ``runtime/view_merge.py``).
    It has the stages of a plain Detector, so that a Stream runs it, but ``infer`` does the pre- and post-processing of
    the tiles too: the next batch of tiles is prepared and the last one decoded while one is inferred, and only these
    are in memory, whatever the size of the picture.

    Args:
        detector: what looks at each tile; closed with this one. Its selection holds for each tile, and
            ``max_detections`` also for the picture.
        tiling: the tiles.

    Raises:
        SpecError: if the model answers with maps of the whole picture instead of boxes.
    """

    takes_frames = False
    batch = 1
    """Pictures of one run: each fills batches of its own tiles."""

    def __init__(self, detector: Detector[Detections], tiling: Tiling) -> None:
        head = head_from_spec(detector.spec.head)
        if isinstance(head, MapHead):
            raise SpecError(
                "a model that answers with boxes, to look at a picture through tiles",
                f"'{detector.spec.name}', of task {detector.spec.task}",
                "Leave out --tile",
            )
        if detector.spec.proposals is not None:
            raise SpecError(
                "a model that looks at whole pictures, to look at a picture through tiles",
                f"'{detector.spec.name}', which wants proposals",
                "Leave out --tile",
            )
        self.detector = detector
        self.tiling = tiling
        self._batch = detector.spec.input.batch or (_BATCH if head.batched else 1)

    @property
    def spec(self) -> ModelSpec:
        """How the network is fed and read."""
        return self.detector.spec

    @property
    def engine(self) -> Engine:
        """What runs the network."""
        return self.detector.engine

    @property
    def selection(self) -> Selection:
        """Thresholds and limits."""
        return self.detector.selection

    def with_selection(self, selection: Selection) -> TiledDetector:
        """Return a detector with other thresholds on the same engine."""
        return TiledDetector(self.detector.with_selection(selection), self.tiling)

    @overload  # a str is also a sequence of str
    def __call__(self, pictures: Picture) -> Detections: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Detections]: ...
    def __call__(self, pictures: Picture | Sequence[Picture]) -> Detections | list[Detections]:
        """Detect in one picture, or in each of a list, one after the other (see ``Detector``)."""
        if isinstance(pictures, (np.ndarray, Frame, str, PathLike)):
            return self.postprocess(self.infer(self.preprocess([image_of(pictures)])))[0]
        return [self(picture) for picture in pictures]

    def preprocess(self, images: Sequence[Image]) -> list[TiledPicture]:
        """Lay the tiles over BGR uint8 (H, W, 3) pictures.

        Raises:
            ImageError: if a picture has another shape or type.
        """
        for image in images:
            check_image(image)
        return [TiledPicture(image, self.tiling.views(image.shape[1], image.shape[0])) for image in images]

    def infer(self, prepared: Sequence[TiledPicture]) -> list[TiledPicture]:
        """Detect in every view of the pictures."""
        return [TiledPicture(picture.image, picture.views, self._look(picture)) for picture in prepared]

    def postprocess(self, raw: Sequence[TiledPicture]) -> list[Detections]:
        """Merge what the views of each picture show, in source pixels."""
        return [
            merge_views(
                picture.found,
                picture.views,
                (picture.image.shape[1], picture.image.shape[0]),
                merge=self.tiling.merge,
                iou=self.tiling.iou,
                selection=self.selection,
            )
            for picture in raw
        ]

    def close(self) -> None:
        """Close the engine."""
        self.detector.close()

    def __enter__(self) -> TiledDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self, picture: TiledPicture) -> tuple[Detections, ...]:
        tiles = [view.of(picture.image) for view in picture.views]
        batches = [tiles[start : start + self._batch] for start in range(0, len(tiles), self._batch)]
        detector = self.detector
        if len(batches) == 1:
            return tuple(detector.postprocess(detector.infer(detector.preprocess(tiles))))
        found: list[Future[list[Detections]]] = []
        # One thread beside this one takes its orders in turn: decode a batch, prepare the one after the next. So it is
        # never more than one batch ahead, and no answer of the network waits for longer than a batch.
        with ThreadPoolExecutor(1, thread_name_prefix="edgedet-tiles") as beside:
            ahead: Future[Prepared] = beside.submit(detector.preprocess, batches[0])
            for following in [*batches[1:], None]:
                prepared = ahead.result()
                if following is not None:
                    ahead = beside.submit(detector.preprocess, following)
                found.append(beside.submit(detector.postprocess, detector.infer(prepared)))
        return tuple(detections for batch in found for detections in batch.result())
