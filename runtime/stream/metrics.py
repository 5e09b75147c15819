"""What a stream does as Prometheus reads it: its text format, version 0.0.4, and a server for it.

https://prometheus.io/docs/instrumenting/exposition_formats/

| metric | type | labels | what |
|---|---|---|---|
| edgedet_results_total | counter | source, index | results delivered |
| edgedet_dropped_frames_total | counter | source, index, cause | frames without a result (causes: see ``Drops``) |
| edgedet_result_age_seconds | histogram | source, index | from frame to result; live sources only |
| edgedet_source_up | gauge | source, index | 1 while the source delivers, 0 while it is down or has ended |
| edgedet_source_restarts_total | counter | source, index | how often it came back |
| edgedet_stage_seconds_total | counter | stage | work of capture, preprocess, infer, postprocess, summed over results |
| edgedet_info | gauge | version | 1 |

``index`` is the place of the source in the stream, since two may have one name.
"""

from __future__ import annotations

import http.server
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Final

from edgedet import __version__
from edgedet.errors import SinkError
from edgedet.runtime.stream.statistics import AGE_BUCKETS_MS, SourceStatistics, Statistics

__all__ = ["CONTENT_TYPE", "MetricsServer", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATH = "/metrics"
_TIMEOUT_S = 10.0

_Labels = Mapping[str, str]
_Sample = tuple[str, _Labels, float]


class MetricsServer:
    """Answers ``GET /metrics`` with what a stream does; a context manager that ends it.

    Args:
        read: returns the statistics of the stream.
        host: where to listen; this machine only by default.
        port: 0 for any that is free.

    Attributes:
        port: where it listens.

    Raises:
        SinkError: if the address cannot be listened at.
    """

    def __init__(self, read: Callable[[], Statistics], host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            self._server = _Server(host, port, read)
        except OSError as error:
            raise SinkError(
                "an address to serve metrics at", f"'{host}:{port}' ({error.strerror or error})", "Choose another port"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="edgedet-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving; calling it again does nothing."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def metrics_text(statistics: Statistics) -> str:
    """Return the statistics in Prometheus' text format."""
    sources = [({"source": each.name, "index": str(index)}, each) for index, each in enumerate(statistics.sources)]
    families: list[tuple[str, str, str, Iterable[_Sample]]] = [
        ("results_total", "counter", "Results delivered.", (("", labels, each.frames) for labels, each in sources)),
        (
            "dropped_frames_total",
            "counter",
            "Frames without a result, by cause.",
            (
                ("", {**labels, "cause": cause}, count)
                for labels, each in sources
                for cause, count in each.drops.by_cause().items()
            ),
        ),
        (
            "result_age_seconds",
            "histogram",
            "Time from a frame of a live source to its result.",
            itertools.chain.from_iterable(_histogram(labels, each) for labels, each in sources if each.age.count),
        ),
        (
            "source_up",
            "gauge",
            "Whether the source delivers frames.",
            (("", labels, each.state == "up") for labels, each in sources),
        ),
        (
            "source_restarts_total",
            "counter",
            "How often the source came back after it had failed.",
            (("", labels, each.restarts) for labels, each in sources),
        ),
        ("stage_seconds_total", "counter", "Work of each stage, summed over the results.", _stages(statistics)),
        ("info", "gauge", "Version of edgedet.", [("", {"version": __version__}, 1)]),
    ]
    return "".join(_family(f"edgedet_{name}", kind, text, samples) for name, kind, text, samples in families)


def _stages(statistics: Statistics) -> Iterable[_Sample]:
    means = statistics.latencies
    for stage in ("capture", "preprocess", "infer", "postprocess"):
        yield "", {"stage": stage}, getattr(means, stage) * statistics.frames / 1e3


def _histogram(labels: _Labels, source: SourceStatistics) -> Iterable[_Sample]:
    bounds = [*(f"{bound / 1e3:g}" for bound in AGE_BUCKETS_MS), "+Inf"]
    for bound, below in zip(bounds, itertools.accumulate(source.age.buckets), strict=True):
        yield "_bucket", {**labels, "le": bound}, below
    yield "_sum", labels, source.age.total_ms / 1e3
    yield "_count", labels, source.age.count


def _family(name: str, kind: str, text: str, samples: Iterable[_Sample]) -> str:
    lines = [f"# HELP {name} {text}\n", f"# TYPE {name} {kind}\n"]
    for suffix, labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        lines.append(f"{name}{suffix}{{{pairs}}} {_number(value)}\n")
    return "".join(lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, read: Callable[[], Statistics]) -> None:
        self.read: Final = read
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    server_version = "edgedet"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        if self.path.partition("?")[0] != _PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"Ask for {_PATH}")
            return
        data = metrics_text(self.server.read()).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)
