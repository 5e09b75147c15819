"""``edgedet eval``: score a model on labelled pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import track

from edgedet.atomic_file import atomic_file
from edgedet.class_match import ClassMatch
from edgedet.class_names import KNOWN_NAMES
from edgedet.cli.engine_options import engine_options
from edgedet.cli.parameters import class_list
from edgedet.cli.scoring import TABLES
from edgedet.cli.task_options import check_options
from edgedet.cli.tile_options import tile_options
from edgedet.errors import DatasetError, ImageError, SinkError, SpecError
from edgedet.evaluate import Evaluation
from edgedet.model_spec import Task
from edgedet.schema import to_json
from edgedet.scoring import SCORINGS, LabelledPicture, LabelledPictures, Scores, Scoring

if TYPE_CHECKING:
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.tiled_detector import TiledDetector
    from edgedet.runtime.tiling import Tiling

__all__ = ["command"]

SHOWN = 5


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="Boxes: COCO JSON, a folder with one, a YOLO folder or data.yaml. "
    "Semantic maps: a folder with images/ and semantic/. Panoptic maps: COCO panoptic JSON, or a folder with one",
)
@click.option(
    "--names",
    type=class_list,
    metavar="FILE|NAME",
    help=f"Class names of a YOLO folder or of masks, instead of their own: a file, or {', '.join(KNOWN_NAMES)}",
)
@click.option("--json", "json_path", metavar="FILE|-", help="Write the scores as JSON, - for the standard output")
@click.option(
    "--conf",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Lowest score that counts; a panoptic model may itself ask for more",
)
@click.option("--iou", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="Overlap that NMS allows")
@click.option(
    "--max-det",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Detections a picture; 100 compares with published COCO figures",
)
@click.option("--multi-label", is_flag=True, help="Let one location answer with several classes, not only its best one")
@click.option(
    "--proposals",
    type=click.IntRange(min=1),
    help="At most this many regions a picture, for a model that wants them (R-CNN, Fast R-CNN); by default as many as "
    "it was exported for",
)
@tile_options
@engine_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score the first N pictures only")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads of the engine; all where left out")
def command(
    model: Path,
    data: str,
    names: tuple[str, ...] | None,
    json_path: str | None,
    conf: float,
    iou: float,
    max_det: int,
    multi_label: bool,
    proposals: int | None,
    tiling: Tiling | None,
    engine: dict[str, Any],
    limit: int | None,
    threads: int | None,
) -> None:
    """Score MODEL on labelled pictures.

    Boxes: mAP (IoU .50:.95), mAP50, mAP75 and AP per class, and the same of masks where model and labels have them.
    Semantic maps: mIoU, pixel accuracy and IoU per class.
    Panoptic maps: PQ, SQ and RQ, of all classes, of things, of stuff, and per class.

    Classes are matched by name. The model answers as under edgedet run, but with a lower score threshold; many
    published figures were reached with --multi-label and --max-det 100. Pictures that cannot be read are named, left
    out of the scores on both sides, and make the exit code 1; the scores of the others are still printed and written.
    """
    from edgedet.loader import load
    from edgedet.runtime.selection import Selection

    _check_place(json_path)
    selection = Selection(confidence=conf, iou=iou, max_detections=max_det, multi_label=multi_label)
    with load(model, selection=selection, threads=threads, proposals=proposals, tiling=tiling, **engine) as detector:
        spec = detector.spec
        scoring = _scoring(spec.task)
        labelled = scoring.read(data, names, spec.class_names)
        classes = scoring.match(spec.class_names, labelled.class_names)
        _say_notes(labelled, classes)
        run = _Run(detector, labelled.images[:limit])
        scores = run.score(scoring, classes)
        if spec.task == "instance" and isinstance(scores, Evaluation) and scores.masks is None:
            click.echo("note: Masks are not scored, because not every object of the set has an outline", err=True)
    report = _report(model, data, detector, scores, run, classes)
    report["tiling"] = to_json(tiling)
    report["proposals"] = None if spec.proposals is None else spec.proposals.count
    _write(report, json_path)
    _print(scores, run, Console(stderr=json_path == "-"))
    run.fail_if_skipped()


def _scoring(task: Task) -> Scoring:
    check_options(task)
    scoring = SCORINGS.get(task)
    if scoring is None:
        raise SpecError(
            f"a model of a task that can be scored ({', '.join(SCORINGS)})", f"one of {task}", "Score another model"
        )
    return scoring


@dataclass
class _Run:
    """One pass of a detector over labelled pictures, which keeps the time and what had to be left out."""

    detector: Detector[Any] | TiledDetector
    images: Sequence[LabelledPicture]
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    detecting: float = 0.0
    done: int = 0

    def score(self, scoring: Scoring, classes: ClassMatch) -> Scores:
        """Run the model on every picture and score it."""
        try:
            return scoring.score(self._pairs(), classes, self.detector.selection.max_detections)
        except DatasetError:
            self.fail_if_skipped()
            raise

    @property
    def milliseconds(self) -> float:
        """Mean time of one picture from array to answer."""
        return 1000 * self.detecting / max(self.done, 1)

    def fail_if_skipped(self) -> None:
        """Raise where pictures were left out."""
        if self.skipped:
            raise DatasetError(
                "pictures that can all be scored",
                f"{len(self.skipped)} of {len(self.images)} that cannot, '{self.skipped[0][0]}' for one",
                "Replace these pictures, or take them out of the set"
                + (f"; the scores are those of the other {self.done}" if self.done else ""),
            )

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        from edgedet.runtime.capture import read_image

        console = Console(stderr=True)
        for image in track(self.images, "Scoring", console=console, disable=not console.is_terminal, transient=True):
            try:
                picture = read_image(image.path)
                sized = image.sized(width=picture.shape[1], height=picture.shape[0])
            except (ImageError, DatasetError) as error:
                self.skipped.append((image.path, str(error)))
                console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
                continue
            started = time.perf_counter()
            answer = self.detector(picture)
            self.detecting += time.perf_counter() - started
            self.done += 1
            yield sized, answer


def _check_place(json_path: str | None) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    if json_path not in (None, "-") and not Path(json_path).parent.is_dir():
        raise SinkError(
            f"a folder to write '{json_path}' to", f"no '{Path(json_path).parent}'", "Make it, or pass another --json"
        )


def _say_notes(labelled: LabelledPictures, classes: ClassMatch) -> None:
    notes = [*labelled.notes]
    if classes.only_model:
        notes.append(f"The set lacks {_listed(classes.only_model)} of the model's classes")
    if classes.only_set:
        notes.append(f"The model lacks {_listed(classes.only_set)} of the set's classes, which get no score")
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"


def _report(
    model: Path, data: str, detector: Detector[Any] | TiledDetector, scores: Scores, run: _Run, classes: ClassMatch
) -> dict[str, Any]:
    return {
        "model": str(model),
        "precision": detector.spec.precision,
        "data": data,
        **scores.to_json(),
        "ms_per_image": round(run.milliseconds, 3),
        **{name: getattr(detector.selection, name) for name in SCORINGS[detector.spec.task].settings},
        "skipped": [{"path": str(path), "reason": reason} for path, reason in run.skipped],
        "only_in_model": list(classes.only_model),
        "only_in_data": list(classes.only_set),
    }


def _write(report: dict[str, Any], json_path: str | None) -> None:
    if json_path == "-":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    elif json_path is not None:
        with atomic_file(Path(json_path)) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _print(scores: Scores, run: _Run, console: Console) -> None:
    table, figures = TABLES[run.detector.spec.task](scores)
    console.print(table)
    console.print(
        f"{figures} on {scores.images} pictures in {scores.seconds:.1f} s ({run.milliseconds:.1f} ms a picture)",
        soft_wrap=True,
        highlight=False,
    )
