"""Instances from queries on the device: a class and a mask each, boxes and scores after their masks."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.masks import Mask, Masks
from edgedet.results import Detections
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.detections import DetectionList, unmoved_rows
from edgedet.runtime.kernels.interpolation import AxisTables, axis_rules
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher, Upload
from edgedet.runtime.kernels.masks import MaskList, MaskRoom
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.kernels.panoptic import class_flags
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

__all__ = ["InstanceMasks", "InstanceRule"]

_THREADS = 256
_PAINT_BLOCKS = 512
_SUM_WORDS = 7
_NO_LIMIT = 2**31 - 1
_FAR = 1e9


class InstanceRule(ctypes.Structure):
    """The shapes of the outputs, and what an answer must reach (query_instances.cuh: InstanceRule)."""

    _fields_ = [
        ("confidence", ctypes.c_float),
        ("queries", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
    ]


class InstanceMasks:
    """Turns class and mask logits of queries into objects, as the head ``query_instances`` does.

    Args:
        allocate: makes the buffers.
        upload: puts constants on the device.
        selection: ``confidence``, ``class_ids`` and ``max_detections`` are applied.
        logits: shape of the class logits, (B, Q, C+1).
        maps: shape of the mask logits, (B, Q, h, w).
        size: width and height of the network's input in pixels.
        largest: width and height of the largest picture in pixels.
        room: for the masks of each picture, those of answers that the final score rules out among them.

    Attributes:
        answers: as many as there are queries at most, of which each has a mask in ``masks``.
        masks: of the answers.
        detections: what is kept of the answers, best first; their locations are places among the answers.

    Raises:
        SpecError: if ``class_ids`` names an unknown class, or the shapes do not belong together.
    """

    def __init__(
        self,
        allocate: Allocate,
        upload: Upload,
        selection: Selection,
        logits: tuple[int, ...],
        maps: tuple[int, ...],
        size: tuple[int, int],
        largest: tuple[int, int],
        room: MaskRoom,
    ) -> None:
        pictures, queries, columns = logits
        if maps[:2] != logits[:2]:
            raise SpecError(f"a mask for each of {queries} queries", str(maps), "Correct the outputs of the spec")
        self._rule = InstanceRule(selection.confidence, queries, columns, *maps[2:])
        self._size = size
        self.pictures = pictures
        self._pairs = CandidateList(allocate, pictures, queries * (columns - 1))
        self._best_pairs = Nms(allocate, self._pairs, NmsRule(0, 0, _NO_LIMIT, queries, 1.0, _FAR))
        self._scored = CandidateList(allocate, pictures, queries)
        self._best_scored = Nms(allocate, self._scored, NmsRule(0, 0, _NO_LIMIT, selection.max_detections, 1.0, _FAR))
        self._unmoved = upload(unmoved_rows(pictures))
        self._flags = upload(class_flags((), selection, columns - 1))
        self._axes = AxisTables(allocate, 2 * pictures, max(largest))
        self._sums: Array = allocate(((_SUM_WORDS * pictures * queries + 1) // 2,), np.uint64)
        self.answers: DetectionList = self._best_pairs.detections
        self.detections: DetectionList = self._best_scored.detections
        self.masks = MaskList(allocate, self.answers, room)

    def rules(self, placements: Sequence[Placement]) -> npt.NDArray[np.void]:
        """Return (B, 2) of ``AXIS_RULE``, which ``run`` takes: how each picture is read."""
        return axis_rules(placements, self._size, (self._rule.height, self._rule.width))

    def run(self, launcher: Launcher, rules: Array, logits: Array, maps: Array) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: (B, 2) of ``AXIS_RULE`` where kernels can reach them.
            logits, maps: the network's outputs, float32 or float16.
        """
        pictures = ctypes.c_int(self.pictures)
        queries = (-(-self._rule.queries // _THREADS), self.pictures)
        answers = (self._rule, self.answers.words, pictures)
        kind = _suffix(maps)
        self._axes.run(launcher, rules)
        self._pairs.reset(launcher)
        self._scored.reset(launcher)
        answer = f"edgedet_instances_answer_{_suffix(logits)}"
        launcher.launch(answer, queries, (_THREADS,), logits, self._rule, self._flags, *self._pairs.arguments)
        self._best_pairs.run(launcher, self._unmoved)
        launcher.launch(
            f"edgedet_instances_reach_{kind}",
            (self._rule.queries, self.pictures),
            (_THREADS,),
            maps,
            *answers,
            rules,
            *self._axes.arguments,
            self._sums,
        )
        self.masks.plan(launcher, self.answers, self._axes)
        launcher.launch(
            f"edgedet_instances_paint_{kind}",
            (_PAINT_BLOCKS, self.pictures),
            (_THREADS,),
            maps,
            *answers,
            *self.masks.arguments,
            *self._axes.arguments,
            self._sums,
        )
        scored = (self._scored.words, ctypes.c_int(self._scored.capacity))
        launcher.launch("edgedet_instances_finish", queries, (_THREADS,), *answers, self._sums, *scored)
        self._best_scored.run(launcher, self._unmoved)

    def objects(
        self,
        answers: npt.NDArray[np.uint32],
        masks: npt.NDArray[np.uint32],
        detections: npt.NDArray[np.uint32],
        sizes: Sequence[tuple[int, int]],
        class_names: tuple[str, ...],
    ) -> list[Detections]:
        """Return the objects of each picture with their masks.

        Args:
            answers, masks, detections: the words of the three lists of that name, in NumPy memory.
            sizes: width and height of each picture in pixels.
            class_names: the model's.

        Raises:
            EngineError: if the masks of a picture had no room.
        """
        painted = self.masks.masks(masks, self.answers.arrays(answers).count, sizes)
        found = self.detections.arrays(detections)
        objects = []
        for picture, (width, height) in enumerate(sizes):
            kept = slice(int(found.count[picture]))
            boxes = found.xyxy[picture, kept].copy()
            items = tuple(
                _cut(painted[picture].items[answer], box)
                for answer, box in zip(found.location[picture, kept].tolist(), boxes.astype(int).tolist(), strict=True)
            )
            objects.append(
                Detections(
                    boxes,
                    found.score[picture, kept].copy(),
                    found.class_id[picture, kept].astype(np.int64),
                    class_names,
                    masks=Masks(items, width, height),
                )
            )
        return objects


def _cut(mask: Mask, box: list[int]) -> Mask:
    """Cut a mask to a box inside it."""
    left, top, right, bottom = box
    crop = mask.crop()[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
    return Mask.from_bitmap(crop, left, top)


def _suffix(values: Array) -> str:
    return "f16" if values.dtype == np.float16 else "f32"
