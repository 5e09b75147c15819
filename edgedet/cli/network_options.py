"""The options that say what is wanted of a network stream."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgedet.runtime.capture import NetworkOptions

__all__ = ["network_options"]

_OPTIONS = (
    click.option(
        "--network-timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="How long to wait for a network stream's answer, and for its next packet  [default: 10]",
    ),
    click.option(
        "--network-transport",
        type=click.Choice(["tcp", "udp"]),
        help="What carries RTSP; a packet that UDP loses leaves grey smears  [default: tcp]",
    ),
    click.option(
        "--network-hardware",
        metavar="KIND[:DEVICE]",
        help="What decodes network streams: cuda, vaapi:/dev/dri/renderD128 or what else FFmpeg knows; an error where "
        "it cannot  [default: the processor]",
    ),
)

_PREFIX = "network_"


def network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--network-...`` to a command, which gets ``network``, NetworkOptions or None, instead of them."""

    @functools.wraps(command)
    def with_network(*arguments: Any, **options: Any) -> None:
        names = [name for name in options if name.startswith(_PREFIX)]
        given = {name.removeprefix(_PREFIX): options.pop(name) for name in names}
        settings = {name: value for name, value in given.items() if value is not None}
        command(*arguments, network=_network(settings) if settings else None, **options)

    for option in reversed(_OPTIONS):
        option(with_network)
    return with_network


def _network(settings: dict[str, Any]) -> NetworkOptions:
    from edgedet.runtime.capture import NetworkOptions

    return NetworkOptions(**settings)
