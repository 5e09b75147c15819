"""Panoptic-DeepLab: a class and an offset to its object's center for each pixel, and a heatmap of the centers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import Task, TensorSpec
from edgedet.runtime.heads.bilinear_argmax import bilinear_argmax
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import MapHead, RawOutputs
from edgedet.runtime.heads.logit_maps import MapSampler, Tile, finite_maps
from edgedet.runtime.heads.panoptic_segments import Parts, check_thing_classes, panoptic_map
from edgedet.runtime.heads.scores import sigmoid, softmax
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["PanopticDeeplab"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_SAMPLES_ACROSS_A_CELL = 2
"""A segment's mean class probability is taken over so many pixels across each cell that it covers."""


@dataclass(frozen=True, eq=False)
class _Centers:
    """K centers of objects: rows and columns in source pixels (pixel edges), and scores."""

    y: FloatArray
    x: FloatArray
    score: FloatArray

    def __len__(self) -> int:
        return len(self.score)

    def nearest(self, y: FloatArray, x: FloatArray) -> npt.NDArray[np.intp]:
        """Return the index of the center nearest to each of N points, 1 <= N."""
        possible = self._possible(y, x)
        down, across = y[:, None] - self.y[possible], x[:, None] - self.x[possible]
        index: npt.NDArray[np.intp] = possible[np.argmin(down * down + across * across, axis=1)]
        return index

    def _possible(self, y: FloatArray, x: FloatArray) -> npt.NDArray[np.intp]:
        """Return the centers that can be nearest to one of the points, by the box around all of these.

        One cannot where it is further from all of the box than another one is from the box's farthest corner.
        """
        least, most = np.zeros(len(self), np.float32), np.zeros(len(self), np.float32)
        for points, centers in ((y, self.y), (x, self.x)):
            before, after = points.min() - centers, centers - points.max()
            least += np.maximum(np.maximum(before, after), 0) ** 2
            most += np.maximum(abs(before), abs(after)) ** 2
        return np.flatnonzero(least <= most.min())


