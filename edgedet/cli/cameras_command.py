"""``edgedet cameras``: the cameras of this machine and what they can do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgedet.runtime.capture.v4l2.formats import Mode
    from edgedet.runtime.capture.v4l2.survey import CameraReport, MemoryTrial

__all__ = ["command"]

_MODES = {
    "mmap": "the driver's buffers",
    "userptr": "this program's memory",
    "dmabuf": "DMA buffers of others",
    "export": "the driver's buffers as DMA buffers",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text")
@click.option("--controls", is_flag=True, help="Show exposure, gain and what else can be set")
def command(as_json: bool, controls: bool) -> None:
    """List cameras, their formats, and which memory modes work, by trial.

    Copies are those of a frame in user space before it lies in memory of that kind. Settings stay as they are.
    """
    from edgedet.runtime.capture.v4l2.survey import survey

    reports = survey()
    if as_json:
        click.echo(json.dumps({"cameras": [report.to_json() for report in reports]}, indent=2))
        return
    if not reports:
        click.echo("No camera found: nothing under '/dev/video*' takes pictures")
        click.echo("Plug one in, or give it to the container: docker run --device /dev/video0 ...")
        click.echo("Next: edgedet demo, which needs no camera")
        return
    for number, report in enumerate(reports):
        if number:
            click.echo()
        for line in _lines(report, controls):
            click.echo(line)
    click.echo()
    click.echo(f"Next: edgedet run MODEL --source {reports[0].device}")


def _lines(report: CameraReport, controls: bool) -> Iterator[str]:
    about = f"  {report.card} ({report.driver}, {report.bus})" if report.card else ""
    yield click.style(report.device, bold=True) + about
    if report.problem:
        yield f"  {report.problem}"
    yield from _formats(report.modes)
    for trial in report.memory:
        yield f"  {trial.mode:<8} {_trial(trial)}"
    for control in report.controls if controls else ():
        yield f"  {control}"


def _formats(modes: Sequence[Mode]) -> Iterator[str]:
    from edgedet.runtime.capture.v4l2.formats import FORMATS

    readable = [mode for mode in modes if mode.code in FORMATS]
    for code in dict.fromkeys(mode.code for mode in readable):
        sizes = (str(mode).removeprefix(f"{code} ") for mode in readable if mode.code == code)
        yield f"  {code:<8} " + "; ".join(sizes)
    others = dict.fromkeys(mode.code for mode in modes if mode.code not in FORMATS)
    if others:
        yield f"  edgedet does not read {', '.join(others)}"


def _trial(trial: MemoryTrial) -> str:
    copies = {0: "no copy", 1: "1 copy", None: "impossible"}[trial.copies]
    return f"{_MODES[trial.mode]}: {copies}" + ("" if trial.works else f" ({trial.reason})")
