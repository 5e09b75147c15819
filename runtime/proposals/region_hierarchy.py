"""Regions of a picture, grouped two at a time until one is left: the boxes of all of them, from small to large.

What tells regions apart is kept per region as histograms whose entries sum to 1: of the colour, and of the Gaussian
derivatives in eight directions (the texture). The histogram of two regions together follows from theirs and their
sizes, so that no step looks at pixels.

Source: Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, sections 3.1 and 3.2.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["PixelBins", "Regions", "group", "measure_regions", "pixel_bins"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_COLOUR_BINS = 25
_TEXTURE_BINS = 10
_DIRECTIONS = 8


@dataclass(frozen=True, eq=False)
class PixelBins:
    """Of each pixel of a picture, where it counts in the histograms.

    Attributes:
        colour: (channels, H * W) int64, bins of all channels counted through.
        texture: (channels * directions, H * W) int64, the same.
    """

    colour: IntArray
    texture: IntArray


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a segmentation.

    Attributes:
        size: (N,) float64 pixels of each.
        box: (N, 4) int64 xyxy, pixel edges.
        colour: (N, bins) float32 histogram of each.
        texture: (N, bins) float32 histogram of each.
        pairs: (P, 2) int64, which regions touch, the smaller index first.
        area: pixels of the picture.
    """

    size: npt.NDArray[np.float64]
    box: IntArray
    colour: FloatArray
    texture: FloatArray
    pairs: IntArray
    area: int


def pixel_bins(image: npt.NDArray[np.uint8]) -> PixelBins:
    """Find the bins of each pixel of an (H, W, 3) uint8 picture in any colour space."""
    channels = cv2.split(image)
    colour = [
        np.asarray(channel, np.int64).ravel() * _COLOUR_BINS // 256 + index * _COLOUR_BINS
        for index, channel in enumerate(channels)
    ]
    texture: list[IntArray] = []
    angles = np.arange(_DIRECTIONS, dtype=np.float32) * np.float32(2 * np.pi / _DIRECTIONS)
    for channel in channels:
        smooth = cv2.GaussianBlur(channel.astype(np.float32), (0, 0), 1.0)
        across, down = cv2.Sobel(smooth, -1, 1, 0, ksize=1), cv2.Sobel(smooth, -1, 0, 1, ksize=1)
        slopes = [np.maximum(across * np.cos(angle) + down * np.sin(angle), 0) for angle in angles]
        steepest = max(float(slope.max()) for slope in slopes)
        scale = np.float32(_TEXTURE_BINS * (1 - 1e-6) / max(steepest, 1.0))
        for slope in slopes:
            texture.append((slope * scale).astype(np.int64).ravel() + len(texture) * _TEXTURE_BINS)
    return PixelBins(np.stack(colour), np.stack(texture))


def measure_regions(labels: IntArray, bins: PixelBins) -> Regions:
    """Measure the regions of an (H, W) label map whose labels are 0..N-1, each of them there."""
    flat = labels.ravel()
    size = np.bincount(flat)
    return Regions(
        size=size.astype(np.float64),
        box=_boxes(labels, len(size)),
        colour=_histograms(flat, bins.colour, len(size)),
        texture=_histograms(flat, bins.texture, len(size)),
        pairs=_touching(labels, len(size)),
        area=labels.size,
    )


