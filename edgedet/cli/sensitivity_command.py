"""``edgedet sensitivity``: what each layer of a network costs when it alone is quantised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from edgedet.export.quantisation.sensitivity import LayerHarm

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
    "--target",
    type=click.Choice(["tensorrt", "cpu"]),
    default="tensorrt",
    show_default=True,
    help="Engine that the quantised network would be for",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show the N most harmful layers only")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
def command(model: Path, calib: Path, calib_count: int | None, target: str, top: int | None, as_json: bool) -> None:
    """Rank the layers of MODEL, an ONNX file that edgedet exported, by what each costs when it alone is quantised.

    The disagreement is 0 where the answers stay the same and 1 where nothing is found any more; the share is that of
    the network's multiply-accumulates. Layers at the top with a small share are worth keeping in float (--keep-float).
    """
    ranking = _rank(model, calib, calib_count, target)[:top]
    if as_json:
        rows = [
            {
                "node": found.layer.node,
                "operator": found.layer.operator,
                "multiply_accumulates": found.layer.multiply_accumulates,
                "disagreement": round(found.harm, 6),
            }
            for found in ranking
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from edgedet.cli.quantisation_tables import print_ranking

    print_ranking(ranking, Console(highlight=False))


def _rank(model: Path, calib: Path, calib_count: int | None, target: str) -> list[LayerHarm]:
    from edgedet.errors import SpecError
    from edgedet.export.onnx_file import load_onnx
    from edgedet.export.quantisation.quantise import rank
    from edgedet.export.quantisation.request import QuantisationRequest
    from edgedet.model_spec import ModelSpec

    network = load_onnx(model)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in network.metadata_props})
    if spec is None:
        raise SpecError(
            "an ONNX file that edgedet exported, with a ModelSpec in its metadata",
            f"'{model}' without one",
            f"Add it with: edgedet export '{model}' -o 'model.onnx'",
        )
    request = QuantisationRequest("int8", calib=calib, calib_count=calib_count, target=target)  # type: ignore[arg-type]
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, int] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)  # type: ignore[arg-type]  # a TaskID is an int

        return rank(network, spec, request, tell)