@dataclass(frozen=True)
class PanopticDeeplab(MapHead):
    """Semantic logits, center heatmap and center offsets (bottom-up panoptic segmentation).

    Tensors, each over the network's whole input, of any height and width:
        0: (B, C, h, w) semantic logits.
        1: (B, 1, h, w) center heatmap.
        2: (B, 2, h, w) offsets from each pixel to the center of its object: down, then right.

    A pixel's class is the largest of the bilinearly mixed logits. Centers are the cells of the heatmap that are the
    largest within ``nms_kernel`` cells and reach ``center_threshold``, the best ``max_centers`` of them. A pixel of a
    thing class belongs to the center nearest to where its offset points, and an object's class is that of most of its
    pixels. Stuff is one segment a class, left out below ``stuff_area``. Without any center there are no things.

    An object scores its center's value times the mean probability of its class over its pixels, stuff that mean alone;
    segments below ``Selection.confidence`` are left out.

    Source: Cheng et al., "Panoptic-DeepLab: A Simple, Strong, and Fast Baseline for Bottom-Up Panoptic Segmentation",
    arXiv 1911.10194, sections 3.1 to 3.3. (The paper upsamples the heatmap before the suppression, with a kernel of 7
    input pixels; here it runs on the heatmap's own cells.)

    Attributes:
        thing_classes: class ids of countable objects; all other classes are stuff.
        center_activation: what turns the heatmap into scores; the paper's is trained to be one.
        center_threshold: score that a center must reach.
        nms_kernel: width in cells of the window in which a center must be the largest; odd.
        max_centers: most objects of a picture.
        offset_scale: input pixels that an offset of 1 stands for.
        stuff_area: stuff of less than this many pixels of the network's input is left out (the paper: 2048 in
            2049x1025 of Cityscapes).
    """

    name: ClassVar[str] = "panoptic_deeplab"
    task: ClassVar[Task] = "panoptic"

    thing_classes: tuple[int, ...]
    center_activation: Literal["none", "sigmoid"] = "none"
    center_threshold: float = 0.1
    nms_kernel: int = 7
    max_centers: int = 200
    offset_scale: float = 1.0
    stuff_area: int = 2048

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("semantic logits", "center heatmap", "offsets"))
        semantic, heatmap, offsets = outputs
        for output in outputs:
            check_rank(output, ("batch", "channels", "height", "width"))
        check_channels(semantic, 1, (), classes)
        action = "Correct the order of the outputs: semantic logits, center heatmap, offsets"
        check_axis(heatmap, 1, 1, "1 channel of a center heatmap", action)
        check_axis(offsets, 1, 2, "2 channels of offsets", action)
        check_thing_classes(self.thing_classes, classes)
        if self.nms_kernel < 1 or self.nms_kernel % 2 == 0:
            raise SpecError("an odd head.nms_kernel", str(self.nms_kernel), "Correct it in the --spec file")

    def decode_map(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> PanopticMap:
        """Turn one picture's outputs into segments (see ``MapHead.decode_map``)."""
        semantic = finite_maps(outputs[0])
        sampler = MapSampler(placement, size, (semantic.shape[1], semantic.shape[2]))
        class_map = bilinear_argmax(semantic, *sampler.samples())
        centers = self._centers(outputs[1][0], placement, size)
        instance = self._instances(class_map, centers, outputs[2], placement, size)
        parts = self._parts(class_map, instance, len(centers), len(semantic))
        score = _mean_probability(parts, softmax(np.moveaxis(semantic, 0, -1)), sampler)
        score[: len(centers)] *= centers.score
        small = parts.area < self.stuff_area * np.prod(_scale(placement))
        small[: len(centers)] = False
        kept = ~small & (score >= selection.confidence)
        return panoptic_map(replace(parts, score=score, kept=kept), self.thing_classes, selection, class_names)

    def _centers(self, heatmap: Array, placement: Placement, size: tuple[int, int]) -> _Centers:
        scores = np.nan_to_num(np.asarray(heatmap, np.float32), nan=-np.inf)
        if self.center_activation == "sigmoid":
            scores = sigmoid(scores)
        peaks = (scores == _largest_around(scores, self.nms_kernel)) & (scores >= self.center_threshold)
        rows, columns = np.nonzero(peaks)
        rows, columns = self._without_plateaus(rows, columns, scores[rows, columns])
        y = ((rows + 0.5) * (size[1] / scores.shape[0]) - placement.top) * _scale(placement)[0]
        x = ((columns + 0.5) * (size[0] / scores.shape[1]) - placement.left) * _scale(placement)[1]
        return _Centers(y.astype(np.float32), x.astype(np.float32), np.clip(scores[rows, columns], 0, 1))

    def _without_plateaus(self, rows: Array, columns: Array, scores: Array) -> tuple[Array, Array]:
        """Keep the best cells, and of equally large cells within a window one."""
        kept: list[int] = []
        reach = self.nms_kernel // 2
        for index in np.argsort(-scores, kind="stable").tolist():
            away = np.maximum(abs(rows[kept] - rows[index]), abs(columns[kept] - columns[index]))
            if (away > reach).all():
                kept.append(index)
            if len(kept) == self.max_centers:
                break
        return rows[kept], columns[kept]

    def _instances(
        self, class_map: Array, centers: _Centers, offsets: Array, placement: Placement, size: tuple[int, int]
    ) -> npt.NDArray[np.int32]:
        """Return (H, W) the center that each pixel of a thing belongs to; how many there are for all other pixels."""
        instance = np.full(class_map.shape, len(centers), np.int32)
        if not len(centers):
            return instance
        maps = finite_maps(offsets)
        is_thing = self._is_thing(int(class_map.max()) + 1)
        for tile in MapSampler(placement, size, (maps.shape[1], maps.shape[2])).tiles():
            inside = np.nonzero(is_thing[class_map[tile.pixels]])
            if len(inside[0]):
                instance[tile.pixels][inside] = self._nearest(tile, inside, maps, centers, placement)
        return instance

    def _nearest(
        self, tile: Tile, inside: tuple[Array, ...], maps: FloatArray, centers: _Centers, placement: Placement
    ) -> Array:
        down, right = tile.sample(tile.cells(maps))[:, inside[0], inside[1]] * np.float32(self.offset_scale)
        first_row, first_column = (pixels.start for pixels in tile.pixels)
        scale_y, scale_x = _scale(placement)
        y = inside[0] + (first_row + 0.5) + down * scale_y
        x = inside[1] + (first_column + 0.5) + right * scale_x
        return centers.nearest(y.astype(np.float32), x.astype(np.float32))

    def _parts(self, class_map: Array, instance: npt.NDArray[np.int32], objects: int, classes: int) -> Parts:
        """Number the parts: objects first, then one a class; things without a center belong to none."""
        is_thing = self._is_thing(classes)
        beside = np.where(is_thing, classes, np.arange(classes)) + objects
        owner = np.where(instance < objects, instance, beside.astype(np.int32)[class_map])
        of_objects = instance < objects
        pairs = instance[of_objects].astype(np.int64) * classes + class_map[of_objects]
        votes = np.bincount(pairs, minlength=objects * classes).reshape(objects, classes)
        count = objects + classes
        return Parts(
            owner,
            np.concatenate([votes.argmax(axis=1), np.arange(classes)]),
            np.zeros(count, np.float32),
            np.bincount(owner.ravel(), minlength=count + 1)[:count],
            np.ones(count, np.bool_),
        )

    def _is_thing(self, classes: int) -> npt.NDArray[np.bool_]:
        return np.isin(np.arange(classes), self.thing_classes)


def _largest_around(values: FloatArray, window: int) -> FloatArray:
    """Return the largest value in the window around each cell of an (h, w) map."""
    for axis in (0, 1):
        reach = [(window // 2, window // 2) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(values, reach, constant_values=-np.inf)
        values = sliding_window_view(padded, window, axis=axis).max(axis=-1)
    return values


def _scale(placement: Placement) -> tuple[float, float]:
    """Source pixels that a pixel of the network's input stands for, down and across."""
    return placement.source_height / placement.height, placement.source_width / placement.width


def _mean_probability(parts: Parts, probability: FloatArray, sampler: MapSampler) -> FloatArray:
    """Return (K,) the mean probability of each part's class over its pixels.

    A few pixels of each cell stand for all of them; a part that is none of these scores 0.

    Args:
        parts: of the picture.
        probability: (h, w, C).
        sampler: for maps of that size.
    """
    rows, columns = sampler.nearest_cells()
    steps = [
        max(1, len(pixels) // max(1, (pixels[-1] - pixels[0] + 1) * _SAMPLES_ACROSS_A_CELL))
        for pixels in (rows, columns)
    ]
    sampled = slice(None, None, steps[0]), slice(None, None, steps[1])
    part = parts.owner[sampled]
    count = len(parts.class_id)
    inside = np.nonzero(part < count)
    owner = part[inside]
    cells = rows[sampled[0]][inside[0]], columns[sampled[1]][inside[1]]
    values = probability[cells[0], cells[1], parts.class_id[owner]]
    pixels = np.bincount(owner, minlength=count)
    mean = np.bincount(owner, weights=values, minlength=count) / np.maximum(pixels, 1)
    return mean.astype(np.float32)
