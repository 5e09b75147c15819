"""Lists of objects with masks, in another order and with a swapped end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedet.export.verify import compare
from edgedet.runtime.heads import EndToEnd

HEAD = EndToEnd(packing="separate", batch_axis=False, class_offset=-1, roi_masks=True)
NAMES = ("boxes", "scores", "labels", "masks")


def objects(count: int = 6) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [
        rng.uniform(0, 300, (count, 4)).astype(np.float32),
        np.linspace(0.9, 0.1, count, dtype=np.float32),
        rng.integers(1, 4, count),
        rng.random((count, 1, 28, 28), np.float32),
    ]


def test_masks_go_with_their_objects() -> None:
    expected = objects()
    order = np.array([1, 0, 2, 3, 5, 4])
    assert all(found.ok for found in compare(HEAD, NAMES, expected, [part[order] for part in expected], 1e-3))
    assert all(found.ok for found in compare(HEAD, NAMES, expected, objects(), 1e-3))


@pytest.mark.parametrize("index", range(4))
def test_what_differs_is_named(index: int) -> None:
    expected, got = objects(), objects()
    got[index][2] = got[index][2] * 2 + 1
    found = compare(HEAD, NAMES, expected, got, 1e-3)
    assert not found[index].ok


def test_no_objects_on_either_side() -> None:
    nothing = [part[:0] for part in objects()]
    assert all(found.ok for found in compare(HEAD, NAMES, nothing, nothing, 1e-3))
    assert not all(found.ok for found in compare(HEAD, NAMES, objects(), nothing, 1e-3))
