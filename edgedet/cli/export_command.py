"""``edgedet export``: a checkpoint or ONNX file to a portable ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedet.class_names import KNOWN_NAMES
from edgedet.cli.parameters import anchors_file, batch_size, class_list, image_size, json_object_file
from edgedet.cli.precision_options import precision_options

if TYPE_CHECKING:
    from rich.console import Console

    from edgedet.export.report import ExportReport

__all__ = ["command"]

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=_FILE, required=False)
@click.option(
    "-o",
    "--output",
    type=_FILE,
    metavar="OUT.onnx",
    help="ONNX file to write [default: the source's name with .onnx, here]",
)
@click.option(
    "--family", metavar="NAME", help="Family of the source, with a variant after a colon (see --list-families)"
)
@click.option("--task", type=click.Choice(["instance", "panoptic"]),
              help="What a network of query masks is to answer with [default: what its classes tell]")  # fmt: skip
@click.option("--imgsz", type=image_size, metavar="N|WxH", help="Size of the network's input in pixels")
@click.option("--batch", type=batch_size, metavar="N|dynamic", help="Pictures per run")
@click.option("--names", type=class_list, metavar="FILE|NAME",
              help=f"Class names: a file, or {', '.join(KNOWN_NAMES)}")  # fmt: skip
@click.option("--opset", type=click.IntRange(min=7), metavar="N", help="ONNX operator set to write")
@click.option("--keep-nms", is_flag=True, help="Leave NonMaxSuppression in an ONNX graph that ends in it")
@click.option(
    "--trust", is_flag=True, help="Execute the code in a pickled checkpoint: only for files you made yourself"
)
@click.option("--report", type=_FILE, metavar="FILE.json", help="Write the report as JSON")
@click.option("--html", type=_FILE, metavar="FILE.html", help="Write a page with plots of what --int8 or --fp16 did")
@click.option(
    "--anchors", type=anchors_file, metavar="FILE.npy|.json", help="Anchor boxes that the file does not carry"
)
@click.option(
    "--spec", type=json_object_file, metavar="FILE.json", help="Partial ModelSpec that wins over the family's defaults"
)
@click.option("--pictures", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Real pictures to compare source and export on [default: the package's own]")  # fmt: skip
@click.option(
    "--engine/--no-engine",
    default=None,
    help="Build the TensorRT engine too, where edgedet run finds it [default: where TensorRT and a GPU are]",
)
@precision_options
@click.option("--list-families", is_flag=True, help="Show the families with what each takes")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables")
def command(source: Path | None, list_families: bool, as_json: bool, **options: Any) -> None:
    """Turn SOURCE into an ONNX file that carries everything needed to run it.

    SOURCE is an ONNX file from anywhere, a checkpoint, a TorchScript or torch.export archive, safetensors, or a
    transformers folder. The export is compared with its source on real pictures before it is written.
    """
    if list_families:
        _list_families(as_json)
        return
    if source is None:
        raise click.UsageError("Missing argument 'SOURCE'", click.get_current_context())
    report = _export(source, options)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report, [path for path in (options["report"], options["html"]) if path is not None])
    if report.fault is not None:
        raise report.fault


def _export(source: Path, options: dict[str, Any]) -> ExportReport:
    from edgedet.export.pipeline import run_export
    from edgedet.export.request import ExportRequest

    request = ExportRequest(
        source=source,
        output=options["output"],
        family=options["family"],
        task=options["task"],
        size=options["imgsz"],
        batch=options["batch"],
        class_names=options["names"],
        opset=options["opset"],
        keep_nms=options["keep_nms"],
        trust=options["trust"],
        anchors=options["anchors"],
        fragment=options["spec"] or {},
        pictures=options["pictures"],
        report=options["report"],
        html=options["html"],
        quantisation=options["quantisation"],
        engine=options["engine"],
    )
    with _Progress() as progress:
        return run_export(request, on_step=progress.step, progress=progress.part)


class _Progress:
    """A line for each step, and a bar under it for the slow parts, on the standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, name: str) -> None:
        """Say which step begins."""
        self._bars.console.print(f"{name} ...", highlight=False)

    def part(self, what: str, done: int, total: int) -> None:
        """Say how far a slow part is."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done)


def _list_families(as_json: bool) -> None:
    from edgedet.export.families import families

    rows = [(name, family.takes, family.extra) for name, family in families().items()]
    if as_json:
        click.echo(
            json.dumps([{"name": name, "takes": takes, "extra": extra} for name, takes, extra in rows], indent=2)
        )
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("Family", "Takes", "Checkpoints need", box=None, pad_edge=False, header_style="bold")
    for name, takes, extra in rows:
        table.add_row(name, escape(takes), escape(f"edgedet[{extra}]") if extra else "")
    Console(highlight=False).print(table)


def _print(report: ExportReport, pages: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    steps = Table("Step", "Seconds", "What was done", box=None, pad_edge=False, header_style="bold")
    steps.columns[1].justify = "right"
    for step in report.steps:
        steps.add_row(step.name, f"{step.seconds:.2f}", escape(step.detail))
    console.print(steps)
    console.print()
    differences = Table(
        "Output", "Shape", "Worst difference", "Relative", box=None, pad_edge=False, header_style="bold"
    )
    for item in report.differences:
        differences.add_row(
            escape(item.name), escape(str(list(item.shape))), f"{item.max_abs:.3g}", f"{item.max_rel:.3g}"
        )
    console.print(differences)
    if report.refusals:
        _print_refusals(console, report)
    if report.outcome is not None:
        from edgedet.cli.quantisation_tables import print_outcome

        console.print()
        print_outcome(report.outcome, report.measurements, console)
    for note in report.notes:
        console.print(f"Note: {escape(note)}", soft_wrap=True)
    console.print()
    if report.refusal is None:
        console.print(escape(f"Wrote '{report.output}', {report.size / 1e6:.2f} MB"), soft_wrap=True)
    for path in pages:
        console.print(escape(f"Wrote '{path}'"), soft_wrap=True)
    if report.engine is not None:
        console.print(escape(f"Engine: {report.engine.detail}"), soft_wrap=True)
        if report.engine.verdict:
            console.print(escape(report.engine.verdict), soft_wrap=True)
    if report.refusal is None:
        console.print(escape(f"Next: edgedet run '{report.output}' --source PICTURE"), soft_wrap=True)


def _print_refusals(console: Console, report: ExportReport) -> None:
    from rich.markup import escape
    from rich.table import Table

    from edgedet.export.rewrite import summarise

    count = len(report.refusals)
    console.print()
    console.print(
        f"TensorRT will refuse {count} node{'s' if count > 1 else ''} of this file, which ONNX Runtime runs as it is:",
        soft_wrap=True,
    )
    table = Table("Node", "Operator", "Why", "What to do", box=None, pad_edge=False, header_style="bold")
    for refusal in summarise(report.refusals):
        table.add_row(*map(escape, (refusal.node, refusal.operator, refusal.reason, refusal.action)))
    console.print(table)
