"""The kinds of pictures that the example networks are measured on, each written as a labelled folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from dataset import PictureConfig, make_pictures, write_dataset
from networks.recipe import Pictures

# Pictures 0.. of seed 0 are the committed ones; a distant seed measures on others of the same held-out digits.
_SEED = 1000

SINGLE_DIGIT = PictureConfig(digits=(1, 1), digit_height=(60, 220))
"""One digit a picture, large enough for a network that looks at the picture as a whole."""


def _write_digits(folder: Path, count: int) -> None:
    write_dataset(make_pictures(PictureConfig(), "held_out", _SEED, count), "held_out", folder)


def _write_single_digits(folder: Path, count: int) -> None:
    write_dataset(make_pictures(SINGLE_DIGIT, "held_out", _SEED, count), "held_out", folder)


def _write_scenes(folder: Path, count: int) -> None:
    from scenes import SceneConfig, make_scenes, write_scenes

    write_scenes(make_scenes(SceneConfig(), "held_out", _SEED, count), "held_out", folder)


LABELLED_SETS: Mapping[Pictures, Callable[[Path, int], None]] = MappingProxyType(
    {"digits": _write_digits, "single_digits": _write_single_digits, "scenes": _write_scenes}
)
"""Name -> what writes a folder with that many pictures of held-out digits, in a form that `edgedet eval` reads."""
