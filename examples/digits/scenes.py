"""Scenes: handwritten digits on a background of textured regions, where every pixel has a class.

A scene has semantic labels (a class for each pixel), panoptic ones (its segments) and instances (the digits), which
`write_scenes` writes into one folder.  Like a picture of `dataset.py`, scene `index` of a split depends on the
configuration, the seed, the split and `index` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
import cv2
import numpy as np
from backgrounds import smooth_noise
from dataset import Picture, PictureConfig, coco_dataset, draw_digits, encode_jpeg, file_name, write_file
from numpy.typing import NDArray
from source_digits import CLASS_NAMES, Split
from stuff import STUFF, draw_stuff

SCENE_CLASSES: tuple[str, ...] = (*CLASS_NAMES, *STUFF)
"""Things first: the class id of a digit is the digit, those of stuff follow."""
THING_CLASSES: tuple[int, ...] = tuple(range(len(CLASS_NAMES)))

_FIRST_STUFF = len(CLASS_NAMES)
_LAYOUT_TRIES = 20


@dataclass(frozen=True)
class SceneConfig:
    """Ranges (inclusive) from which each scene is drawn.

    `regions` is how many surfaces meet, each of another class and at least `least_share` of the picture; `waviness` is
    how far their borders stray from straight lines, in pixels.
    """

    digits: PictureConfig = field(
        default_factory=lambda: PictureConfig(
            width=(320, 480),
            height=(320, 480),
            digits=(1, 6),
            digit_height=(60, 160),
            threshold=(0.45, 0.65),
            opacity=(0.9, 1.0),
            min_contrast=90.0,
        )
    )
    regions: tuple[int, int] = (2, len(STUFF))
    least_share: float = 0.12
    waviness: float = 60.0


@dataclass(frozen=True)
class Scene:
    """A picture of digits, and what lies beneath them: `surface` is uint8 [H, W], the class id of the stuff."""

    picture: Picture
    surface: NDArray[np.uint8]

    def classes(self) -> NDArray[np.uint8]:
        """Return the class id of what is visible at each pixel, uint8 [H, W]."""
        owners = self.picture.owners
        # Owner -1 picks the last entry, which the surface replaces.
        digits = np.append(self.picture.labels, 0).astype(np.uint8)[owners]
        return np.where(owners < 0, self.surface, digits)

    def segments(self) -> tuple[NDArray[np.uint8], dict[int, int]]:
        """Return the segment id of each pixel, uint8 [H, W], and the class id of each segment.

        Each digit is a segment, and so is the stuff of each class, in however many pieces.
        """
        owners, count = self.picture.owners, len(self.picture.labels)
        ids = np.where(owners < 0, self.surface - _FIRST_STUFF + count + 1, owners + 1).astype(np.uint8)
        classes = {index + 1: int(label) for index, label in enumerate(self.picture.labels)}
        classes |= {index + count + 1: _FIRST_STUFF + index for index in range(len(STUFF))}
        return ids, {int(number): classes[int(number)] for number in np.unique(ids)}


def make_scene(config: SceneConfig, split: Split, seed: int, index: int) -> Scene:
    """Make scene `index` of a split; the same arguments always give the same scene."""
    rng = np.random.default_rng([seed, index, 2 if split == "train" else 3])
    height = int(rng.integers(config.digits.height[0], config.digits.height[1] + 1))
    width = int(rng.integers(config.digits.width[0], config.digits.width[1] + 1))
    count = int(rng.integers(config.regions[0], config.regions[1] + 1))
    kinds = rng.permutation(len(STUFF))[:count]
    region = _draw_regions(rng, config, (height, width), count)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for place, kind in enumerate(kinds):
        inside = np.asarray(region == place, dtype=np.uint8)
        x, y, w, h = cv2.boundingRect(inside)
        box = slice(y, y + h), slice(x, x + w)
        # Views of the picture: what is copied into one appears in it.
        cv2.copyTo(draw_stuff(rng, list(STUFF)[kind], h, w), inside[box], pixels[box])
    surface = (kinds + _FIRST_STUFF).astype(np.uint8)[region]
    return Scene(draw_digits(rng, pixels, config.digits, split), surface)


def make_scenes(config: SceneConfig, split: Split, seed: int, count: int) -> Iterator[Scene]:
    """Yield scenes 0..count-1 of a split."""
    return (make_scene(config, split, seed, index) for index in range(count))


def _draw_regions(
    rng: np.random.Generator, config: SceneConfig, size: tuple[int, int], count: int
) -> NDArray[np.uint8]:
    """Divide a picture of `size` (height, width) among points, each pixel to the nearest; uint8 [H, W]."""
    ys, xs = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)[None, :]
    for _ in range(_LAYOUT_TRIES):
        # Straying coordinates bend the straight borders between the points.
        y = ys + np.float32(config.waviness) * (smooth_noise(rng, *size) - 0.5)
        x = xs + np.float32(config.waviness) * (smooth_noise(rng, *size) - 0.5)
        region, least = np.zeros(size, dtype=np.uint8), np.full(size, np.inf, dtype=np.float32)
        for place, (row, column) in enumerate(rng.uniform(0.0, size, size=(count, 2)).astype(np.float32)):
            distance = (y - row) ** 2 + (x - column) ** 2
            region[distance < least] = place
            least = np.minimum(least, distance)
        if min(np.count_nonzero(region == place) for place in range(count)) >= config.least_share * region.size:
            break
    return region


def write_scenes(scenes: Iterable[Scene], split: Split, folder: Path, quality: int = 85) -> None:
    """Write a folder that `edgedet eval` reads for semantic, panoptic and instance models alike.

    `images/*.jpg` are the pictures; `semantic/*.png` class ids, grey; `panoptic.json` and `panoptic/*.png` segments in
    COCO's panoptic format, whose categories name the class ids; `annotations.json` the digits as COCO instances.
    """
    for name in ("images", "semantic", "panoptic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    records: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes):
        stem = Path(file_name(image_id)).stem
        ids, classes = scene.segments()
        write_file(folder / "images" / f"{stem}.jpg", encode_jpeg(scene.picture.pixels, quality))
        write_file(folder / "semantic" / f"{stem}.png", _encode_png(scene.classes()))
        # COCO's panoptic PNG: a segment's id is R + 256 G + 65536 B; OpenCV wants blue first.
        write_file(folder / "panoptic" / f"{stem}.png", _encode_png(cv2.merge([0 * ids, 0 * ids, ids])))
        records.append({"image_id": image_id, "file_name": f"{stem}.png", "segments_info": _segments(ids, classes)})
        pictures.append(scene.picture)
    instances = coco_dataset(pictures, split)
    _write_json(folder / "annotations.json", instances)
    _write_json(folder / "panoptic.json", instances | {"categories": _categories(), "annotations": records})


def _categories() -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "isthing": int(number in THING_CLASSES)}
        for number, name in enumerate(SCENE_CLASSES)
    ]


def _segments(ids: NDArray[np.uint8], classes: dict[int, int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, class_id in classes.items():
        mask = np.asarray(ids == number, dtype=np.uint8)
        box = [int(value) for value in cv2.boundingRect(mask)]
        rows.append({"id": number, "category_id": class_id, "area": int(mask.sum()), "bbox": box, "iscrowd": 0})
    return rows


def _encode_png(values: NDArray[Any]) -> bytes:
    done, encoded = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise RuntimeError("OpenCV could not encode labels as PNG")
    return bytes(encoded.tobytes())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_file(path, (json.dumps(document, separators=(",", ":")) + "\n").encode())


@click.command()
@click.option("--split", type=click.Choice(["train", "held_out"]), default="held_out", show_default=True)
@click.option("--count", type=click.IntRange(min=1), default=24, show_default=True, help="Number of scenes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
def main(split: str, count: int, seed: int, out: Path) -> None:
    """Write scenes with semantic, panoptic and instance labels."""
    chosen = cast(Split, split)
    write_scenes(make_scenes(SceneConfig(), chosen, seed, count), chosen, out)
    click.echo(f"wrote {count} scenes to {out}")


if __name__ == "__main__":
    main()
