"""The HTTP server of the live page: a few files and one endless answer.

``/stream?side=N&source=I`` is a sequence of records (see ``record.py``) until the viewer goes; N is the longest side in
pixels that its pictures are shown with, I the only source that it looks at (all where it is left out). A viewer whose
connection is slow gets fewer frames, never older ones: the next record is chosen only when the connection has taken the
one before.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edgedet.errors import SinkError
from edgedet.runtime.sinks.web.access import Address, is_named_safely, same_token
from edgedet.runtime.sinks.web.broadcast import Broadcast, View
from edgedet.runtime.sinks.web.page_files import page_files
from edgedet.runtime.sinks.web.record import pack

__all__ = ["PageServer", "Show"]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HTML = "text/html; charset=utf-8"
_COOKIE = "edgedet_token"
_WRONG_TOKEN_S = 0.25
_MOST_CONNECTIONS = 64
_MOST_VIEWERS = 16
_IDLE_TIMEOUT_S = 10.0
_HEARTBEAT_S = 2.0
_LEAST_SIDE, _MOST_SIDE = 160, 4096
_UNSENT_BYTES = 16 << 10
_TCP_NOTSENT_LOWAT: int = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # Linux's number; Python names it since 3.12


@dataclass(frozen=True)
class Show:
    """What is shown, to whom.

    Attributes:
        hello: head of the first record of every viewer.
        token: what a viewer must know, or None.
    """

    hello: dict[str, Any]
    token: str | None


class PageServer:
    """Serves the page from threads of its own until it is closed.

    Args:
        address: where to listen.
        show: see ``Show``.
        broadcast: the records.

    Raises:
        SinkError: if that address cannot be listened at.
    """

    def __init__(self, address: Address, show: Show, broadcast: Broadcast) -> None:
        try:
            self._server = _Server(address, lambda *arguments: _Handler(*arguments, show=show, broadcast=broadcast))
        except (OSError, UnicodeError) as error:
            raise SinkError(
                f"a free port to listen at {address.host}:{address.port}",
                getattr(error, "strerror", None) or str(error),
                "Choose another port, for example with --web 8001",
            ) from error
        self.address = Address(address.host, int(self._server.server_address[1]))
        self._broadcast = broadcast
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="edgedet-web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Say goodbye to every viewer and give the port back."""
        self._broadcast.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a program that forgets to close the sink ends all the same
    request_queue_size = 16

    def __init__(self, address: Address, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        self.address_family = family
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((address.host, address.port), handler)

    def server_bind(self) -> None:
        # The parent looks the name of the host up, which may ask a name server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            admitted = len(self._open) < _MOST_CONNECTIONS
            if admitted:
                self._open.add(request)
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().close_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the viewer has gone already
                    # Only reading ends, so that the goodbye still arrives.
                    connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a viewer that goes in the middle of an answer is no error of this program."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_TIMEOUT_S
    server_version = "edgedet"
    sys_version = ""
    server: _Server

    def __init__(self, *arguments: Any, show: Show, broadcast: Broadcast) -> None:
        self._show = show
        self._broadcast = broadcast
        super().__init__(*arguments)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        token = self._show.token
        if token is None and not is_named_safely(self.headers.get("Host")):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"Open this page by its IP address.\n")
        elif url.path != "/" and url.path in page_files().files:
            self._answer(HTTPStatus.OK, *page_files().files[url.path])  # anybody may have them: they come with edgedet
        elif url.path != "/" and self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"This is for the live page only.\n")
        elif token is None or same_token(token, self._given_token()):
            self._serve(url.path, query)
        elif url.path == "/" and same_token(token, query.get("token", [None])[-1]):
            self._take_token_out_of_the_address(token)
        else:
            self._refuse(wrong="token" in query or "Authorization" in self.headers)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Keep requests out of the program's output."""

    def _given_token(self) -> str | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return value.strip()
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            return None
        return None if morsel is None else morsel.value

    @property
    def _cookie(self) -> str:
        # A browser sends the cookies of one port to all ports of the same host.
        return f"{_COOKIE}_{self.server.server_port}"

    def _take_token_out_of_the_address(self, token: str) -> None:
        # An address stays in the history. Loading the page again instead of a redirection: after a link from another
        # site a browser would follow the redirection without a strict cookie.
        more = {"Set-Cookie": f"{self._cookie}={token}; HttpOnly; SameSite=Strict; Path=/", "Refresh": "0; url=/"}
        self._answer(HTTPStatus.OK, _HTML, b'<!DOCTYPE html><title>edgedet</title><a href="/">Live page</a>', more)

    def _refuse(self, *, wrong: bool) -> None:
        body = page_files().token_page
        if wrong:
            time.sleep(_WRONG_TOKEN_S)  # for those who try many
            body = body.replace(b" hidden", b"")
        self._answer(HTTPStatus.UNAUTHORIZED, _HTML, body, {"WWW-Authenticate": "Bearer"})

    def _serve(self, path: str, query: dict[str, list[str]]) -> None:
        if path == "/":
            self._answer(HTTPStatus.OK, *page_files().files["/"])
        elif path != "/stream":
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"There is no such page.\n")
        elif self._broadcast.viewers >= _MOST_VIEWERS:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"Too many viewers.\n", {"Retry-After": "10"})
        else:
            side, source = (_number(query.get(name, [""])[-1]) for name in ("side", "source"))
            self._stream(View(min(max(side or _MOST_SIDE, _LEAST_SIDE), _MOST_SIDE), source))

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, view: View) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self.send_response(HTTPStatus.OK)
        for name, value in {**_HEADERS, "Content-Type": "application/octet-stream"}.items():
            self.send_header(name, value)
        self.end_headers()
        with self._broadcast.watched(view) as newest:
            number = newest
            self.wfile.write(pack({**self._show.hello, "version": page_files().version}))
            while self._ready():
                number, records = self._broadcast.newer(number, view, _HEARTBEAT_S)
                if self._broadcast.closed:
                    self.wfile.write(pack({"goodbye": True}))
                    return
                self.wfile.write(b"".join(records) or pack({}))

    def _ready(self) -> bool:
        """Wait until the connection has passed on what it was given; False where it hangs."""
        return bool(select.select([], [self.connection], [], _IDLE_TIMEOUT_S)[1])


def _number(text: str) -> int | None:
    return int(text[:9]) if text.isascii() and text.isdigit() else None
