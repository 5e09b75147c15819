"""Pictures of real handwritten digits on textured backgrounds, with boxes and instance masks, as a COCO dataset.

Picture `index` of a split depends on the configuration, the seed, the split and `index` alone, so any part of a
dataset can be made again without the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import cv2
import numpy as np
from backgrounds import draw_background
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from source_digits import CLASS_NAMES, GlyphShape, Split, load_source_digits, render_glyph

_BACKGROUND = -1
_PLACEMENT_TRIES = 40


@dataclass(frozen=True)
class PictureConfig:
    """Ranges (inclusive) from which each picture is drawn.

    Lengths are in pixels of the picture, angles in degrees, colours and contrast in 0..255 levels.
    `max_overlap` is the largest share of the smaller of two boxes that the other may cover.
    """

    width: tuple[int, int] = (320, 640)
    height: tuple[int, int] = (320, 480)
    digits: tuple[int, int] = (1, 8)
    digit_height: tuple[int, int] = (24, 140)
    angle: tuple[float, float] = (-15.0, 15.0)
    stretch: tuple[float, float] = (0.8, 1.25)
    shear: tuple[float, float] = (-0.15, 0.15)
    threshold: tuple[float, float] = (0.5, 0.7)
    opacity: tuple[float, float] = (0.8, 1.0)
    min_contrast: float = 60.0
    max_overlap: float = 0.04


@dataclass(frozen=True)
class Picture:
    """One picture and what it shows.

    `pixels` is uint8 [H, W, 3], RGB.  `owners` is int8 [H, W]: the index of the digit visible at each pixel, or -1.
    `labels` is int64 [N], the digit 0..9 of each index.
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.int8]
    labels: NDArray[np.int64]

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Return the visible mask of one digit, uint8 [H, W], 0 or 1."""
        return np.asarray(self.owners == index, dtype=np.uint8)

    def boxes(self) -> NDArray[np.float32]:
        """Return the tight box of each visible mask, float32 [N, 4], x, y, width, height in picture pixels."""
        rows = [cv2.boundingRect(self.mask(index)) for index in range(len(self.labels))]
        return np.array(rows, dtype=np.float32).reshape(-1, 4)


def make_picture(config: PictureConfig, split: Split, seed: int, index: int) -> Picture:
    """Make picture `index` of a split; the same arguments always give the same picture."""
    rng = np.random.default_rng([seed, index, 0 if split == "train" else 1])
    height = int(rng.integers(config.height[0], config.height[1] + 1))
    width = int(rng.integers(config.width[0], config.width[1] + 1))
    return draw_digits(rng, draw_background(rng, height, width), config, split)


def draw_digits(rng: np.random.Generator, pixels: NDArray[np.uint8], config: PictureConfig, split: Split) -> Picture:
    """Draw digits of a split on a surface, uint8 [H, W, 3], RGB, in place."""
    height, width = pixels.shape[:2]
    owners = np.full((height, width), _BACKGROUND, dtype=np.int8)
    labels: list[int] = []
    for (x, y), glyph in _place(rng, _draw_glyphs(rng, config, split), (height, width), config.max_overlap):
        ink = _draw_ink(rng, _surface(pixels[y:, x:], glyph), config.min_contrast)
        blend_glyph(pixels[y:, x:], glyph.opacity * glyph.strength, ink)
        owners[y : y + glyph.height, x : x + glyph.width][glyph.opacity > 0.5] = len(labels)
        labels.append(glyph.label)
    return Picture(pixels, owners, np.array(labels, dtype=np.int64))


def make_pictures(config: PictureConfig, split: Split, seed: int, count: int) -> Iterator[Picture]:
    """Yield pictures 0..count-1 of a split."""
    return (make_picture(config, split, seed, index) for index in range(count))


@dataclass(frozen=True)
class _Glyph:
    """A drawn digit: opacity float32 [h, w], 0..1, the factor put on it when blending, and the digit's label."""

    opacity: NDArray[np.float32]
    strength: np.float32
    label: int

    @property
    def height(self) -> int:
        return int(self.opacity.shape[0])

    @property
    def width(self) -> int:
        return int(self.opacity.shape[1])


def _draw_glyphs(rng: np.random.Generator, config: PictureConfig, split: Split) -> list[_Glyph]:
    """Draw the picture's digits, largest first, because a large one finds no room among small ones."""
    source = load_source_digits(split)
    count = int(rng.integers(config.digits[0], config.digits[1] + 1))
    # Log-uniform, so that small digits are as common as large ones on the scale that matters to a detector.
    low, high = np.log(config.digit_height)
    heights = np.sort(np.exp(rng.uniform(low, high, size=count)))[::-1]
    glyphs: list[_Glyph] = []
    for pick, height in zip(rng.integers(len(source.labels), size=count), heights, strict=True):
        opacity = render_glyph(source.images[pick], _draw_shape(rng, config, round(float(height))))
        glyphs.append(_Glyph(opacity, np.float32(rng.uniform(*config.opacity)), int(source.labels[pick])))
    return glyphs


def _draw_shape(rng: np.random.Generator, config: PictureConfig, height: int) -> GlyphShape:
    return GlyphShape(
        height=height,
        stretch=float(rng.uniform(*config.stretch)),
        angle=float(rng.uniform(*config.angle)),
        shear=float(rng.uniform(*config.shear)),
        threshold=float(rng.uniform(*config.threshold)),
    )


