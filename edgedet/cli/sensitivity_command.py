"""``edgedet sensitivity``: what each layer of a network costs when it alone is quantised, and what it could bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from edgedet.cli.precision_options import METHODS, cache_options, calibration_cache

if TYPE_CHECKING:
    from edgedet.export.quantisation.request import QuantisationRequest
    from edgedet.export.quantisation.sensitivity_report import SensitivityReport

__all__ = ["command"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--calib",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="Pictures such as the camera will give; answers are compared on eight of them",
)
@click.option("--calib-count", type=click.IntRange(min=8), metavar="N", help="Use N of the pictures, evenly spread")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Labelled pictures: what the most harmful layers cost in mAP, mIoU or PQ as well (see edgedet eval)",
)
@click.option(
    "--score-layers",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Layers that are scored on --data, the most harmful first",
)
@click.option(
    "--target",
    type=click.Choice(["tensorrt", "cpu"]),
    default="tensorrt",
    show_default=True,
    help="Engine that the quantised network would be for",
)
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How ranges are chosen")
@cache_options
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show the N most harmful layers only")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the most harmful layers (.svg, .png or .pdf)"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
def command(model: Path, top: int | None, plot: Path | None, as_json: bool, score_layers: int, **options: Any) -> None:
    """Rank the layers of MODEL, an ONNX file that edgedet exported, by what each costs when it alone is quantised.

    Answers are 0 apart where they stay the same and 1 where nothing is found any more; the share is that of the
    network's multiply-accumulates, and times are those of one thread of this machine's CPU. Layers at the top with a
    small share are worth keeping in float (--keep-float).
    """
    from edgedet.cli.sensitivity_table import print_sensitivity
    from edgedet.export.quantisation.request import QuantisationRequest
    from edgedet.export.quantisation.sensitivity_plot import check_plot, write_plot

    if plot is not None:
        check_plot(plot)
    options["calib_cache"] = calibration_cache(options["calib_cache"], options.pop("no_calib_cache"))
    report = _measure(model, QuantisationRequest("int8", **options), score_layers)
    if plot is not None:
        write_plot(report, plot)
    if as_json:
        shown = report.to_json()
        click.echo(json.dumps({**shown, "layers": shown["layers"][:top]}, indent=2))
        return
    console = Console(highlight=False)
    print_sensitivity(report, console, top)
    if plot is not None:
        console.print(f"Wrote '{plot}'", soft_wrap=True, markup=False)


def _measure(model: Path, request: QuantisationRequest, score_layers: int) -> SensitivityReport:
    from edgedet.errors import SpecError
    from edgedet.export.onnx_file import load_onnx
    from edgedet.export.quantisation.sensitivity_report import measure_sensitivity
    from edgedet.model_spec import ModelSpec

    network = load_onnx(model)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in network.metadata_props})
    if spec is None:
        raise SpecError(
            "an ONNX file that edgedet exported, with a ModelSpec in its metadata",
            f"'{model}' without one",
            f"Add it with: edgedet export '{model}' -o 'model.onnx'",
        )
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        return measure_sensitivity(network, spec, request, tell, scored=score_layers)
