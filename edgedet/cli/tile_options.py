"""The options that make a command look at pictures through tiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edgedet.cli.parameters import image_size

if TYPE_CHECKING:
    from edgedet.runtime.tiling import Tiling

__all__ = ["tile_options"]

_OPTIONS = (
    click.option(
        "--tile",
        type=image_size,
        metavar="N|WxH",
        help="Look at pictures through tiles of this many of their own pixels, for objects that are small in them",
    ),
    click.option("--overlap", type=float, help="Share of a tile that its neighbour shows too  [default: 0.2]"),
    click.option(
        "--tile-whole/--no-tile-whole",
        default=None,
        help="Look at the whole picture too, for objects larger than a tile  [default: tile-whole]",
    ),
    click.option(
        "--tile-merge",
        type=click.Choice(["nms", "wbf"]),
        help="Of several tiles' boxes for one object keep the best, or average them by score  [default: nms]",
    ),
)


def tile_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--tile`` and what goes with it to a command, which gets ``tiling``, a Tiling or None, instead of them."""

    @functools.wraps(command)
    def with_tiling(
        *arguments: Any,
        tile: tuple[int, int] | None,
        overlap: float | None,
        tile_whole: bool | None,
        tile_merge: str | None,
        **others: Any,
    ) -> None:
        given = {"overlap": overlap, "whole": tile_whole, "merge": tile_merge}
        settings = {name: value for name, value in given.items() if value is not None}
        if tile is None and settings:
            raise click.UsageError("--overlap, --tile-whole and --tile-merge say how to tile: pass --tile too")
        command(*arguments, tiling=None if tile is None else _tiling(tile, settings), **others)

    for option in reversed(_OPTIONS):
        option(with_tiling)
    return with_tiling


def _tiling(tile: tuple[int, int], settings: dict[str, Any]) -> Tiling:
    from edgedet.runtime.tiling import Tiling

    return Tiling(*tile, **settings)
