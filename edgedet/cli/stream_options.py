"""The options that say how a stream runs, and how it tells what it does."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from edgedet.errors import EdgedetError

if TYPE_CHECKING:
    from edgedet.runtime.sinks.web import Address
    from edgedet.runtime.stream import Stream

__all__ = ["Running", "report_statistics", "stream_options"]

_LOG_STATS_S = 60.0


@dataclass(frozen=True)
class Running:
    """What the command line asked for; see the options."""

    policy: str | None
    batch: int | Literal["auto"]
    track: bool
    restart: bool
    log_stats: float | None
    metrics: Address | None


def _policy(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Read ``every``, ``latest`` or ``rate=5``."""
    if text is None or text in ("every", "latest"):
        return text
    match = re.fullmatch(r"rate=([0-9]*\.?[0-9]+)", text)
    if match is None or not float(match[1]) > 0:
        raise click.BadParameter(f"Expected every, latest or rate=N with N results per second, got {text!r}")
    return text


def _batch(context: click.Context, parameter: click.Parameter, text: str) -> int | Literal["auto"]:
    """Read a positive integer, or ``auto``."""
    if text == "auto":
        return "auto"
    if not re.fullmatch("0*[1-9][0-9]*", text):
        raise click.BadParameter(f"Expected a number of pictures such as 4, or auto, got {text!r}")
    return int(text)


def _address(context: click.Context, parameter: click.Parameter, text: str | None) -> Address | None:
    """Read ``[HOST:]PORT``."""
    if text is None:
        return None
    from edgedet.runtime.sinks.web import Address

    try:
        return Address.parse(text)
    except EdgedetError as error:
        raise click.BadParameter(
            f"Expected [HOST:]PORT such as 9100 or 0.0.0.0:9100, got {text!r}", ctx=context, param=parameter
        ) from error


_OPTIONS = (
    click.option(
        "--policy",
        callback=_policy,
        metavar="every|latest|rate=N",
        help="Which frames are processed: each one, always the newest, or at most N a second of each source  [default: "
        "latest for cameras and network streams, else every]",
    ),
    click.option(
        "--batch",
        default="auto",
        callback=_batch,
        metavar="N|auto",
        show_default=True,
        help="Pictures of one inference at most, for a model that takes several; auto: as many as there are sources",
    ),
    click.option("--track", is_flag=True, help="Follow objects through time: results have track ids"),
    click.option(
        "--restart/--no-restart",
        default=True,
        show_default=True,
        help="Open a camera or network stream again when it fails",
    ),
    click.option(
        "--log-stats",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Write a line about rate, latency and lost frames so often, 0 for never  [default: 60 for cameras and "
        "network streams where standard error is no terminal]",
    ),
    click.option(
        "--metrics",
        callback=_address,
        metavar="[HOST:]PORT",
        help="Serve the same for Prometheus at /metrics; to this machine only, unless another HOST is named",
    ),
)


def stream_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--policy`` and its kin to a command, which gets ``running``, a Running, instead of them."""

    @functools.wraps(command)
    def with_running(**options: Any) -> None:
        running = Running(**{name: options.pop(name) for name in Running.__dataclass_fields__})
        command(running=running, **options)

    for option in reversed(_OPTIONS):
        option(with_running)
    return with_running


def report_statistics(stream: Stream, running: Running, resources: contextlib.ExitStack, *, to_stderr: bool) -> None:
    """Begin to log and to serve what a stream does, as it was asked for.

    Args:
        stream: what is told about.
        running: see there.
        resources: ends it.
        to_stderr: where the address is told.

    Raises:
        SinkError: if the address of the metrics is taken.
    """
    every_s = running.log_stats
    if every_s is None:
        live = any(source.live for source in stream.sources)
        every_s = _LOG_STATS_S if live and not sys.stderr.isatty() else 0
    if every_s:
        from edgedet.runtime.stream.statistics_log import StatisticsLog

        resources.enter_context(StatisticsLog(lambda: stream.statistics, every_s))
    if running.metrics is not None:
        from edgedet.runtime.stream.metrics import MetricsServer

        host = running.metrics.host
        server = MetricsServer(lambda: stream.statistics, host, running.metrics.port)
        resources.callback(server.close)
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Metrics: http://{shown}:{server.port}/metrics", err=to_stderr)
