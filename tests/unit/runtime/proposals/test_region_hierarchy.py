"""Grouping against one that recomputes everything from the pixels at every step."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from edgedet.runtime.proposals.region_hierarchy import Regions, group, measure_regions, pixel_bins


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of noisy patches and its label map: the pixels nearest to each of some random points."""
    random = np.random.default_rng(seed)
    points = random.random((14, 2)) * [30, 40]
    rows, columns = np.mgrid[:30, :40]
    distances = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    labels = np.unique(distances.argmin(axis=2), return_inverse=True)[1].reshape(30, 40).astype(np.int64)
    colours = random.integers(0, 256, (14, 3))
    noise = random.normal(0, 25, (30, 40, 3))
    return np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def histogram_of(mask: np.ndarray, bins: np.ndarray) -> np.ndarray:
    values = bins[:, mask.ravel()].ravel()
    return np.bincount(values, minlength=int(bins.max()) + 1) / len(values)


def touch(one: np.ndarray, other: np.ndarray) -> bool:
    wide = cv2.dilate(one.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return bool((wide.astype(bool) & other).any())


def plain_group(image: np.ndarray, labels: np.ndarray, similarity: str) -> list[tuple[int, int, int, int]]:
    bins = pixel_bins(image)
    masks = [labels == label for label in range(labels.max() + 1)]
    boxes = [box_of(mask) for mask in masks]

    def measure(one: np.ndarray, other: np.ndarray) -> float:
        left, top, right, bottom = box_of(one | other)
        size = one.sum() + other.sum()
        parts = {
            "C": np.minimum(histogram_of(one, bins.colour), histogram_of(other, bins.colour)).sum(),
            "T": np.minimum(histogram_of(one, bins.texture), histogram_of(other, bins.texture)).sum(),
            "S": 1 - size / labels.size,
            "F": 1 - ((right - left) * (bottom - top) - size) / labels.size,
        }
        return float(sum(parts[letter] for letter in similarity))

    while len(masks) > 1:
        pairs = [(a, b) for a, b in itertools.combinations(range(len(masks)), 2) if touch(masks[a], masks[b])]
        first, second = max(pairs, key=lambda pair: measure(masks[pair[0]], masks[pair[1]]))
        masks.append(masks[first] | masks[second])
        boxes.append(box_of(masks[-1]))
        del masks[second], masks[first]
    return boxes


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("similarity", ["CTSF", "TSF", "C"])
def test_regions_are_joined_as_when_all_is_measured_anew(similarity: str, seed: int) -> None:
    image, labels = picture(seed)
    boxes = group(measure_regions(labels, pixel_bins(image)), similarity)
    assert [tuple(box) for box in boxes.tolist()] == [
        tuple(map(int, box)) for box in plain_group(image, labels, similarity)
    ]


def test_regions_are_measured_as_from_their_masks() -> None:
    image, labels = picture(2)
    bins = pixel_bins(image)
    regions = measure_regions(labels, bins)
    masks = [labels == label for label in range(labels.max() + 1)]
    assert regions.size.tolist() == [mask.sum() for mask in masks]
    assert regions.box.tolist() == [list(box_of(mask)) for mask in masks]
    for values, table in ((bins.colour, regions.colour), (bins.texture, regions.texture)):
        np.testing.assert_allclose(table, [histogram_of(mask, values) for mask in masks], atol=1e-6)
    pairs = itertools.combinations(range(len(masks)), 2)
    assert regions.pairs.tolist() == [[a, b] for a, b in pairs if touch(masks[a], masks[b])]


def test_colours_are_counted_in_25_bins_a_channel() -> None:
    image, _ = picture(3)
    colour = pixel_bins(image).colour
    for channel in range(3):
        wanted = np.histogram(image[..., channel], bins=25, range=(0, 256))[0]
        assert np.bincount(colour[channel], minlength=75)[25 * channel : 25 * channel + 25].tolist() == wanted.tolist()


@pytest.mark.parametrize(("turns", "direction"), [(0, 0), (1, 6), (2, 4), (3, 2)])
def test_texture_tells_the_direction_in_which_it_gets_brighter(turns: int, direction: int) -> None:
    """Turned left, a ramp that went right goes up the picture: direction 6 of 8, clockwise since y points down."""
    ramp = np.rot90(np.tile(np.arange(0, 200, 5, np.uint8), (40, 1)), turns)
    bins = pixel_bins(np.ascontiguousarray(np.repeat(ramp[..., None], 3, axis=2))).texture - 10 * np.arange(24)[:, None]
    steepness = bins.reshape(3, 8, -1).mean(axis=2)[0]
    assert steepness.argmax() == direction
    opposite = [(direction + turn) % 8 for turn in (3, 4, 5)]
    assert steepness[opposite].max() == 0


def test_one_region_is_its_own_hierarchy() -> None:
    labels = np.zeros((5, 7), np.int64)
    regions = measure_regions(labels, pixel_bins(np.zeros((5, 7, 3), np.uint8)))
    assert isinstance(regions, Regions)
    assert group(regions, "CTSF").tolist() == [[0, 0, 7, 5]]
