"""Decode kernels on the host beside the heads that they repeat: same candidates, in whatever order threads run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from host_kernels import HostKernels

from edgedet.runtime.heads.head import BoxHead
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.decode import Setting, decoder_for
from edgedet.runtime.selection import Selection

__all__ = ["SELECTIONS", "Device", "Found", "assert_decoded", "halved", "poisoned"]

Array = npt.NDArray[Any]

SELECTIONS = [
    Selection(0.5),
    Selection(0.5, multi_label=True),
    Selection(0.4, class_ids=(2, 0, 2)),
    Selection(0.4, class_ids=(1,), multi_label=True),
    Selection(0.0),
    Selection(1.0),
    Selection(0.3, class_ids=()),
]
"""For models of at least three classes."""


class Found(NamedTuple):
    """The candidates of a picture, in the order of their ranks.

    Attributes:
        count: how many were found, written or not.
    """

    xyxy: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]
    location: npt.NDArray[np.int32]
    rank: npt.NDArray[np.uint32]
    count: int


class Device:
    """Kernels whose threads run in the order that a seed says.

    Args:
        kernels: built for the host.
        order: 0 for one after the other, anything else shuffles.
    """

    def __init__(self, kernels: HostKernels, order: int = 0) -> None:
        self._kernels = kernels
        self._order = order
        self.names: list[str] = []

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        """Run a kernel (see ``Launcher``)."""
        self.names.append(name)
        self._kernels.launch(name, grid, block, *arguments, order=self._order)

    def decode(
        self,
        head: BoxHead,
        outputs: Sequence[Array],
        size: tuple[int, int],
        classes: int,
        selection: Selection,
        capacity: int = 4096,
    ) -> list[Found]:
        """Decode a batch into a list of candidates that is full of rubbish."""
        pictures = len(outputs[0]) if head.batched else 1
        candidates = CandidateList(lambda shape, dtype: np.full(shape, 0xCDCDCDCD, dtype), pictures, capacity)
        decoder = decoder_for(head, Setting(size, classes, selection, upload=np.array))
        candidates.reset(self)
        decoder.launch(self, outputs, candidates)
        assert isinstance(candidates.words, np.ndarray)
        arrays = candidates.arrays(candidates.words)
        found = []
        for picture, count in enumerate(arrays.count.tolist()):
            written = min(count, capacity)
            rank = arrays.rank[picture, :written]
            assert len(np.unique(rank)) == written
            order = np.argsort(rank)
            parts = (arrays.xyxy, arrays.score, arrays.class_id, arrays.location, arrays.rank)
            found.append(Found(*(part[picture, :written][order] for part in parts), count=count))
        return found


def assert_decoded(
    kernels: HostKernels,
    head: BoxHead,
    outputs: Sequence[Array],
    size: tuple[int, int],
    classes: int,
    selection: Selection,
    *,
    pixels: float = 0.0,
    score: float = 0.0,
    capacity: int = 4096,
    orders: Sequence[int] = (0, 1, 20),
) -> list[int]:
    """Hold the kernel against the head's own decode, in several orders of threads; return the number of candidates.

    Args:
        kernels: built for the host.
        head: the layout.
        outputs: with the batch axis, where the head has one.
        size: width and height of the network's input in pixels.
        classes: of the model.
        selection: what to choose.
        pixels: how far coordinates may lie apart, plus 2e-6 of them; 0 for the same bits.
        score: how far scores may lie apart, as a part of them; 0 for the same bits.
        capacity: of the candidate list.
        orders: of threads; the first is held against the head, the others against the first.
    """
    pictures = (
        [[output[index] for output in outputs] for index in range(len(outputs[0]))] if head.batched else [outputs]
    )
    with np.errstate(all="ignore"):
        expected = [head.decode(picture, size, selection) for picture in pictures]
    answers = [Device(kernels, order).decode(head, outputs, size, classes, selection, capacity) for order in orders]
    for wanted, *found in zip(expected, *answers, strict=True):
        first = found[0]
        assert len(wanted) <= capacity
        assert first.count == len(wanted)
        assert first.class_id.tolist() == wanted.class_id.tolist()
        if wanted.location is not None:
            assert first.location.tolist() == wanted.location.tolist()
        np.testing.assert_allclose(first.score, wanted.score, rtol=score, atol=0)
        np.testing.assert_allclose(first.xyxy, wanted.xyxy, rtol=2e-6 if pixels else 0, atol=pixels)
        for other in found[1:]:
            for one, two in zip(first, other, strict=True):
                np.testing.assert_array_equal(one, two)
    return [len(wanted) for wanted in expected]


def halved(outputs: Sequence[Array]) -> list[Array]:
    """Return float32 outputs as float16; others as they are."""
    return [output.astype(np.float16) if output.dtype == np.float32 else output for output in outputs]


def poisoned(outputs: Sequence[Array], seed: int = 0, share: float = 0.02) -> list[Array]:
    """Return copies in which a share of the values is NaN, and as many inf and -inf."""
    rng = np.random.default_rng(seed)
    copies = [output.copy() for output in outputs]
    for copy in copies:
        for value in (np.nan, np.inf, -np.inf):
            copy[rng.random(copy.shape) < share] = value
    return copies
