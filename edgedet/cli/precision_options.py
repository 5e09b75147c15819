"""Options of ``edgedet export`` that ask for a lower precision, as one decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgedet.errors import ExportError

if TYPE_CHECKING:
    from edgedet.export.quantisation.request import QuantisationRequest

__all__ = ["METHODS", "cache_options", "calibration_cache", "precision_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
METHODS = ("auto", "minmax", "entropy", "percentile", "mse")

_CACHE_OPTIONS = (
    click.option(
        "--calib-cache",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep what was measured on the pictures here [default: ~/.cache/edgedet/calibration]",
    ),
    click.option("--no-calib-cache", is_flag=True, help="Measure the pictures again, and keep nothing"),
)

_OPTIONS = (
    click.option("--int8", is_flag=True, help="Quantise to 8-bit integers, within --max-drop"),
    click.option("--fp16", is_flag=True, help="Write 16-bit floats; with --int8, for whatever is not quantised"),
    click.option("--calib", type=_FOLDER, metavar="DIR", help="Pictures such as the camera will give, 100 or more"),
    click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True),
        metavar="PATH",
        help="Labelled pictures that decide (see edgedet eval) [default: the float network's own answers]",
    ),
    click.option(
        "--max-drop",
        type=click.FloatRange(min=0),
        default=1.0,
        show_default=True,
        metavar="POINTS",
        help="What may be lost of mAP, mIoU or PQ, in hundredths; harmful layers stay in float until it holds",
    ),
    click.option(
        "--target",
        type=click.Choice(["tensorrt", "cpu"]),
        default="tensorrt",
        show_default=True,
        help="Engine that the quantised network is for",
    ),
    click.option(
        "--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How ranges are chosen"
    ),
    click.option(
        "--calib-count", type=click.IntRange(min=8), metavar="N", help="Calibrate on N of the pictures, evenly spread"
    ),
    click.option(
        "--keep-float", multiple=True, metavar="PATTERN", help="Nodes that stay in float, by name; may be repeated"
    ),
    click.option(
        "--min-int8",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        metavar="SHARE",
        help="Share of the arithmetic that must end in INT8",
    ),
    click.option("--force", is_flag=True, help="Write the network even if it loses more than --max-drop"),
)  # fmt: skip


def precision_options(command: Command) -> Command:
    """Give a command the options, and hand it what they ask for as ``quantisation``."""

    @functools.wraps(command)
    def run(int8: bool, fp16: bool, keep_float: tuple[str, ...], **options: Any) -> Any:
        asked = {name: options.pop(name) for name in _ASKED}
        return command(quantisation=_request(int8, fp16, {**asked, "keep_float": keep_float}), **options)

    for option in reversed((*_OPTIONS, *_CACHE_OPTIONS)):
        run = option(run)
    return run  # type: ignore[return-value]  # click's decorators keep the command's kind, not its exact type


def cache_options(command: Command) -> Command:
    """Give a command the options that say where statistics of calibration pictures are kept."""
    for option in reversed(_CACHE_OPTIONS):
        command = option(command)
    return command


def calibration_cache(given: Path | None, off: bool) -> Path | None:
    """Return the folder for statistics of calibration pictures; None where none are kept."""
    if off and given is not None:
        raise click.UsageError("Pass one of --calib-cache and --no-calib-cache")
    if off or given is not None:
        return given
    from edgedet.export.quantisation.statistics_cache import default_folder

    return default_folder()


_ASKED = (
    "calib",
    "data",
    "max_drop",
    "target",
    "method",
    "calib_count",
    "calib_cache",
    "no_calib_cache",
    "min_int8",
    "force",
)


def _request(int8: bool, fp16: bool, asked: dict[str, Any]) -> QuantisationRequest | None:
    if not (int8 or fp16):
        idle = [
            name
            for name in ("calib", "data", "calib_count", "calib_cache", "no_calib_cache", "keep_float", "force")
            if asked[name] not in (None, (), False)
        ]
        if idle:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
            raise ExportError("--int8 or --fp16", f"{flags} alone", "Say which precision is wanted")
        return None
    from edgedet.export.quantisation.request import QuantisationRequest

    precision = "int8+float16" if int8 and fp16 else "int8" if int8 else "float16"
    asked["calib_cache"] = calibration_cache(asked["calib_cache"], asked.pop("no_calib_cache"))
    return QuantisationRequest(precision=precision, **asked)  # type: ignore[arg-type]  # one of the three
