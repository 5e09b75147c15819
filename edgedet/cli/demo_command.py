"""``edgedet demo``: a live stream with everything that comes with edgedet, and nothing else."""

from __future__ import annotations

import contextlib
import os
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedet.cli.sink_options import echo_page_address
from edgedet.cli.stream_run import RunOutcome, run_stream
from edgedet.errors import SinkError

if TYPE_CHECKING:
    from edgedet.runtime.sinks.web import WebSink
    from edgedet.runtime.stream import Stream

__all__ = ["command"]

_FOLDER = Path(__file__).parents[1] / "demo"
_MODEL = "digits.int8.onnx"
_CLIP = "digits.mp4"
_LOWEST_CONFIDENCE = 0.05
_CONFIDENCE = 0.4


@click.command("demo")
@click.option(
    "--web",
    default=None,
    metavar="[HOST:]PORT",
    help="Where the page is served; to this machine only, unless HOST is named  [default: 8000, or a free port]",
)
@click.option("--open/--no-open", "opens", default=None, help="Open a browser  [default: where there is a screen]")
def command(web: str | None, opens: bool | None) -> None:
    """Find handwritten digits in a clip that plays as a camera would, and show it live on a web page.

    Needs no camera, no network and no model: an INT8 detector of 0.3 MB and the clip come with edgedet. Ctrl-C ends it.
    """
    with contextlib.ExitStack() as resources:
        page = _open_page(web)
        resources.callback(page.close)
        stream = resources.enter_context(_open_stream())
        echo_page_address(page)
        _echo_tunnel(page)
        click.echo("Ctrl-C ends the demo")
        if _has_screen() if opens is None else opens:
            webbrowser.open(page.url)
        with _ends_well():
            run_stream(stream, [page], RunOutcome(), to_stderr=False)
    click.echo("Next: edgedet run MODEL --source 0 --web")


def _open_stream() -> Stream:
    from edgedet.loader import load
    from edgedet.runtime.capture.loop import LoopSource
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import Stream

    source = LoopSource(_FOLDER / _CLIP)
    try:
        selection = Selection(confidence=_LOWEST_CONFIDENCE, iou=0.5)
        # More threads would wait for each other for longer than they compute: the network takes two milliseconds.
        detector = load(_FOLDER / _MODEL, engine="onnxruntime", selection=selection, threads=1)
    except BaseException:  # Ctrl-C too: the clip is not left open
        source.close()
        raise
    return Stream(detector, source, owns_detector=True)


def _open_page(web: str | None) -> WebSink:
    from edgedet.runtime.sinks.web import Address, PageSettings, WebSink

    settings = PageSettings("edgedet demo: handwritten digits", _LOWEST_CONFIDENCE, _CONFIDENCE, sources=(_CLIP,))
    if web is not None:
        return WebSink(Address.parse(web), settings=settings)
    try:
        return WebSink(Address(), settings=settings)
    except SinkError:
        return WebSink(Address(port=0), settings=settings)


def _echo_tunnel(page: WebSink) -> None:
    """Say how a page that only this machine reaches is seen from the one that the user sits at."""
    if page.address.is_loopback and os.environ.get("SSH_CONNECTION"):
        port = page.address.port
        click.echo(f"From where you sit: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then open the same address there")


def _has_screen() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextlib.contextmanager
def _ends_well() -> Iterator[None]:
    """Take SIGINT and SIGTERM, after which ``run_stream`` raises these, as what they are here: the usual end."""
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        yield
