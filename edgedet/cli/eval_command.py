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
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from edgedet.atomic_file import atomic_file
from edgedet.class_match import ClassMatch, match_classes
from edgedet.cli.parameters import class_list
from edgedet.dataset import LabelledImage, LabelledSet, read_labelled_set
from edgedet.errors import DatasetError, ImageError, SinkError
from edgedet.evaluate import Evaluation, evaluate
from edgedet.results import Detections

if TYPE_CHECKING:
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.selection import Selection

__all__ = ["command"]

SHOWN = 5


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, metavar="PATH", help="COCO JSON, or a folder with one, or a YOLO folder or data.yaml"
)
@click.option(
    "--names",
    type=class_list,
    metavar="FILE|coco|coco91|voc",
    help="Class names of a YOLO folder, instead of its own",
)
@click.option("--json", "json_path", metavar="FILE|-", help="Write the scores as JSON, - for the standard output")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.001, show_default=True, help="Lowest score that counts")
@click.option("--iou", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="Overlap that NMS allows")
@click.option(
    "--max-det",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Detections a picture; 100 compares with published COCO figures",
)
@click.option("--multi-label", is_flag=True, help="Let one location answer with several classes, not only its best one")
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
    limit: int | None,
    threads: int | None,
) -> None:
    """Score MODEL on labelled pictures: mAP (IoU .50:.95), mAP50, mAP75 and AP per class.

    Classes are matched by name. The model answers as under edgedet run, but with a lower score threshold; many
    published figures were reached with --multi-label and --max-det 100. Pictures that cannot be read are named, left
    out of the scores on both sides, and make the exit code 1; the scores of the others are still printed and written.
    """
    from edgedet.loader import load
    from edgedet.runtime.selection import Selection

    _check_place(json_path)
    selection = Selection(confidence=conf, iou=iou, max_detections=max_det, multi_label=multi_label)
    with load(model, selection=selection, threads=threads) as detector:
        spec = detector.spec
        labelled = read_labelled_set(data, class_names=names, fallback_names=spec.class_names)
        classes = match_classes(spec.class_names, labelled.class_names)
        _say_notes(labelled, classes)
        run = _Run(detector, labelled.images[:limit])
        scores = run.score(classes)
    report = _report(model, data, detector, scores, run, classes)
    _write(report, json_path)
    _print(scores, run, Console(stderr=json_path == "-"))
    run.fail_if_skipped()


@dataclass
class _Run:
    """One pass of a detector over labelled pictures, which keeps the time and what had to be left out."""

    detector: Detector
    images: Sequence[LabelledImage]
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    detecting: float = 0.0
    done: int = 0

    def score(self, classes: ClassMatch) -> Evaluation:
        """Detect in every picture and score it."""
        try:
            return evaluate(self._pairs(), classes, max_detections=self.detector.selection.max_detections)
        except DatasetError:
            self.fail_if_skipped()
            raise

    @property
    def milliseconds(self) -> float:
        """Mean time of one picture from array to detections."""
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

    def _pairs(self) -> Iterator[tuple[LabelledImage, Detections]]:
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
            detections = self.detector(picture)
            self.detecting += time.perf_counter() - started
            self.done += 1
            yield sized, detections


def _check_place(json_path: str | None) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    if json_path not in (None, "-") and not Path(json_path).parent.is_dir():
        raise SinkError(
            f"a folder to write '{json_path}' to", f"no '{Path(json_path).parent}'", "Make it, or pass another --json"
        )


def _say_notes(labelled: LabelledSet, classes: ClassMatch) -> None:
    notes = [*labelled.notes]
    if classes.only_model:
        notes.append(f"The set lacks {_listed(classes.only_model)} of the model's classes")
    if classes.only_set:
        notes.append(f"The model lacks {_listed(classes.only_set)} of the set's classes, which do not count")
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"


def _report(
    model: Path, data: str, detector: Detector, scores: Evaluation, run: _Run, classes: ClassMatch
) -> dict[str, Any]:
    selection: Selection = detector.selection
    return {
        "model": str(model),
        "precision": detector.spec.precision,
        "data": data,
        **scores.to_json(),
        "ms_per_image": round(run.milliseconds, 3),
        "confidence": selection.confidence,
        "iou": selection.iou,
        "multi_label": selection.multi_label,
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


def _print(scores: Evaluation, run: _Run, console: Console) -> None:
    table = Table("class", "labels", "AP", "AP50", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for score in scores.classes:
        table.add_row(escape(score.name), str(score.labels), f"{score.ap:.3f}", f"{score.ap50:.3f}")
    table.add_section()
    table.add_row("all", str(scores.labels), f"{scores.mean_ap:.3f}", f"{scores.mean_ap50:.3f}", style="bold")
    console.print(table)
    console.print(
        f"mAP {scores.mean_ap:.3f}, mAP50 {scores.mean_ap50:.3f}, mAP75 {scores.mean_ap75:.3f} "
        f"on {scores.images} pictures in {scores.seconds:.1f} s ({run.milliseconds:.1f} ms a picture)",
        soft_wrap=True,
        highlight=False,
    )
