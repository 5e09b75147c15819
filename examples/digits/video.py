"""Make a short video of held-out digits which move, turn and change size over a drifting background."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from backgrounds import draw_background
from dataset import blend_glyph
from numpy.typing import NDArray
from source_digits import GlyphShape, load_source_digits, render_glyph

_DEFAULT_OUT = Path(__file__).resolve().parent / "digits.mp4"
_GLYPH_HEIGHT = 160
_INKS = ((20, 20, 60), (150, 15, 25), (10, 70, 30), (60, 20, 110), (25, 25, 25), (120, 50, 0))


@dataclass(frozen=True)
class VideoConfig:
    """Size in pixels, rate in frames per second, length in seconds, and how far the background drifts in pixels."""

    width: int = 640
    height: int = 480
    rate: int = 30
    seconds: float = 6.0
    digits: int = 6
    drift: int = 48
    seed: int = 0


@dataclass(frozen=True)
class Mover:
    """One digit and its path.

    `opacity` is float32 [h, w], 0..1, and `ink` float32 [3], RGB, 0..255.  The other fields are pairs of mean and
    swing of a sine: centre x and y and digit height in frame pixels, angle in degrees; `phases` is float64 [4],
    radians, and `turns` float64 [4], whole swings in the video.
    """

    opacity: NDArray[np.float32]
    ink: NDArray[np.float32]
    x: tuple[float, float]
    y: tuple[float, float]
    height: tuple[float, float]
    angle: tuple[float, float]
    phases: NDArray[np.float64]
    turns: NDArray[np.float64]

    def pose(self, time: float) -> NDArray[np.float64]:
        """Return centre x, centre y, height (frame pixels) and angle (degrees) at a time 0..1 of the video."""
        mean, swing = np.array([self.x, self.y, self.height, self.angle]).T
        return np.asarray(mean + swing * np.sin(2.0 * np.pi * self.turns * time + self.phases))


def make_movers(config: VideoConfig) -> list[Mover]:
    """Draw the digits and their paths: one home cell each, so that digits meet at the cells' edges only."""
    rng = np.random.default_rng(config.seed)
    source = load_source_digits("held_out")
    labels = rng.permutation(10)[: config.digits]
    columns = (config.digits + 1) // 2
    return [
        _make_mover(rng, config, source.images[int(rng.choice(np.flatnonzero(source.labels == label)))], place, columns)
        for place, label in enumerate(labels)
    ]


def _make_mover(
    rng: np.random.Generator, config: VideoConfig, image: NDArray[np.float32], place: int, columns: int
) -> Mover:
    cell_width, cell_height = config.width / columns, config.height / 2
    shape = GlyphShape(height=_GLYPH_HEIGHT, stretch=float(rng.uniform(0.9, 1.1)))
    return Mover(
        opacity=np.pad(render_glyph(image, shape), 4),
        ink=np.array(_INKS[place % len(_INKS)], dtype=np.float32),
        x=((place % columns + 0.5) * cell_width, 0.27 * cell_width),
        y=((place // columns + 0.5) * cell_height, 0.24 * cell_height),
        height=(float(rng.uniform(62.0, 84.0)), float(rng.uniform(12.0, 30.0))),
        angle=(0.0, float(rng.uniform(4.0, 12.0))),
        phases=rng.uniform(0.0, 2.0 * np.pi, size=4),
        turns=rng.integers(1, 3, size=4).astype(np.float64),
    )


def draw_frame(config: VideoConfig, movers: list[Mover], scenery: NDArray[np.uint8], time: float) -> NDArray[np.uint8]:
    """Draw the frame at a time 0..1 of the video.

    `scenery` is uint8 [height + drift, width + drift, 3], RGB.  Returns uint8 [height, width, 3], RGB.
    """
    offset = config.drift * 0.5 * (1.0 - np.cos(np.pi * time))
    matrix = np.array([[1.0, 0.0, -offset], [0.0, 1.0, -offset]])
    frame = np.asarray(cv2.warpAffine(scenery, matrix, (config.width, config.height)), dtype=np.uint8)
    for mover in movers:
        blend_glyph(frame, _posed_opacity(mover, time, (config.width, config.height)), mover.ink)
    return frame


def _posed_opacity(mover: Mover, time: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mover's opacity in the frame; warping places it between pixels, so that motion is smooth."""
    x, y, height, angle = mover.pose(time)
    rows, columns = mover.opacity.shape
    scale = height / _GLYPH_HEIGHT
    # Linear sampling reads two neighbours only; blurring first stands in for the area each frame pixel covers.
    soft = cv2.GaussianBlur(mover.opacity, (0, 0), 0.4 / scale)
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), float(angle), float(scale))
    matrix[:, 2] += (x - columns / 2, y - rows / 2)
    return np.asarray(cv2.warpAffine(soft, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.float32)


def make_scenery(config: VideoConfig) -> NDArray[np.uint8]:
    """Draw a light, smooth background: dark inks stay legible on it, and it costs the codec little."""
    rng = np.random.default_rng([config.seed, 1])
    size = (config.height + config.drift, config.width + config.drift)
    texture = draw_background(rng, *size, kind="smooth_noise").astype(np.float32)
    stripes = draw_background(rng, *size, kind="stripes").astype(np.float32)
    light = 190.0 + 0.5 * (texture - texture.mean(axis=(0, 1))) + 0.25 * (stripes - stripes.mean(axis=(0, 1)))
    return np.asarray(cv2.GaussianBlur(np.clip(light, 0.0, 255.0), (0, 0), 3.0), dtype=np.uint8)


def write_video(config: VideoConfig, out: Path) -> None:
    """Write the video as MPEG-4 in an MP4 file, replacing a file of that name only once it is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{os.getpid()}.{out.name}")
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(temporary), codec, config.rate, (config.width, config.height))
    if not writer.isOpened():
        raise RuntimeError(f"OpenCV cannot write MPEG-4 video to {out}")
    try:
        _write_frames(config, writer)
    finally:
        writer.release()
    temporary.replace(out)


def _write_frames(config: VideoConfig, writer: cv2.VideoWriter) -> None:
    movers, scenery = make_movers(config), make_scenery(config)
    count = round(config.seconds * config.rate)
    with click.progressbar(range(count), label="frames") as progress:
        for number in progress:
            frame = draw_frame(config, movers, scenery, number / count)
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0.1), default=VideoConfig.seconds, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=VideoConfig.seed, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=_DEFAULT_OUT, help="MP4 file to write.")
def main(seconds: float, seed: int, out: Path) -> None:
    """Write a short video of moving handwritten digits."""
    write_video(VideoConfig(seconds=seconds, seed=seed), out)
    click.echo(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
