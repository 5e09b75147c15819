"""``edgedet run``: detections and maps of pictures, videos and cameras."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from edgedet.cli.camera_options import camera_options
from edgedet.cli.engine_options import engine_options
from edgedet.cli.network_options import network_options
from edgedet.cli.sink_options import Outputs, open_sinks, sink_options
from edgedet.cli.stream_options import Running, report_statistics, stream_options
from edgedet.cli.stream_run import SHOWN_CLASSES, RunOutcome, run_stream
from edgedet.cli.task_options import check_options
from edgedet.cli.tile_options import tile_options
from edgedet.errors import SourceError

if TYPE_CHECKING:
    from edgedet.runtime.capture import CameraOptions, NetworkOptions, Source
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.tiling import Tiling
    from edgedet.runtime.tracking import Tracking

__all__ = ["command"]


@click.command("run")
@click.argument("model", type=click.Path())
@click.option(
    "--source",
    "names",
    required=True,
    multiple=True,
    metavar="SOURCE",
    help="Picture, folder, quoted glob ('a/**/*.jpg'), video, camera number, V4L2 device, RTSP or HTTP address, "
    "GStreamer pipeline (gst:... ! appsink), or synthetic:WxH@FPS; may be given several times, for several at once",
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
@stream_options
@camera_options
@network_options
@sink_options
def command(
    model: str,
    names: tuple[str, ...],
    conf: float,
    iou: float,
    max_det: int,
    classes: str | None,
    class_agnostic: bool,
    proposals: int | None,
    tiling: Tiling | None,
    engine: dict[str, Any],
    threads: int | None,
    running: Running,
    camera: CameraOptions | None,
    network: NetworkOptions | None,
    outputs: Outputs,
) -> None:
    """Detect in or segment pictures, videos and cameras.

    MODEL is a file that "edgedet export" wrote, or an engine that "edgedet build" did.
    """
    from edgedet.loader import load
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import Recovery, Stream, close_all, open_all, schedule_for

    outcome = RunOutcome()
    selection = Selection(confidence=conf, iou=iou, max_detections=max_det, class_agnostic=class_agnostic)
    with contextlib.ExitStack() as resources, contextlib.ExitStack() as opening:
        origins = open_all(names, outcome.report_broken, camera, network)
        sources = [origin.source for origin in origins]
        opening.callback(close_all, sources)
        _echo_granted(sources)
        schedule = schedule_for(sources, running.policy)
        tracking, asked = _tracking(running, selection)
        detector = load(
            model, selection=asked, threads=threads or schedule.threads, proposals=proposals, tiling=tiling, **engine
        )
        opening.callback(detector.close)
        check_options(detector.spec.task)
        if classes is not None:
            detector = detector.with_selection(_only_classes(asked, classes, detector.spec.class_names))
        sinks = open_sinks(outputs, sources, conf, resources)
        stream = Stream(
            detector,
            origins,
            policy=running.policy,
            owns_detector=True,
            in_flight=schedule.in_flight if threads is None else None,
            batch=running.batch,
            tracking=tracking,
            recovery=Recovery(restart=running.restart),
        )
        resources.enter_context(stream)
        opening.pop_all()  # the stream closes them, unless one of them hangs
        report_statistics(stream, running, resources, to_stderr=outputs.writes_to_stdout)
        run_stream(stream, sinks, outcome, to_stderr=outputs.writes_to_stdout)
    if outcome.broken:
        done = stream.statistics.frames
        raise SourceError(
            f"{done + len(outcome.broken)} pictures that can be read",
            f"{len(outcome.broken)} that cannot",
            f"See the messages above; the other {done} were processed",
        )


def _echo_granted(sources: Sequence[Source]) -> None:
    from edgedet.runtime.capture import DeviceSource

    for source in sources:
        if isinstance(source, DeviceSource):
            click.echo(str(source.granted), err=True)


def _tracking(running: Running, selection: Selection) -> tuple[Tracking | None, Selection]:
    """Return the settings of the tracker, and what the detector has to answer with for it."""
    if not running.track:
        return None, selection
    from edgedet.runtime.tracking import Tracking

    return Tracking().with_selection(selection)


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
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN_CLASSES else ""
    return ", ".join(names[:SHOWN_CLASSES]) + more
