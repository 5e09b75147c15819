"""Measure example networks on held-out pictures: in PyTorch, and exported and run by edgedet."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from archive import load_archive
from labelled_sets import LABELLED_SETS
from networks import MODULES, recipe
from networks.recipe import Answer, Recipe
from numpy.typing import NDArray

import edgedet
from edgedet.model_spec import Task
from edgedet.runtime.selection import Selection
from edgedet.scoring import SCORINGS

MODELS = Path(__file__).resolve().parent.parent / "models"
HEADLINE: dict[Task, str] = {
    "detect": "mAP50",
    "localize": "mAP50",
    "instance": "masks mAP50",
    "semantic": "mIoU",
    "panoptic": "PQ",
}
"""Task -> the figure that tells whether a network works."""

# The limits of plain_boxes.DecodeConfig.
_SELECTION = Selection(confidence=0.001, iou=0.6, max_detections=100)

Look = Callable[[NDArray[np.uint8]], Answer]


@functools.cache
def labelled_folder(pictures: str, count: int) -> Path:
    """Draw a set once a run, into a temporary folder that goes when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"edgedet-{pictures}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    LABELLED_SETS[pictures](folder, count)  # type: ignore[index]
    return folder


def score(task: Task, look: Look, data: Path) -> dict[str, Any]:
    """Return what `edgedet eval --json` calls the scores of answers to the RGB pictures of a labelled folder."""
    scoring = SCORINGS[task]
    labels = scoring.read(str(data), None, ())
    classes = scoring.match(labels.class_names, labels.class_names)

    def pairs() -> Iterator[tuple[Any, Answer]]:
        for image in labels.images:
            pixels = cv2.imread(str(image.path))
            assert pixels is not None
            height, width = pixels.shape[:2]
            yield image.sized(width, height), look(np.asarray(pixels[..., ::-1], dtype=np.uint8))

    return scoring.score(pairs(), classes, _SELECTION.max_detections).to_json()


def headline(task: Task, scores: dict[str, Any]) -> float:
    """Return the figure named in `HEADLINE`."""
    value: Any = scores
    for key in HEADLINE[task].split():
        value = value[key]
    return float(value)


def in_torch(made: Recipe, archive: Path, data: Path) -> dict[str, Any]:
    """Score an archive in PyTorch, read by its recipe."""
    module, description = load_archive(archive)
    torch.set_num_threads(1)

    @torch.no_grad()
    def look(pixels: NDArray[np.uint8]) -> Answer:
        return made.answer(module, pixels)

    return score(description["task"], look, data)


def in_edgedet(archive: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Export an archive with edgedet and score it in ONNX Runtime."""
    target = folder / f"{archive.stem}.onnx"
    edgedet.export_model(archive, target)
    with edgedet.load(target, selection=_SELECTION) as detector:

        def look(pixels: NDArray[np.uint8]) -> Answer:
            answer: Answer = detector(np.ascontiguousarray(pixels[..., ::-1]))
            return answer

        return score(detector.spec.task, look, data)


def measure(made: Recipe, archive: Path, count: int) -> str:
    """Return a line of scores: in PyTorch, and in ONNX Runtime by edgedet."""
    data = labelled_folder(made.pictures, count)
    task: Task = load_archive(archive)[1]["task"]
    torch_scores = in_torch(made, archive, data)
    with tempfile.TemporaryDirectory() as folder:
        edgedet_scores = in_edgedet(archive, data, Path(folder))
    first, second = headline(task, torch_scores), headline(task, edgedet_scores)
    return f"{made.name}: {HEADLINE[task]} {first:.4f} in PyTorch, {second:.4f} in ONNX Runtime ({count} pictures)"


@click.command()
@click.argument("networks", nargs=-1, type=click.Choice(list(MODULES)))
@click.option("--count", type=click.IntRange(min=1), default=200, show_default=True, help="Pictures of each kind.")
def main(networks: tuple[str, ...], count: int) -> None:
    """Measure the named networks, or all, on freshly drawn pictures of held-out digits."""
    for name in networks or MODULES:
        click.echo(measure(recipe(name), MODELS / f"{name}.pt", count))


if __name__ == "__main__":
    main()
