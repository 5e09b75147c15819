"""``edgedet run``: detections and maps of pictures, videos and cameras."""

from __future__ import annotations

import contextlib
import difflib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgedet.cli.contents import Contents, count
from edgedet.cli.engine_options import engine_options
from edgedet.cli.task_options import check_options
from edgedet.cli.tile_options import tile_options
from edgedet.errors import EdgedetError, SourceError

if TYPE_CHECKING:
    from edgedet.runtime.capture import Source
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.sinks import Sink
    from edgedet.runtime.stream import Statistics, Stream
    from edgedet.runtime.tiling import Tiling

__all__ = ["command"]

_SHOWN_CLASSES = 10
_SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


@dataclass(frozen=True)
class _Request:
    """What the command line asked for."""

    out: str | None
    json_lines: str | None
    coco: str | None
    maps: str | None
    show: bool

    @property
    def writes_to_stdout(self) -> bool:
        return "-" in (self.json_lines, self.coco)

    @property
    def names_no_way_out(self) -> bool:
        return not (self.out or self.json_lines or self.coco or self.maps or self.show)


@dataclass
class _Outcome:
    """What happened so far."""

    broken: list[EdgedetError] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)

    def report_broken(self, error: EdgedetError) -> None:
        """Keep and print the error of a picture that is left out."""
        self.broken.append(error)
        click.echo(f"skipped: {error}", err=True)


@click.command("run")
@click.argument("model", type=click.Path())
@click.option(
    "--source",
    required=True,
    help="Picture, folder, quoted glob ('a/**/*.jpg'), video, camera number, V4L2 device, RTSP or HTTP address",
)
@click.option(
    "--out",
    type=click.Path(),
    help="Annotated picture, folder of pictures, or video (.mp4, .mov, .avi), by the kind of source; by default, "
    "where no other way out is named, '<source>.detected...' in the current folder",
)
@click.option("--json", "json_lines", metavar="FILE|-", help="One JSON object a frame and line; - is standard output")
@click.option(
    "--coco",
    metavar="FILE",
    help="COCO results; image_id is the file name as a number where all are numbers, else the file name, in videos the "
    "frame number; category_id is the class id",
)
@click.option(
    "--maps",
    type=click.Path(),
    metavar="DIR",
    help="Folder for the maps of semantic and panoptic models: PNG files of class ids, or of segments in COCO's format",
)
@click.option(
    "--conf",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Lowest score that counts; a panoptic model may itself ask for more",
)
@click.option("--iou", type=click.FloatRange(0, 1), default=0.7, show_default=True, help="Overlap that NMS allows")
@click.option("--max-det", type=click.IntRange(min=1), default=300, show_default=True, help="Most detections a picture")
@click.option("--classes", help="Only these classes, by name or id, separated by commas")
@click.option("--class-agnostic", is_flag=True, help="Let boxes of different classes suppress each other")
@click.option(
    "--proposals",
    type=click.IntRange(min=1),
    help="At most this many regions a picture, for a model that wants them (R-CNN, Fast R-CNN); by default as many as "
    "it was exported for",
)
@tile_options
@engine_options
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Processor threads of one inference; by default what gives most frames per second, on a camera the fastest "
    "answer",
)
@click.option("--show", is_flag=True, help="Show a window; q or Escape ends")
def command(
    model: str,
    source: str,
    out: str | None,
    json_lines: str | None,
    coco: str | None,
    maps: str | None,
    conf: float,
    iou: float,
    max_det: int,
    classes: str | None,
    class_agnostic: bool,
    proposals: int | None,
    tiling: Tiling | None,
    engine: dict[str, Any],
    threads: int | None,
    show: bool,
) -> None:
    """Detect in or segment pictures, videos and cameras.

    MODEL is a file that "edgedet export" wrote, or an engine that "edgedet build" did.
    """
    from edgedet.loader import load
    from edgedet.runtime.capture import open_source
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import Stream, schedule_for

    request = _Request(out, json_lines, coco, maps, show)
    _check_distinct(request)
    outcome = _Outcome()
    selection = Selection(confidence=conf, iou=iou, max_detections=max_det, class_agnostic=class_agnostic)
    with contextlib.ExitStack() as resources:
        frames = open_source(source, outcome.report_broken)
        resources.callback(frames.close)
        schedule = schedule_for(frames) if threads is None else None
        detector = load(
            model,
            selection=selection,
            threads=schedule.threads if schedule else threads,
            proposals=proposals,
            tiling=tiling,
            **engine,
        )
        resources.callback(detector.close)
        check_options(detector.spec.task)
        if classes is not None:
            detector = detector.with_selection(_only_classes(selection, classes, detector.spec.class_names))
        sinks = _open_sinks(request, frames, resources)
        stream = resources.enter_context(Stream(detector, frames, in_flight=schedule.in_flight if schedule else None))
        with _sigterm_ends_the_run():
            try:
                _pump(stream, sinks, outcome)
            finally:
                _finish(sinks)
                _print_summary(stream, sinks, outcome, to_stderr=request.writes_to_stdout)
    if outcome.broken:
        done = stream.statistics.frames
        raise SourceError(
            f"{done + len(outcome.broken)} pictures that can be read",
            f"{len(outcome.broken)} that cannot",
            f"See the messages above; the other {done} were processed",
        )


