"""The candidate list: where its arrays lie, and how it is emptied. Decode and NMS tests fill and read it."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import HostKernels

from edgedet.runtime.kernels.candidates import CandidateList


@pytest.mark.parametrize("pictures", [1, 3, 129])
def test_reset_empties_the_counts_and_nothing_else(kernels: HostKernels, pictures: int) -> None:
    candidates = CandidateList(lambda shape, dtype: np.full(shape, 7, dtype), pictures, 5)
    assert isinstance(candidates.words, np.ndarray)
    candidates.reset(kernels)
    arrays = candidates.arrays(candidates.words)
    assert arrays.count.tolist() == [0] * pictures
    assert (candidates.words[: pictures * 5 * 8] == 7).all()


def test_arrays_are_views_that_fill_the_allocation() -> None:
    candidates = CandidateList(np.zeros, 2, 3)
    assert isinstance(candidates.words, np.ndarray)
    arrays = candidates.arrays(candidates.words)
    for value, array in enumerate(vars(arrays).values(), start=1):
        array[...] = value
    written = candidates.words.view(np.int32)
    assert written[-2:].tolist() == [6, 6]
    assert [len(np.unique(part)) for part in np.split(candidates.words, np.cumsum([24, 6, 6, 6, 6]))] == [1] * 6
