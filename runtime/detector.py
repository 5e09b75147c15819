"""Detector: pictures -> detections for one model, in three stages that a stream can overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.model_spec import ModelSpec, TensorSpec
from edgedet.results import Detections
from edgedet.runtime.capture import Frame, read_image
from edgedet.runtime.engines.engine import Engine
from edgedet.runtime.heads import BoxHead, Candidates, MapHead, MaskHead, head_from_spec
from edgedet.runtime.heads.proposal_boxes import check_stage
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import Placement, Preprocessor
from edgedet.runtime.selection import Selection

__all__ = ["Detector", "Picture", "Prepared", "RawBatch", "image_of"]

Image = npt.NDArray[np.uint8]
Picture = Image | Frame | str | PathLike[str]
"""A BGR uint8 (H, W, 3) array, a frame of a source, or the path of a picture file."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch that is ready for the engine: input tensor, and where each picture lies in it."""

    tensor: npt.NDArray[np.generic]
    placements: list[Placement]


@dataclass(frozen=True, eq=False)
class RawBatch:
    """What the engine answered for a batch."""

    outputs: list[npt.NDArray[Any]]
    placements: list[Placement]


Answer = TypeVar("Answer", bound=Detections | ClassMap | PanopticMap)


class Detector(Generic[Answer]):
    """One model on one engine: call it with a picture, a path, or a list of them.

    What it answers with follows from the model's task: Detections for ``detect``, ``instance`` and ``localize``, a
    ClassMap for ``semantic``, a PanopticMap for ``panoptic``.

    The stages ``preprocess``, ``infer`` and ``postprocess`` may run in different threads.

    Args:
        spec: how to feed the network and read it.
        engine: what runs it; closed with the detector.
        selection: thresholds and limits.

    Attributes:
        takes_frames: whether ``preprocess`` takes frames as they are, in any pixel format, and not only pictures.

    Raises:
        SpecError: if the spec does not fit the engine's network.
    """

    takes_frames = False

    def __init__(self, spec: ModelSpec, engine: Engine, selection: Selection | None = None) -> None:
        self.spec = spec
        self.engine = engine
        self.selection = selection or Selection()
        self._preprocessor = Preprocessor(spec.input)
        self._head = head_from_spec(spec.head)
        self._size = (spec.input.width, spec.input.height)
        self._step = spec.input.batch
        self._check_stage()
        self._check_input()
        self._head.check(engine.outputs, len(spec.class_names), self._size)

    @property
    def batch(self) -> int | None:
        """Most pictures of one run; None where the network takes any number."""
        return self._step if self._head.batched else 1

    def with_selection(self, selection: Selection) -> Detector[Answer]:
        """Return a detector with other thresholds on the same engine."""
        return Detector(self.spec, self.engine, selection)

    # To the type checker a path as text is also a list of one-letter paths; the first signature wins.
    @overload
    def __call__(self, pictures: Picture) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[Answer]: ...
    def __call__(self, pictures: Picture | Sequence[Picture]) -> Answer | list[Answer]:
        """Detect in one picture, or in each of a list.

        Args:
            pictures: BGR uint8 (H, W, 3) arrays, frames or paths. A list runs in batches as large as the model takes.

        Raises:
            ImageError: if a picture cannot be read or has another shape or type.
            EngineError: if the engine fails.
        """
        if isinstance(pictures, (np.ndarray, Frame, str, PathLike)):
            return self._detect([self._input(pictures)])[0]
        images = [self._input(picture) for picture in pictures]
        step = self._step or max(len(images), 1)
        return [found for start in range(0, len(images), step) for found in self._detect(images[start : start + step])]

    def preprocess(self, images: Sequence[Image]) -> Prepared:
        """Turn at most a batch of BGR uint8 (H, W, 3) pictures into an input tensor of its own."""
        tensor, placements = self._preprocessor(images)
        batch = self.spec.input.batch
        if batch is not None and len(images) < batch:
            padding = np.zeros((batch - len(images), *tensor.shape[1:]), tensor.dtype)
            tensor = np.concatenate([tensor, padding])
        return Prepared(tensor, placements)

    def feeds(self, prepared: Prepared) -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        """Yield what `infer` gives the engine, run by run: tensors in the order of the engine's inputs."""
        yield (prepared.tensor,)

    def infer(self, prepared: Prepared) -> RawBatch:
        """Run the engine on a prepared batch."""
        return RawBatch(self.engine.infer(prepared.tensor), prepared.placements)

    def postprocess(self, raw: RawBatch) -> list[Answer]:
        """Decode, select, suppress and map to source pixels: one answer a picture."""
        if not self._head.batched:
            return [self._result(raw.outputs, raw.placements[0])]
        return [
            self._result([output[index] for output in raw.outputs], placement)
            for index, placement in enumerate(raw.placements)
        ]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Detector[Answer]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _input(self, picture: Picture) -> Any:
        """Return what `preprocess` takes."""
        return picture if isinstance(picture, Frame) and self.takes_frames else image_of(picture)

    def _detect(self, images: Sequence[Image]) -> list[Answer]:
        return self.postprocess(self.infer(self.preprocess(images)))

    def _result(self, outputs: Sequence[npt.NDArray[Any]], placement: Placement) -> Any:
        head = self._head
        if isinstance(head, BoxHead):
            return self._detections(head, outputs, placement)
        if isinstance(head, MaskHead):
            return head.decode_objects(outputs, placement, self._size, self.selection, self.spec.class_names)
        assert isinstance(head, MapHead)
        return head.decode_map(outputs, placement, self._size, self.selection, self.spec.class_names)

    def _detections(self, head: BoxHead, outputs: Sequence[npt.NDArray[Any]], placement: Placement) -> Detections:
        candidates = head.decode(outputs, self._size, self.selection)
        chosen = self._choose(head, candidates)
        xyxy = placement.to_source(candidates.xyxy[chosen])
        masks = None
        if head.has_masks:
            assert candidates.location is not None
            masks = head.masks(outputs, candidates.location[chosen], xyxy, placement, self._size)
        return Detections(
            xyxy, candidates.score[chosen], candidates.class_id[chosen], self.spec.class_names, masks=masks
        )

    def _choose(self, head: BoxHead, candidates: Candidates) -> npt.NDArray[np.int64]:
        selection = self.selection
        if head.needs_nms:
            return nms(
                candidates.xyxy,
                candidates.score,
                candidates.class_id,
                iou=selection.iou,
                max_detections=selection.max_detections,
                class_agnostic=selection.class_agnostic,
                max_candidates=selection.max_candidates,
            )
        finite = np.flatnonzero(np.isfinite(candidates.xyxy).all(axis=1))
        best_first = finite[np.argsort(-candidates.score[finite], kind="stable")]
        return best_first[: selection.max_detections]

    def _check_stage(self) -> None:
        check_stage(self._head, self.spec.proposals)
        if self.spec.proposals is not None:
            raise SpecError(
                "a model that looks at whole pictures",
                f"'{self.spec.name}', which wants proposals",
                "Load it with edgedet.loader.load, or use a ProposalDetector",
            )

    def _check_input(self) -> None:
        inputs = self.engine.inputs
        if len(inputs) != 1:
            raise SpecError(
                "a network with one input, the picture",
                f"the inputs {', '.join(value.name for value in inputs)}",
                "Fold the others into constants when exporting",
            )
        self._check_picture(inputs[0])

    def _check_picture(self, tensor: TensorSpec) -> None:
        spec = self.spec.input
        size = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
        wanted = (spec.batch if spec.batch is not None else -1, *size)
        found = tensor.shape
        if len(found) != 4 or any(-1 not in pair and pair[0] != pair[1] for pair in zip(wanted, found, strict=True)):
            raise SpecError(
                f"an input tensor of {list(wanted)} ({spec.layout})", str(list(found)), "Correct input in the spec"
            )


def image_of(picture: Picture) -> Image:
    """Return the pixels as BGR uint8 (H, W, 3).

    Raises:
        ImageError: if a picture cannot be read.
        SourceError: if a frame was released.
    """
    if isinstance(picture, Frame):
        return picture.image
    return picture if isinstance(picture, np.ndarray) else read_image(picture)
