"""``edgedet verify``: whether an engine may be loaded, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("engine", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PUB",
    help="Public key that must have signed it [default: that of EDGEDET_ENGINE_KEY, else what this user built]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON")
def command(engine: Path, key: Path | None, as_json: bool) -> None:
    """Verify the hash and the seal of an ENGINE; TensorRT does not see it."""
    from edgedet.engine_store.trust import Trust, read_engine
    from edgedet.schema import to_json

    trust = Trust.from_environment(key)
    manifest = read_engine(engine, trust).manifest
    if as_json:
        click.echo(json.dumps(to_json(manifest), indent=2))
        return
    vouched = "built by this user" if trust.key is None else f"signed with key {trust.key.fingerprint}"
    click.echo(f"'{engine}' is whole, and {vouched}")
    click.echo(
        f"From '{manifest.source}' for {manifest.target} by {manifest.flavour} {manifest.version}, {manifest.built}"
    )
    click.echo(f"Next: edgedet run '{engine}' --source PICTURE" + (f" --key '{key}'" if key else ""))
