"""Train one of the example networks on freshly drawn pictures and save it as a torch.export archive."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click
from archive import save_archive
from evaluation import measure
from fitting import train
from networks import MODULES, recipe

MODELS = Path(__file__).resolve().parent.parent / "models"


@click.command()
@click.argument("network", type=click.Choice(list(MODULES)), default="digits")
@click.option("--steps", type=click.IntRange(min=1), help="Steps in place of the network's own number.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--bfloat16/--float32", default=True, show_default=True, help="Arithmetic of training.")
@click.option("--evaluate", "count", type=click.IntRange(min=1), default=200, show_default=True, help="Pictures.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Archive to write.")
def main(network: str, steps: int | None, seed: int, bfloat16: bool, count: int, out: Path | None) -> None:
    """Train a network, measure it on held-out digits and save it."""
    chosen = recipe(network)
    schedule = dataclasses.replace(chosen.schedule, bfloat16=bfloat16 and chosen.schedule.bfloat16)
    if steps is not None:
        schedule = dataclasses.replace(schedule, steps=steps)
    start = time.monotonic()
    model = chosen.finish(train(chosen, schedule, seed))
    click.echo(f"trained in {time.monotonic() - start:.0f} s")
    path = out or MODELS / f"{network}.pt"
    size = save_archive(chosen, model, path)
    click.echo(f"wrote {path} ({size / 1000:.0f} kB); measuring on {count} held-out pictures")
    click.echo(measure(chosen, path, count))


if __name__ == "__main__":
    main()
