"""``edgedet engines``: the cache of built engines."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgedet.engine_store.cache import CachedEngine, EngineCache

__all__ = ["command"]

_DAY = 86_400

_cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder [default: the user's cache]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
_key_option = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PUB",
    help="Public key that must have signed them",
)


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show, verify or delete the engines that were built on this machine."""
    if context.invoked_subcommand is None:
        context.invoke(list_engines)


@command.command(name="list")
@_cache_option
@_json_option
def list_engines(cache: Path | None, as_json: bool) -> None:
    """List them, the last used first."""
    store = _open(cache)
    _show(store, store.entries(), as_json)


@command.command()
@_cache_option
@_key_option
@_json_option
def verify(cache: Path | None, key: Path | None, as_json: bool) -> None:
    """Hold every engine against its hash and seal; exit code 1 where one fails."""
    store = _open(cache, key)
    entries = store.entries(verify=True)
    _show(store, entries, as_json)
    if any(entry.problem for entry in entries):
        raise click.exceptions.Exit(1)


@command.command()
@_cache_option
@click.option("--days", type=click.FloatRange(min=0), metavar="N", help="Delete what was not used for N days")
@click.option("--keep", type=click.FloatRange(min=0), metavar="MB", help="Keep at most so much, the last used")
@_json_option
def prune(cache: Path | None, days: float | None, keep: float | None, as_json: bool) -> None:
    """Delete broken engines, and those that --days and --keep name."""
    store = _open(cache)
    since = None if days is None else time.time() - days * _DAY
    gone = store.prune(unused_since=since, keep_bytes=None if keep is None else int(keep * 1e6))
    if as_json:
        _show(store, gone, as_json)
        return
    click.echo(f"Deleted {len(gone)} of '{store.folder}', {sum(entry.size for entry in gone) / 1e6:.1f} MB")


def _open(folder: Path | None, key: Path | None = None) -> EngineCache:
    from edgedet.engine_store.cache import EngineCache
    from edgedet.engine_store.trust import Trust

    return EngineCache(folder, Trust.from_environment(key) if key is not None else Trust())


def _show(store: EngineCache, entries: Sequence[CachedEngine], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_record(entry) for entry in entries], indent=2))
        return
    if not entries:
        click.echo(f"No engines in '{store.folder}'")
        click.echo("Next: edgedet build MODEL.onnx")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("Engine", "Model", "For", "By", "MB", "Used", "State", box=None, pad_edge=False, header_style="bold")
    for entry in entries:
        manifest = entry.manifest
        used = datetime.datetime.fromtimestamp(entry.used, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
        facts = (
            ("", "", "")
            if manifest is None
            else (manifest.source, str(manifest.target), f"{manifest.flavour} {manifest.version}")
        )
        row = (entry.path.name, *facts, f"{entry.size / 1e6:.1f}", used, entry.problem or "whole")
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    console.print(table)
    console.print(escape(f"In '{store.folder}'"), soft_wrap=True)


def _record(entry: CachedEngine) -> dict[str, object]:
    from edgedet.schema import to_json

    return {
        "path": str(entry.path),
        "bytes": entry.size,
        "used": entry.used,
        "problem": entry.problem,
        "manifest": None if entry.manifest is None else to_json(entry.manifest),
    }