def _check_distinct(request: _Request) -> None:
    places = (request.out, request.json_lines, request.coco, request.maps)
    paths = [Path(path).resolve() for path in places if path and path != "-"]
    if len(set(paths)) < len(paths) or request.json_lines == request.coco == "-":
        raise click.UsageError("--out, --json, --coco and --maps must name different files")


def _only_classes(selection: Selection, text: str, class_names: Sequence[str]) -> Selection:
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    if not wanted:
        raise click.BadParameter("names no class", param_hint="--classes")
    return replace(selection, class_ids=tuple(sorted({_class_id(word, class_names) for word in wanted})))


def _class_id(word: str, class_names: Sequence[str]) -> int:
    folded = [name.casefold() for name in class_names]
    if word.casefold() in folded:
        return folded.index(word.casefold())
    if word.isascii() and word.isdigit() and (int(word) < len(class_names) or not class_names):
        return int(word)
    near = [class_names[folded.index(match)] for match in difflib.get_close_matches(word.casefold(), folded, n=3)]
    known = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {_shown(class_names)}"
    raise click.BadParameter(f"the model has no class {word!r}; {known}", param_hint="--classes")


def _shown(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN_CLASSES else ""
    return ", ".join(names[:_SHOWN_CLASSES]) + more


def _open_sinks(request: _Request, source: Source, resources: contextlib.ExitStack) -> list[Sink]:
    from edgedet.runtime.sinks import SINKS, default_out, image_ids, map_names, open_out
    from edgedet.runtime.sinks.maps import MapFolderSink

    sinks: list[Sink] = []
    maps = None

    def add(sink: Sink) -> None:
        resources.callback(sink.close)
        sinks.append(sink)

    out = request.out or (default_out(source) if request.names_no_way_out else None)
    if out is not None:
        add(open_out(out, source))
    if request.maps is not None:
        maps = MapFolderSink(request.maps, map_names(source), image_ids(source))
        add(maps)
    if request.json_lines is not None:
        add(SINKS["json"](request.json_lines, None if maps is None else maps.path))
    if request.coco is not None:
        add(SINKS["coco"](request.coco, image_ids(source)))
    if request.show:
        add(SINKS["window"](f"edgedet: {source.name}", wait=not source.moving))
    return sinks


def _pump(stream: Stream, sinks: Sequence[Sink], outcome: _Outcome) -> None:
    """Hand every result to every sink until the source ends or a sink has had enough."""
    with _progress(stream) as advance:
        for result in stream:
            outcome.contents.add(result.answer)
            more = [sink.write(result) for sink in sinks]
            advance()
            if not all(more):
                return


def _finish(sinks: Sequence[Sink]) -> None:
    """Close every sink, although one of them fails."""
    with contextlib.ExitStack() as finishing:
        for sink in sinks:
            finishing.callback(sink.close)


@contextlib.contextmanager
def _progress(stream: Stream) -> Iterator[Callable[[], None]]:
    """Show a bar with frames per second where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.1f} frames per second"),
        TimeRemainingColumn(),
    )
    # Standard output is not the bar's to redirect: JSON lines may go there.
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task("Detecting", total=stream.source.frame_count, fps=0.0)

        def advance() -> None:
            bar.update(task, advance=1, fps=stream.statistics.fps)

        yield advance


def _print_summary(stream: Stream, sinks: Sequence[Sink], outcome: _Outcome, *, to_stderr: bool) -> None:
    statistics = stream.statistics
    if not statistics.frames:
        return
    noun = "frame" if stream.source.moving else "picture"
    lines = [
        f"{count(statistics.frames, noun)}{outcome.contents.summary(_SHOWN_CLASSES)}",
        _timing(statistics, noun, stream.in_flight),
        *(f"Wrote {sink.wrote}" for sink in sinks if sink.wrote is not None),
    ]
    for line in lines:
        click.echo(line, err=to_stderr)


def _timing(statistics: Statistics, noun: str, in_flight: int) -> str:
    spent = statistics.latencies
    stages = {"pre-processing": spent.preprocess, "inference": spent.infer, "post-processing": spent.postprocess}
    text = f"A {noun}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in stages.items())
    if statistics.fps:
        text += f"; {statistics.fps:.1f} {noun}s per second"
        if in_flight > 1:
            text += f", {in_flight} at a time"
    if statistics.dropped:
        text += f"; {statistics.dropped} skipped"
    return text


@contextlib.contextmanager
def _sigterm_ends_the_run() -> Iterator[None]:
    """Turn the first SIGTERM into an exception, so that files are finished before the process ends."""

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(_SIGTERM_EXIT_CODE)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
