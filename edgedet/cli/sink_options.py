"""The options that say where results go, and the sinks that they open."""

from __future__ import annotations

import contextlib
import functools
import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedet.errors import SinkError

if TYPE_CHECKING:
    from edgedet.runtime.capture import Source
    from edgedet.runtime.sinks import Sink
    from edgedet.runtime.sinks.maps import MapFolderSink
    from edgedet.runtime.sinks.web import WebSink
    from edgedet.runtime.stream import StreamResult

__all__ = ["Outputs", "echo_page_address", "open_sinks", "sink_options"]


@dataclass(frozen=True)
class Outputs:
    """What the command line asked for; see the options."""

    out: str | None
    json_lines: str | None
    coco: str | None
    maps: str | None
    show: bool
    web: str | None
    web_token: str | None
    rtsp: str | None
    mqtt: str | None
    shm: str | None

    @property
    def writes_to_stdout(self) -> bool:
        """Whether standard output belongs to results."""
        return "-" in (self.json_lines, self.coco)

    @property
    def names_no_way_out(self) -> bool:
        """Whether the default applies."""
        chosen = (self.out, self.json_lines, self.coco, self.maps, self.show, self.web, self.rtsp, self.mqtt, self.shm)
        return not any(chosen)


_OPTIONS = (
    click.option(
        "--out",
        type=click.Path(),
        help="Annotated picture, folder of pictures, or video (.mp4, .mov, .avi), by the kind of source; by default, "
        "where no other way out is named, '<source>.detected...' in the current folder; of several sources a folder",
    ),
    click.option(
        "--json", "json_lines", metavar="FILE|-", help="One JSON object a frame and line; - is standard output"
    ),
    click.option(
        "--coco",
        metavar="FILE",
        help="COCO results; image_id is the file name as a number where all are numbers, else the file name, in videos "
        "the frame number; category_id is the class id",
    ),
    click.option(
        "--maps",
        type=click.Path(),
        metavar="DIR",
        help="Folder for the maps of semantic and panoptic models: PNG files of class ids, or of segments in COCO's "
        "format",
    ),
    click.option("--show", is_flag=True, help="Show a window; q or Escape ends"),
    click.option(
        "--web",
        is_flag=False,
        flag_value="8000",
        metavar="[HOST:]PORT",
        help="Serve a page with the live picture; to this machine only, unless another HOST is named (0.0.0.0: all)  "
        "[port where none is named: 8000]",
    ),
    click.option(
        "--web-token",
        is_flag=False,
        flag_value="",
        envvar="EDGEDET_WEB_TOKEN",
        metavar="[TOKEN]",
        help="Show the page only to those who know this; a random one where none is named",
    ),
    click.option(
        "--rtsp",
        metavar="[HOST:]PORT[/PATH]",
        help="Serve the annotated picture as an RTSP stream, through GStreamer; to this machine only, unless another "
        "HOST is named (0.0.0.0: all); of several sources each under PATH  [PATH where none is named: live]",
    ),
    click.option(
        "--mqtt",
        envvar="EDGEDET_MQTT",
        metavar="mqtt[s]://[USER:PASSWORD@]HOST[:PORT][/TOPIC][?qos=N&connect=later]",
        help="Publish one JSON object a frame; with connect=later a broker that is not there yet is no error",
    ),
    click.option(
        "--shm",
        metavar="NAME",
        help="Keep the newest detections in the shared memory /dev/shm/NAME; of several sources in NAME.0, NAME.1, ...",
    ),
)


def sink_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--out`` and its kin to a command, which gets ``outputs``, an Outputs, instead of them."""

    @functools.wraps(command)
    def with_outputs(**options: Any) -> None:
        outputs = Outputs(**{name: options.pop(name) for name in Outputs.__dataclass_fields__})
        if outputs.web is None and _is_given("web_token"):
            raise click.UsageError("--web-token says who may see the page: pass --web too")
        _check_distinct(outputs)
        command(outputs=outputs, **options)

    for option in reversed(_OPTIONS):
        option(with_outputs)
    return with_outputs


def _is_given(name: str) -> bool:
    """Tell whether an option stands on the command line, and not only in the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _check_distinct(outputs: Outputs) -> None:
    places = (outputs.out, outputs.json_lines, outputs.coco, outputs.maps)
    paths = [Path(path).resolve() for path in places if path and path != "-"]
    if len(set(paths)) < len(paths) or outputs.json_lines == outputs.coco == "-":
        raise click.UsageError("--out, --json, --coco and --maps must name different files")


def open_sinks(
    outputs: Outputs, sources: Sequence[Source], confidence: float, resources: contextlib.ExitStack
) -> list[Sink]:
    """Open every sink that was asked for; of files, maps, windows and shared memory one for each source.

    Args:
        outputs: see there.
        sources: what will be written, in the order of the stream's sources.
        confidence: the model's threshold.
        resources: closes the sinks.

    Raises:
        SinkError: if one cannot be opened.
        click.UsageError: if one takes a single source only, and there are several.
    """
    return _Opening(outputs, sources, confidence, resources).open()


