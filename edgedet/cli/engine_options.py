"""The options ``--engine`` and ``--key`` of commands that load a model, as one decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["engine_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

_NAMES = ("auto", "tensorrt", "rtx", "onnxruntime-cuda", "onnxruntime")


def engine_options(command: Command) -> Command:
    """Give a command the options, and hand it both as ``engine``, a mapping of arguments for `edgedet.load`."""

    @click.option(
        "--engine",
        "name",
        type=click.Choice(_NAMES),
        default="auto",
        show_default=True,
        help="What runs the network; auto takes the first of these that is here",
    )
    @click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="PUB",
        help="Public key that engines must be signed with [default: that of EDGEDET_ENGINE_KEY]",
    )
    @functools.wraps(command)
    def run(name: str, key: Path | None, **options: Any) -> Any:
        return command(engine={"engine": name, "key": key}, **options)

    return run  # type: ignore[return-value]  # click's decorators keep the command's kind, not its exact type
