from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.dataset import LabelledImage
from edgedet.errors import DatasetError


def labelled(**changes: Any) -> LabelledImage:
    fields: dict[str, Any] = {
        "image_id": 1,
        "path": Path("a.jpg"),
        "boxes": np.array([[0, 0, 1, 1]], np.float32),
        "class_id": np.zeros(1, np.int64),
        "iscrowd": np.zeros(1, np.bool_),
        "area": np.ones(1, np.float32),
    }
    return LabelledImage(**fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": np.zeros((1, 5), np.float32)},
        {"class_id": np.zeros(2, np.int64)},
        {"iscrowd": np.zeros((1, 1), np.bool_)},
        {"area": np.zeros(0, np.float32)},
    ],
)
def test_shapes_are_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must have shape"):
        labelled(**changes)


def test_outlines_are_counted() -> None:
    with pytest.raises(ValueError, match="outlines must hold 1 outlines, got 2"):
        labelled(outlines=({"size": [1, 1], "counts": [1]},) * 2)


def test_boxes_in_pixels_stay_as_they_are() -> None:
    image = labelled(width=20, height=10)
    assert image.sized(20, 10).boxes is image.boxes


@pytest.mark.parametrize("size", [(10, 20), (40, 20)])
def test_a_picture_of_another_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DatasetError, match=r"a picture of 20x10 pixels, as the labels say, got 'a\.jpg' with"):
        labelled(width=20, height=10).sized(*size)