def group(regions: Regions, similarity: str) -> IntArray:
    """Join the two most similar neighbours until one region is left.

    Args:
        regions: what to begin with.
        similarity: the letters of the measures that are added up, each in 0..1: ``C`` colour and ``T`` texture
            (histogram intersections), ``S`` size (small regions first), ``F`` fill (regions that fit into each other).

    Returns:
        (2N-1, 4) int64 boxes: those of the N regions, then those of the joined ones as they came to be.
    """
    count = len(regions.size)
    total = 2 * count - 1
    histograms = [values for letter, values in (("C", regions.colour), ("T", regions.texture)) if letter in similarity]
    histogram = np.zeros((total, sum(values.shape[1] for values in histograms)), np.float32)
    if histograms:
        histogram[:count] = np.concatenate(histograms, axis=1)
    size, box = np.zeros(total), np.zeros((total, 4), np.int64)
    size[:count], box[:count] = regions.size, regions.box
    measure = _Measure(histogram, size, box, regions.area, "S" in similarity, "F" in similarity)
    neighbours: list[set[int]] = [set() for _ in range(total)]
    for first, second in regions.pairs.tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)
    first, second = regions.pairs.T
    queue = list(zip((-measure(first, second)).tolist(), first.tolist(), second.tolist(), strict=True))
    heapq.heapify(queue)
    gone = [False] * total
    for new in range(count, total):
        _, one, other = heapq.heappop(queue)
        while gone[one] or gone[other]:
            _, one, other = heapq.heappop(queue)
        gone[one] = gone[other] = True
        measure.join(one, other, new)
        around = (neighbours[one] | neighbours[other]) - {one, other}
        neighbours[new], neighbours[one], neighbours[other] = around, set(), set()
        if not around:
            continue
        near = sorted(around)
        for index, value in zip(near, (-measure(np.array(near), new)).tolist(), strict=True):
            neighbours[index] -= {one, other}
            neighbours[index].add(new)
            heapq.heappush(queue, (value, index, new))
    return box


@dataclass(frozen=True, eq=False)
class _Measure:
    """How similar regions are; holds what is known of them, with room for those that are yet to come."""

    histogram: FloatArray
    size: npt.NDArray[np.float64]
    box: IntArray
    area: int
    by_size: bool
    by_fill: bool

    def __call__(self, first: IntArray, second: IntArray | int) -> npt.NDArray[np.float64]:
        """Return the similarity of regions, pair by pair."""
        result = np.zeros(len(first))
        if self.histogram.shape[1]:
            result += np.minimum(self.histogram[first], self.histogram[second]).sum(axis=1)
        size = self.size[first] + self.size[second]
        if self.by_size:
            result += 1 - size / self.area
        if self.by_fill:
            one, other = self.box[first], self.box[second]
            side = np.maximum(one[:, 2:], other[..., 2:]) - np.minimum(one[:, :2], other[..., :2])
            result += 1 - (side[:, 0] * side[:, 1] - size) / self.area
        return result

    def join(self, one: int, other: int, new: int) -> None:
        """Measure a region that is two others together."""
        size, box = self.size, self.box
        size[new] = size[one] + size[other]
        share = size[one] / size[new]
        self.histogram[new] = self.histogram[one] * share + self.histogram[other] * (1 - share)
        np.minimum(box[one, :2], box[other, :2], out=box[new, :2])
        np.maximum(box[one, 2:], box[other, 2:], out=box[new, 2:])


def _histograms(flat: IntArray, bins: IntArray, count: int) -> FloatArray:
    """Return (count, bins) histograms over the pixels of each region; each sums to 1."""
    width = int(bins.max()) + 1
    total = np.zeros(count * width, np.int64)
    for values in bins:
        total += np.bincount(flat * width + values, minlength=len(total))
    table: FloatArray = total.reshape(count, width).astype(np.float32)
    table /= table.sum(axis=1, keepdims=True)
    return table


def _boxes(labels: IntArray, count: int) -> IntArray:
    box = np.empty((count, 4), np.int64)
    for axis, flat, width in ((1, labels.ravel(), labels.shape[1]), (0, labels.T.ravel(), labels.shape[0])):
        place = np.arange(flat.size)
        # Where an index comes up several times, the last value stays: written backwards, that is the first place.
        box[flat[::-1], axis] = place[::-1] // width
        box[flat, axis + 2] = place // width + 1
    return box


def _touching(labels: IntArray, count: int) -> IntArray:
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    codes = [np.minimum(a, b) * count + np.maximum(a, b) for a, b in ((a[a != b], b[a != b]) for a, b in sides)]
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), count), axis=1)
