"""What models answer with, in the pixels of the picture that was passed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgedet.masks import Mask, Masks
from edgedet.optional import require

if TYPE_CHECKING:
    import supervision

__all__ = ["Detection", "Detections"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detection:
    """One object: box in source pixels (left, top, right, bottom), score in 0..1, class id and name, mask if any."""

    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str
    track_id: int | None = None
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one picture, best score first.

    Attributes:
        xyxy: (N, 4) float32, left, top, right, bottom in source pixels; pixel edges, so a box that covers the whole
            picture is (0, 0, width, height).
        score: (N,) float32 in 0..1.
        class_id: (N,) int64, index into ``class_names``.
        class_names: names of all classes of the model; empty where it has none.
        track_id: (N,) int64 identities over time, or None where nothing tracks.
        masks: one a detection, or None where the model makes none.
    """

    xyxy: FloatArray
    score: FloatArray
    class_id: IntArray
    class_names: tuple[str, ...] = ()
    track_id: IntArray | None = None
    masks: Masks | None = None

    def __post_init__(self) -> None:
        count = len(self.xyxy)
        expected = {"xyxy": (count, 4), "score": (count,), "class_id": (count,), "track_id": (count,)}
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"Detections.{name} must have shape {shape}, got {value.shape}")
        if self.masks is not None and len(self.masks) != count:
            raise ValueError(f"Detections.masks must hold {count} masks, got {len(self.masks)}")

    @classmethod
    def empty(cls, class_names: tuple[str, ...] = ()) -> Detections:
        """Return a result without objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), class_names)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[Detection]:
        for index in range(len(self)):
            yield self.at(index)

    def at(self, index: int) -> Detection:
        """Return one object as plain Python values."""
        left, top, right, bottom = self.xyxy[index].tolist()
        class_id = int(self.class_id[index])
        track_id = None if self.track_id is None else int(self.track_id[index])
        return Detection(
            (left, top, right, bottom),
            float(self.score[index]),
            class_id,
            self.class_name(class_id),
            track_id,
            None if self.masks is None else self.masks.items[index],
        )

    def class_name(self, class_id: int) -> str:
        """Return the name of a class, or its number as text where the model names none."""
        return self.class_names[class_id] if 0 <= class_id < len(self.class_names) else str(class_id)

    def where(self, chosen: npt.NDArray[Any]) -> Detections:
        """Return the objects that a boolean mask or an index array chooses."""
        return replace(
            self,
            xyxy=self.xyxy[chosen],
            score=self.score[chosen],
            class_id=self.class_id[chosen],
            track_id=None if self.track_id is None else self.track_id[chosen],
            masks=None if self.masks is None else self.masks.where(chosen),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return a list of plain objects: box (left, top, right, bottom), score, class_id, class_name.

        track_id and mask (COCO's compressed run lengths) are added where there are any.
        """
        return [
            {
                "box": [round(value, 2) for value in item.xyxy],
                "score": round(item.score, 5),
                "class_id": item.class_id,
                "class_name": item.class_name,
                **({} if item.track_id is None else {"track_id": item.track_id}),
                **({} if rle is None else {"mask": rle}),
            }
            for item, rle in zip(self, self._rles(), strict=True)
        ]

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return COCO result records (bbox as left, top, width, height; masks as run lengths in segmentation).

        Args:
            image_id: id of the picture in the labelled set.
            category_ids: COCO category of each class id; the class id itself where None.
        """
        size = self.xyxy[:, 2:] - self.xyxy[:, :2]
        boxes = np.concatenate([self.xyxy[:, :2], size], axis=1).astype(float).tolist()
        return [
            {
                "image_id": image_id,
                "category_id": class_id if category_ids is None else category_ids[class_id],
                "bbox": [round(value, 3) for value in box],
                "score": round(score, 6),
                **({} if rle is None else {"segmentation": rle}),
            }
            for box, score, class_id, rle in zip(
                boxes, self.score.tolist(), self.class_id.tolist(), self._rles(), strict=True
            )
        ]

    @classmethod
    def from_coco(
        cls,
        records: Sequence[Mapping[str, Any]],
        class_names: tuple[str, ...] = (),
        category_ids: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Detections:
        """Build from COCO result or annotation records of one picture (a missing score reads as 1).

        Args:
            records: the result has masks where each of them has a segmentation.
            class_names: names of all classes, by class id.
            category_ids: COCO category of each class id; the class id itself where None.
            size: width and height of the picture. Outlines need it; without it masks are taken only where a run-length
                segmentation says it.

        Raises:
            DatasetError: if a segmentation is malformed or of a picture of another size.
        """
        boxes = np.array([record["bbox"] for record in records], np.float32).reshape(-1, 4)
        ids = [int(record["category_id"]) for record in records]
        classes = ids if category_ids is None else [list(category_ids).index(value) for value in ids]
        return cls(
            np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            np.array([record.get("score", 1.0) for record in records], np.float32),
            np.array(classes, np.int64),
            class_names,
            masks=_masks_from_coco(records, size),
        )

    def to_supervision(self) -> supervision.Detections:
        """Convert to ``supervision.Detections`` (extra ``supervision``), class names under ``data["class_name"]``.

        Masks become bitmaps of the whole picture, as supervision has them; mind the memory.
        """
        sv = require("supervision", extra="supervision", purpose="Detections.to_supervision")
        names = np.array([self.class_name(value) for value in self.class_id.tolist()], dtype=str)
        result: supervision.Detections = sv.Detections(
            xyxy=self.xyxy,
            mask=None if self.masks is None else self.masks.bitmaps(),
            confidence=self.score,
            class_id=self.class_id,
            tracker_id=self.track_id,
            data={"class_name": names},
        )
        return result

    @classmethod
    def from_supervision(cls, detections: supervision.Detections, class_names: tuple[str, ...] = ()) -> Detections:
        """Build from ``supervision.Detections``; a missing confidence reads as 1, a missing class as 0."""
        count = len(detections.xyxy)
        score, class_id, track_id = detections.confidence, detections.class_id, detections.tracker_id
        return cls(
            np.asarray(detections.xyxy, np.float32).reshape(-1, 4),
            np.ones(count, np.float32) if score is None else np.asarray(score, np.float32),
            np.zeros(count, np.int64) if class_id is None else np.asarray(class_id, np.int64),
            class_names,
            None if track_id is None else np.asarray(track_id, np.int64),
            None if detections.mask is None else Masks.from_bitmaps(np.asarray(detections.mask)),
        )

    def _rles(self) -> Sequence[dict[str, Any] | None]:
        return [None] * len(self) if self.masks is None else self.masks.to_rle()


def _masks_from_coco(records: Sequence[Mapping[str, Any]], size: tuple[int, int] | None) -> Masks | None:
    shapes = [record.get("segmentation") for record in records]
    for shape in shapes:
        if size is None and isinstance(shape, Mapping) and "size" in shape:
            size = (int(shape["size"][1]), int(shape["size"][0]))
    if size is None or not records or not all(shapes):
        return None
    return Masks(tuple(_mask_from_coco(shape, size) for shape in shapes), *size)


def _mask_from_coco(shape: Any, size: tuple[int, int]) -> Mask:
    if isinstance(shape, Mapping):
        return Masks.from_rle([shape], *size).items[0]
    return Mask.from_polygons(shape, *size)