def _place(
    rng: np.random.Generator, glyphs: list[_Glyph], size: tuple[int, int], max_overlap: float
) -> Iterator[tuple[tuple[int, int], _Glyph]]:
    """Yield the top-left corner (x, y) of each glyph for which room was found; `size` is height, width."""
    taken: list[tuple[int, int, int, int]] = []
    for glyph in glyphs:
        if glyph.height >= size[0] or glyph.width >= size[1]:
            continue
        for _ in range(_PLACEMENT_TRIES):
            x, y = int(rng.integers(size[1] - glyph.width)), int(rng.integers(size[0] - glyph.height))
            box = (x, y, glyph.width, glyph.height)
            if all(_overlap(box, other) <= max_overlap for other in taken):
                taken.append(box)
                yield (x, y), glyph
                break


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    smaller = min(first[2] * first[3], second[2] * second[3])
    return max(0, width) * max(0, height) / smaller


def _surface(pixels: NDArray[np.uint8], glyph: _Glyph) -> NDArray[np.float32]:
    """Return the mean colour under a glyph at the top-left corner of `pixels`, float32 [3], 0..255."""
    return np.asarray(pixels[: glyph.height, : glyph.width].mean(axis=(0, 1)), dtype=np.float32)


def blend_glyph(pixels: NDArray[np.uint8], opacity: NDArray[np.float32], ink: NDArray[np.float32]) -> None:
    """Blend ink into the top-left corner of a picture, in place.

    `pixels` is uint8 [H, W, 3], RGB; `opacity` is float32 [h, w], 0..1; `ink` is float32 [3], RGB, 0..255.
    """
    corner = pixels[: opacity.shape[0], : opacity.shape[1]]
    patch = corner.astype(np.float32)
    corner[:] = np.rint(patch + opacity[..., None] * (ink - patch)).astype(np.uint8)


def _draw_ink(rng: np.random.Generator, surface: NDArray[np.float32], min_contrast: float) -> NDArray[np.float32]:
    """Draw an ink colour whose luma differs from the surface's by at least `min_contrast` levels."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    for _ in range(20):
        ink = rng.uniform(0.0, 255.0, size=3).astype(np.float32)
        if abs(float(weights @ (ink - surface))) >= min_contrast:
            return ink
    return np.full(3, 0.0 if float(weights @ surface) > 127.0 else 255.0, dtype=np.float32)


def coco_dataset(pictures: Iterable[Picture], split: Split) -> dict[str, Any]:
    """Describe pictures as a COCO instance dataset with compressed run-length masks.

    Picture `n` gets image id `n` and the file name of `file_name(n)`; boxes are x, y, width, height in picture pixels.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures):
        height, width = picture.owners.shape
        images.append({"id": image_id, "file_name": file_name(image_id), "width": width, "height": height})
        # Annotation ids start at 1: pycocotools reads a match with id 0 as "no match".
        annotations += _annotations(picture, image_id, first_id=len(annotations) + 1)
    return {
        "info": {"description": f"edgedet example digits, split {split}", "version": "1.0"},
        "licenses": [{"id": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES)],
        "images": images,
        "annotations": annotations,
    }


def file_name(image_id: int) -> str:
    """Return the file name of a picture inside the `images` folder."""
    return f"{image_id:04d}.jpg"


def _annotations(picture: Picture, image_id: int, first_id: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, (label, box) in enumerate(zip(picture.labels, picture.boxes(), strict=True)):
        mask = picture.mask(index)
        run_lengths = coco_mask.encode(np.asfortranarray(mask))
        rows.append(
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": int(label),
                "bbox": [int(value) for value in box],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": list(mask.shape), "counts": run_lengths["counts"].decode("ascii")},
            }
        )
    return rows


def write_dataset(pictures: Iterable[Picture], split: Split, out: Path, quality: int = 90) -> None:
    """Write `out/images/*.jpg` and `out/annotations.json`, replacing files of the same name."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    kept: list[Picture] = []
    with click.progressbar(pictures, label="pictures") as progress:
        for image_id, picture in enumerate(progress):
            write_file(out / "images" / file_name(image_id), encode_jpeg(picture.pixels, quality))
            kept.append(picture)
    document = json.dumps(coco_dataset(kept, split), separators=(",", ":")) + "\n"
    write_file(out / "annotations.json", document.encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole: a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Encode a picture, uint8 [H, W, 3], RGB."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV could not encode a picture as JPEG")
    return bytes(encoded.tobytes())


@click.command()
@click.option("--split", type=click.Choice(["train", "held_out"]), default="held_out", show_default=True)
@click.option("--count", type=click.IntRange(min=1), default=48, show_default=True, help="Number of pictures.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--quality", type=click.IntRange(1, 100), default=90, show_default=True, help="JPEG quality.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
def main(split: str, count: int, seed: int, quality: int, out: Path) -> None:
    """Write pictures of handwritten digits as a COCO dataset."""
    chosen = cast(Split, split)
    write_dataset(make_pictures(PictureConfig(), chosen, seed, count), chosen, out, quality)
    click.echo(f"wrote {count} pictures to {out}")


if __name__ == "__main__":
    main()
