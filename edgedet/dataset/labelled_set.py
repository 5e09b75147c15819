"""LabelledSet and LabelledImage: pictures with the boxes that belong in them, whatever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedet.errors import DatasetError
from edgedet.rle import Rle

__all__ = ["LabelledImage", "LabelledSet", "Outline"]

Outline = tuple[npt.NDArray[np.float32], ...] | Rle
"""The shape of an object: the polygons that it is made of, each (K, 2) in the boxes' units, or COCO run lengths."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One picture of a labelled set; the picture itself is not read.

    Attributes:
        image_id: what the set calls the picture.
        path: the picture's file, which may be missing or broken.
        boxes: (N, 4) float32, left, top, right, bottom, in pixels of the picture, or in 0..1 where ``normalized``.
        class_id: (N,) int64, index into the set's class names.
        iscrowd: (N,) bool, boxes around a group of objects, which are neither to be found nor wrong to find.
        area: (N,) float32, area of the object's outline where the set has one, else of its box, in the boxes' units.
        width: width of the picture in pixels, or None where the set does not say.
        height: height of the picture in pixels, or None where the set does not say.
        normalized: whether the boxes still wait for the picture's size (see ``sized``).
        outlines: one an object, or None where not every object has one.
    """

    image_id: int | str
    path: Path
    boxes: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    iscrowd: npt.NDArray[np.bool_]
    area: npt.NDArray[np.float32]
    width: int | None = None
    height: int | None = None
    normalized: bool = False
    outlines: tuple[Outline, ...] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        expected = {"boxes": (count, 4), "class_id": (count,), "iscrowd": (count,), "area": (count,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"LabelledImage.{name} must have shape {shape}, got {getattr(self, name).shape}")
        if self.outlines is not None and len(self.outlines) != count:
            raise ValueError(f"LabelledImage.outlines must hold {count} outlines, got {len(self.outlines)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def sized(self, width: int, height: int) -> LabelledImage:
        """Return the same with its boxes in pixels, now that the picture was read and its size is known.

        Raises:
            DatasetError: if the set was labelled on a picture of another size, so that the boxes do not fit.
        """
        if self.width not in (None, width) or self.height not in (None, height):
            raise DatasetError(
                f"a picture of {self.width}x{self.height} pixels, as the labels say",
                f"'{self.path}' with {width}x{height}",
                "Use the pictures that were labelled, or label these",
            )
        for outline in self.outlines or ():
            if isinstance(outline, Mapping) and tuple(outline["size"]) != (height, width):
                raise DatasetError(
                    f"masks of {width}x{height} pixels for '{self.path}'",
                    f"one of {outline['size'][1]}x{outline['size'][0]}",
                    "Use the pictures that were labelled, or label these",
                )
        if not self.normalized:
            return replace(self, width=width, height=height)
        scale = np.array([width, height, width, height], np.float32)
        area = self.area * np.float32(width * height)
        sized = replace(self, boxes=self.boxes * scale, area=area, width=width, height=height, normalized=False)
        if self.outlines is None:
            return sized
        outlines = (
            outline if isinstance(outline, Mapping) else tuple(polygon * scale[:2] for polygon in outline)
            for outline in self.outlines
        )
        return replace(sized, outlines=tuple(outlines))


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Labelled pictures and the names of their classes.

    Attributes:
        path: the file or folder that holds the labels.
        class_names: one name per class id.
        images: the pictures in a fixed order.
        notes: what the user should know about how the set was read, as sentences without a full stop.
    """

    path: Path
    class_names: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)
