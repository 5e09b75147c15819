"""ProposalDetector: a detector whose network is given regions of the picture to look at (R-CNN, Fast R-CNN)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.model_spec import ModelSpec, TensorSpec
from edgedet.results import Detections
from edgedet.runtime.detector import Detector, Prepared, RawBatch
from edgedet.runtime.engines.engine import Engine
from edgedet.runtime.heads.proposal_boxes import check_stage
from edgedet.runtime.preprocess import Placement, check_image
from edgedet.runtime.proposals import Proposer, RegionWarper, proposer_from_spec
from edgedet.runtime.selection import Selection

__all__ = ["ProposalDetector", "ProposedPicture"]

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

_CROPS = 32
"""Crops a run where the network takes any number: 19 MB at 224x224."""


@dataclass(frozen=True, eq=False)
class ProposedPicture(Prepared):
    """A picture whose regions are known. ``tensor`` is the picture itself, or the first batch of its crops.

    Attributes:
        image: BGR uint8 (H, W, 3).
        regions: (R, 4) float32 xyxy in its pixels, best first.
    """

    image: Image
    regions: FloatArray


class ProposalDetector(Detector[Detections]):
    """A detector with a stage that proposes regions to its network (see ``ModelSpec.proposals``).

    Pictures are run one by one. With crops, ``infer`` warps the next batch while the network looks at the last one, so
    that two of them are in memory, however many regions there are.

    Args:
        spec: how to feed the network and read it.
        engine: what runs it; closed with the detector.
        selection: thresholds and limits.
        proposer: what proposes regions in place of the method that the spec names.

    Raises:
        SpecError: if the spec does not fit the engine's network.
        MissingDependencyError: if the package that makes the proposals is not installed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        selection: Selection | None = None,
        *,
        proposer: Proposer | None = None,
    ) -> None:
        if spec.proposals is None:
            raise SpecError("a model that wants proposals", f"'{spec.name}' without", "Use a Detector")
        self._proposals = spec.proposals
        self._rows = -1
        super().__init__(spec, engine, selection)
        self._step = 1
        self._crops = spec.input.batch or _CROPS
        self._proposer = proposer_from_spec(spec.proposals) if proposer is None else proposer
        self._proposer.prepare()
        self._warper = RegionWarper(spec.input, spec.proposals.context)

    def with_selection(self, selection: Selection) -> ProposalDetector:
        """Return a detector with other thresholds on the same engine."""
        return ProposalDetector(self.spec, self.engine, selection, proposer=self._proposer)

    def preprocess(self, images: Sequence[Image]) -> ProposedPicture:
        """Find the regions of one BGR uint8 (H, W, 3) picture, and make the first input tensor of it.

        Raises:
            ImageError: if the picture has another shape or type.
        """
        (image,) = images
        check_image(image)
        regions = self._proposer(image, self._proposals.count)
        if self._proposals.feed == "boxes":
            return ProposedPicture(*self._preprocessor([image]), image, regions)
        height, width = image.shape[:2]
        # Crops are found where they were cut: boxes come back in the picture's own pixels.
        placement = Placement(width, height, 0, 0, width, height)
        return ProposedPicture(self._warper(image, regions[: self._crops]), [placement], image, regions)

    def feeds(self, prepared: Prepared) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        """Yield what the engine is given: the picture with its regions, or batch after batch of its crops."""
        assert isinstance(prepared, ProposedPicture)
        if self._proposals.feed == "crops":
            for crops in self._crop_batches(prepared):
                yield (self._filled(crops),)
        else:
            yield self._with_regions(prepared.tensor, prepared.placements[0].to_input(prepared.regions))

    def infer(self, prepared: Prepared) -> RawBatch:
        """Run the engine on all regions; they follow the network's outputs, in the pixels that the head answers in."""
        assert isinstance(prepared, ProposedPicture)
        count, placement = len(prepared.regions), prepared.placements[0]
        batches = [self.engine.infer(*tensors) for tensors in self.feeds(prepared)]
        # What a batch was filled up with is at the end.
        outputs = [np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)]
        crops = self._proposals.feed == "crops"
        regions = prepared.regions if crops else placement.to_input(prepared.regions)
        return RawBatch([*outputs, regions], prepared.placements)

    def _crop_batches(self, prepared: ProposedPicture) -> Iterator[npt.NDArray[np.generic]]:
        following = [
            prepared.regions[start : start + self._crops]
            for start in range(self._crops, len(prepared.regions), self._crops)
        ]
        with ThreadPoolExecutor(1, thread_name_prefix="edgedet-crops") as beside:
            tensor = prepared.tensor
            for part in following:
                ahead = beside.submit(self._warper, prepared.image, part)
                yield tensor
                tensor = ahead.result()
            yield tensor

    def _filled(self, crops: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        missing = (self.spec.input.batch or 0) - len(crops)
        if missing <= 0:
            return crops
        return np.concatenate([crops, np.zeros((missing, *crops.shape[1:]), crops.dtype)])

    def _with_regions(
        self, picture: npt.NDArray[np.generic], regions: FloatArray
    ) -> tuple[npt.NDArray[np.generic], ...]:
        rows = regions
        if self._rows > len(regions):
            rows = np.concatenate([regions, np.repeat(regions[:1], self._rows - len(regions), axis=0)])
        by_name = {self._proposals.tensor: rows}
        return tuple(by_name.get(value.name, picture) for value in self.engine.inputs)

    def _check_stage(self) -> None:
        check_stage(self._head, self.spec.proposals)

    def _check_input(self) -> None:
        if self._proposals.feed == "crops":
            super()._check_input()
            return
        name = self._proposals.tensor
        pictures = [value for value in self.engine.inputs if value.name != name]
        if len(pictures) != 1 or len(self.engine.inputs) != 2:
            raise SpecError(
                f"a network with two inputs, the picture and {name!r}, which takes its proposals",
                f"the inputs {', '.join(value.name for value in self.engine.inputs)}",
                "Correct proposals.tensor in the spec",
            )
        self._check_picture(pictures[0])
        (regions,) = (value for value in self.engine.inputs if value.name == name)
        self._rows = _check_rows(regions, self._proposals.count)


def _check_rows(tensor: TensorSpec, count: int) -> int:
    """Return how many regions the network takes in a run, -1 for any number.

    Raises:
        SpecError: if it takes something else than boxes, or fewer than are proposed.
    """
    if len(tensor.shape) != 2 or tensor.shape[1] not in (-1, 4) or tensor.dtype != "float32":
        raise SpecError(
            f"regions x 4 float32 in the input {tensor.name!r}, which takes the proposals",
            f"{tensor.dtype} {list(tensor.shape)}",
            "Correct proposals.tensor in the spec, or export the network again",
        )
    rows = tensor.shape[0]
    if 0 <= rows < count:
        raise SpecError(
            f"at most {rows} proposals, as many as the input {tensor.name!r} takes",
            f"a proposals.count of {count}",
            f"Set proposals.count to {rows} in the spec, or export the network with a free axis",
        )
    return rows
