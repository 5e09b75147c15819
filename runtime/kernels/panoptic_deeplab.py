"""Panoptic-DeepLab on the device: objects from semantic logits, a center heatmap and offsets."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.heads.panoptic_deeplab import PanopticDeeplab
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.detections import unmoved_rows
from edgedet.runtime.kernels.interpolation import AxisTables, axis_rules
from edgedet.runtime.kernels.launcher import Allocate, Array, Launcher, Upload
from edgedet.runtime.kernels.maps import ClassMaps
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.kernels.panoptic import class_flags, read_panoptic_maps
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

__all__ = ["CENTER_PLACEMENT", "DeeplabMaps", "DeeplabRule"]

CENTER_PLACEMENT = np.dtype(
    [(name, "f8") for name in ("top", "left", "scale_y", "scale_x", "cell_height", "cell_width")]
)
"""From pixels of the network's input to the source's (panoptic_deeplab.cuh: CenterPlacement)."""

_THREADS = 256
_BLOCKS = 1024
_MOST_PARTS = 1024
_PART_WORDS = 6
_NO_LIMIT = 2**31 - 1
_FAR = 1e9

Shape = tuple[int, ...]


class DeeplabRule(ctypes.Structure):
    """How the outputs are read (panoptic_deeplab.cuh: DeeplabRule)."""

    _fields_ = [
        ("threshold", ctypes.c_float),
        ("offset_scale", ctypes.c_float),
        ("confidence", ctypes.c_float),
        ("sigmoid", ctypes.c_int),
        ("window", ctypes.c_int),
        ("max_centers", ctypes.c_int),
        ("stuff_area", ctypes.c_int),
        ("classes", ctypes.c_int),
        ("class_height", ctypes.c_int),
        ("class_width", ctypes.c_int),
        ("center_height", ctypes.c_int),
        ("center_width", ctypes.c_int),
        ("offset_height", ctypes.c_int),
        ("offset_width", ctypes.c_int),
    ]

    @classmethod
    def of(cls, head: PanopticDeeplab, selection: Selection, shapes: Sequence[Shape]) -> DeeplabRule:
        """Return the rule of a head.

        Args:
            head: its parameters.
            selection: ``confidence`` is applied.
            shapes: of semantic logits (B, C, h, w), heatmap (B, 1, h, w) and offsets (B, 2, h, w).

        Raises:
            SpecError: if there may be more parts than the kernels take.
        """
        semantic, heatmap, offsets = shapes
        if head.max_centers + semantic[1] > _MOST_PARTS:
            raise SpecError(
                f"at most {_MOST_PARTS} objects and classes together",
                f"head.max_centers {head.max_centers} and {semantic[1]} classes",
                "Lower head.max_centers, or run the model on the CPU",
            )
        return cls(
            head.center_threshold,
            head.offset_scale,
            selection.confidence,
            int(head.center_activation == "sigmoid"),
            head.nms_kernel,
            head.max_centers,
            head.stuff_area,
            semantic[1],
            *semantic[2:],
            *heatmap[2:],
            *offsets[2:],
        )


class DeeplabMaps:
    """Turns semantic logits, heatmap and offsets into panoptic maps, as the head ``panoptic_deeplab`` does.

    Args:
        allocate: makes the buffers.
        upload: puts constants on the device.
        head: how the outputs are read.
        selection: ``confidence`` and ``class_ids`` are applied.
        shapes: of semantic logits (B, C, h, w), heatmap (B, 1, h, w) and offsets (B, 2, h, w).
        dtype: of all three, float32 or float16.
        size: width and height of the network's input in pixels.
        largest: width and height of the largest picture in pixels.

    Attributes:
        maps: (B, pixels of the largest picture) int32, the segment of each pixel, 0 for none.
        table: int32 words: how many segments (B,), then the segments.

    Raises:
        SpecError: if there may be more parts than the kernels take, ``class_ids`` names an unknown class, or an element
            type has no kernel.
    """

    def __init__(
        self,
        allocate: Allocate,
        upload: Upload,
        head: PanopticDeeplab,
        selection: Selection,
        shapes: Sequence[Shape],
        dtype: npt.DTypeLike,
        size: tuple[int, int],
        largest: tuple[int, int],
    ) -> None:
        self._rule = DeeplabRule.of(head, selection, shapes)
        self._size, self._shapes = size, [tuple(shape) for shape in shapes]
        pictures, classes = shapes[0][:2]
        parts = head.max_centers + classes
        self.pictures = pictures
        self._kind = "f16" if np.dtype(dtype) == np.float16 else "f32"
        self._capacity = largest[0] * largest[1]
        self._classes = ClassMaps(
            allocate, ClassScores(), self._shapes[0], dtype, classes, size, largest, for_segments=True
        )
        self._offset_axes = AxisTables(allocate, 2 * pictures, max(largest))
        self._nearest_axes = AxisTables(allocate, 2 * pictures, max(largest))
        self._peaks = CandidateList(allocate, pictures, shapes[1][2] * shapes[1][3])
        # What is not to be near is what squares around it would overlap: see panoptic_deeplab.cuh.
        self._nms = Nms(allocate, self._peaks, NmsRule(1, 1, _NO_LIMIT, head.max_centers, 0.0, _FAR))
        self._unmoved = upload(unmoved_rows(pictures))
        self._flags = upload(class_flags(head.thing_classes, selection, classes))
        votes = pictures * (head.max_centers + 1) * classes
        self._parts: Array = allocate(((_PART_WORDS * pictures * parts + votes + 1) // 2,), np.uint64)
        self._owners: Array = allocate((pictures, self._capacity), np.uint16)
        self.maps: Array = allocate((pictures, self._capacity), np.int32)
        self.table: Array = allocate((pictures * (1 + 4 * parts),), np.int32)

    def rules(self, placements: Sequence[Placement]) -> npt.NDArray[np.void]:
        """Return (3, B, 2) of ``AXIS_RULE``: how pictures are read from logits and offsets, and their nearest cells."""
        semantic, _, offsets = ((shape[2], shape[3]) for shape in self._shapes)
        return np.stack(
            [
                axis_rules(placements, self._size, semantic),
                axis_rules(placements, self._size, offsets),
                axis_rules(placements, self._size, semantic, nearest=True),
            ]
        )

    def centers(self, placements: Sequence[Placement]) -> npt.NDArray[np.void]:
        """Return (B,) of ``CENTER_PLACEMENT``: how cells of the heatmap lie in the pictures."""
        height, width = self._shapes[1][2:]
        rows = [
            (
                at.top,
                at.left,
                at.source_height / at.height,
                at.source_width / at.width,
                self._size[1] / height,
                self._size[0] / width,
            )
            for at in placements
        ]
        return np.array(rows, CENTER_PLACEMENT)

    def run(
        self,
        launcher: Launcher,
        rules: tuple[Array, Array, Array],
        centers: Array,
        outputs: tuple[Array, Array, Array],
    ) -> None:
        """Launch the kernels.

        Args:
            launcher: starts them.
            rules: the three of ``rules``, where kernels can reach them.
            centers: of ``centers``, where kernels can reach them.
            outputs: semantic logits, heatmap, offsets.
        """
        semantic, heatmap, offsets = outputs
        pictures, capacity = ctypes.c_int(self.pictures), ctypes.c_longlong(self._capacity)
        parts = (self._parts, pictures)
        grid = (min(_BLOCKS, -(-self._capacity // _THREADS)), self.pictures)
        found = self._nms.detections.words

        self._classes.run(launcher, rules[0], semantic)
        self._offset_axes.run(launcher, rules[1])
        self._nearest_axes.run(launcher, rules[2])
        self._find_centers(launcher, heatmap)
        launcher.launch("edgedet_deeplab_reset", self._reset_grid, (_THREADS,), self._rule, *parts)
        launcher.launch(
            f"edgedet_deeplab_own_{self._kind}",
            grid,
            (_THREADS,),
            offsets,
            self._rule,
            found,
            pictures,
            centers,
            self._flags,
            self._classes.maps,
            rules[1],
            *self._offset_axes.arguments,
            self._parts,
            self._owners,
            capacity,
        )
        launcher.launch("edgedet_deeplab_classes", (self.pictures,), (_MOST_PARTS,), self._rule, *parts)
        launcher.launch(
            f"edgedet_deeplab_score_{self._kind}",
            grid,
            (_THREADS,),
            semantic,
            self._rule,
            *parts,
            rules[2],
            *self._nearest_axes.arguments,
            self._owners,
            capacity,
        )
        judging = (self._rule, found, *parts, centers, self._flags, self.table)
        launcher.launch("edgedet_deeplab_judge", (self.pictures,), (_MOST_PARTS,), *judging)
        relabelling = (self._rule, *parts, rules[0], self._owners, self.maps, capacity)
        launcher.launch("edgedet_deeplab_relabel", grid, (_THREADS,), *relabelling)

    def panoptic_maps(
        self,
        maps: npt.NDArray[np.int32],
        table: npt.NDArray[np.int32],
        sizes: Sequence[tuple[int, int]],
        class_names: tuple[str, ...],
    ) -> list[PanopticMap]:
        """Return the map of each picture, copied out of ``maps`` (see ``read_panoptic_maps``)."""
        return read_panoptic_maps(maps, table, sizes, class_names)

    def _find_centers(self, launcher: Launcher, heatmap: Array) -> None:
        blocks = -(-self._peaks.capacity // _THREADS)
        self._peaks.reset(launcher)
        launcher.launch(
            f"edgedet_deeplab_peaks_{self._kind}",
            (blocks, self.pictures),
            (_THREADS,),
            heatmap,
            self._rule,
            *self._peaks.arguments,
        )
        self._nms.run(launcher, self._unmoved)

    @property
    def _reset_grid(self) -> tuple[int, int]:
        most = max((self._rule.max_centers + 1) * self._rule.classes, self._rule.max_centers + self._rule.classes)
        return -(-most // _THREADS), self.pictures
