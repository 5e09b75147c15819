"""The live page: pictures, boxes, rates and latencies of a stream in a browser, without anything to install.

| file | what it does |
|---|---|
| web_sink.py | WebSink: makes a record of a result, when somebody looks |
| record.py | the bytes of a record |
| broadcast.py | the newest record of each source, for any number of viewers |
| server.py | the HTTP server |
| page_files.py | the files of the page, read once |
| access.py | who may look: the token, the address, the Host header |
| page/ | the page: HTML, CSS and JavaScript, written by hand |

Why the standard library's server: what a page of this kind needs is three small files and one endless answer to each
viewer. ``fetch`` reads such an answer in every browser of today, so neither WebSockets nor a package that speaks them
is needed, and ``edgedet demo`` works on a device right after a bare installation.
"""

from __future__ import annotations

from edgedet.runtime.sinks.web.access import Address
from edgedet.runtime.sinks.web.web_sink import PageSettings, WebSink

__all__ = ["Address", "PageSettings", "WebSink"]