class _Opening:
    """The sinks of one run, opened one after the other."""

    def __init__(
        self, outputs: Outputs, sources: Sequence[Source], confidence: float, resources: contextlib.ExitStack
    ) -> None:
        self._outputs = outputs
        self._sources = sources
        self._confidence = confidence
        self._resources = resources
        self._names = _distinct([source.stem for source in sources])
        self._sinks: list[Sink] = []
        self._maps: list[MapFolderSink] = []

    def open(self) -> list[Sink]:
        """Open them; an output that can be wrong is opened before one that others see."""
        from edgedet.runtime.sinks import SINKS, image_ids

        outputs = self._outputs
        if outputs.out is not None or outputs.names_no_way_out:
            self._open_out()
        if outputs.maps is not None:
            self._open_maps(Path(outputs.maps))
        if outputs.json_lines is not None:
            self._add(SINKS["json"](outputs.json_lines, self._map_path if self._maps else None))
        if outputs.coco is not None:
            if len(self._sources) > 1:
                raise click.UsageError("--coco takes one source, since its image ids are of one: use --json")
            self._add(SINKS["coco"](outputs.coco, image_ids(self._sources[0])))
        if outputs.mqtt is not None:
            self._add(SINKS["mqtt"](outputs.mqtt))
        if outputs.shm is not None:
            self._open_shared_memory(outputs.shm)
        if outputs.web is not None:
            page = self._open_page(outputs.web)
            self._add(page)
            echo_page_address(page, to_stderr=outputs.writes_to_stdout)
        if outputs.rtsp is not None:
            self._open_rtsp(outputs.rtsp)
        if outputs.show:
            self._open_windows()
        return self._sinks

    def _add(self, sink: Sink, source_index: int | None = None) -> None:
        """Keep a sink; with an index it gets the results of that source only, where there are several."""
        from edgedet.runtime.sinks import OneSource

        if source_index is not None and len(self._sources) > 1:
            sink = OneSource(sink, source_index)
        self._resources.callback(sink.close)
        self._sinks.append(sink)

    def _open_out(self) -> None:
        from edgedet.runtime.sinks import default_out, open_out

        out = self._outputs.out
        if len(self._sources) == 1:
            self._add(open_out(out or default_out(self._sources[0]), self._sources[0]))
            return
        folder = Path() if out is None else _make_folder(Path(out))
        for index, (source, name) in enumerate(zip(self._sources, self._names, strict=True)):
            default = default_out(source).name
            self._add(open_out(folder / (name + default.removeprefix(source.stem)), source), index)

    def _open_maps(self, folder: Path) -> None:
        from edgedet.runtime.sinks import image_ids, map_names
        from edgedet.runtime.sinks.maps import MapFolderSink

        if len(self._sources) > 1:
            _make_folder(folder)
        for index, (source, name) in enumerate(zip(self._sources, self._names, strict=True)):
            own = folder / name if len(self._sources) > 1 else folder
            sink = MapFolderSink(own, map_names(source), image_ids(source))
            self._maps.append(sink)
            self._add(sink, index)

    def _map_path(self, result: StreamResult) -> Path:
        return self._maps[result.source_index].path(result.frame)

    def _open_shared_memory(self, name: str) -> None:
        from edgedet.runtime.sinks import SINKS

        for index in range(len(self._sources)):
            own = f"{name}.{index}" if len(self._sources) > 1 else name
            self._add(SINKS["shared_memory"](own), index)

    def _open_windows(self) -> None:
        from edgedet.runtime.sinks import SINKS

        titles = _distinct([f"edgedet: {source.name}" for source in self._sources])
        for index, (source, title) in enumerate(zip(self._sources, titles, strict=True)):
            self._add(SINKS["window"](title, wait=not source.moving), index)

    def _open_rtsp(self, address: str) -> None:
        from edgedet.runtime.sinks.rtsp import RtspAddress, RtspSink

        sink = RtspSink(RtspAddress.parse(address), self._names, self._sources[0].fps)
        self._add(sink)
        to_stderr = self._outputs.writes_to_stdout
        click.echo(f"RTSP stream ({sink.encoder}): {', '.join(sink.urls)}", err=to_stderr)
        if not sink.address.is_loopback:
            click.echo("warning: everybody on the network can see this stream", err=True)

    def _open_page(self, address: str) -> WebSink:
        from edgedet.runtime.sinks.web import Address, PageSettings, WebSink

        token = self._outputs.web_token
        if token is not None:
            token = token or secrets.token_urlsafe(12)
        settings = PageSettings(
            title=f"edgedet: {', '.join(self._names)}",
            lowest_confidence=self._confidence,
            confidence=self._confidence,
            sources=tuple(source.name for source in self._sources),
        )
        return WebSink(Address.parse(address), token, settings)


def _make_folder(folder: Path) -> Path:
    """Make a folder for the files of several sources where there is none.

    Raises:
        SinkError: if it cannot be made.
    """
    from edgedet.runtime.sinks.place import check_place

    check_place(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SinkError(
            "a folder for the results of several sources", f"'{folder}' ({error.strerror})", "Name a folder"
        ) from error
    return folder


def _distinct(names: Sequence[str]) -> list[str]:
    """Number names that occur several times: a, a_2, a_3."""
    taken: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        taken.append(next(each for each in itertools.chain([name], numbered) if each not in taken))
    return taken


def echo_page_address(page: WebSink, *, to_stderr: bool = False) -> None:
    """Say where the page is, and warn where everybody on the network may look."""
    click.echo(f"Live page: {page.url}", err=to_stderr)
    if not page.address.is_loopback and not page.guarded:
        click.echo("warning: everybody on the network can see this page; add --web-token", err=True)
