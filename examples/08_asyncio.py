"""Detections for many clients from one event loop: each TCP client gets a line of JSON a result.

python examples/08_asyncio.py                         # the shipped clip, played as a camera would
python examples/08_asyncio.py 0 --port 9000           # the first camera
nc 127.0.0.1 9000                                     # a client, in another terminal
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from pathlib import Path

import edgedet
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.sinks.json_lines import result_json

DEMO = Path(edgedet.__file__).parent / "demo"
SLOW_BYTES = 64 << 10
"""A client that leaves so much unread misses results; it does not slow the others."""

clients: set[asyncio.StreamWriter] = set()


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep a client until it goes."""
    clients.add(writer)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    clients.discard(writer)
    writer.close()


async def detect(model: str, source: str | None, frames: int | None) -> None:
    """Send every result to every client; the results are waited for in a thread, never in the event loop."""
    camera = source or LoopSource(DEMO / "digits.mp4")
    async with edgedet.open_stream(model, camera) as stream:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stream.stop)
        count = 0
        async for result in stream:
            line = json.dumps(result_json(result)).encode() + b"\n"
            for writer in clients:
                if writer.transport.get_write_buffer_size() < SLOW_BYTES:
                    writer.write(line)
            count += 1
            if count == frames:
                break
    print(f"{stream.statistics.frames} results, {stream.statistics.dropped} frames skipped")


async def main() -> None:
    """Serve and detect until the source ends, or SIGINT or SIGTERM comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="camera number, V4L2 device, or RTSP or HTTP address")
    parser.add_argument("--model", default=str(DEMO / "digits.int8.onnx"), help="a file that edgedet export wrote")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any that is free")
    parser.add_argument("--frames", type=int, help="end after so many")
    arguments = parser.parse_args()
    server = await asyncio.start_server(serve_client, "127.0.0.1", arguments.port)
    print(f"Listening at 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    try:
        await detect(arguments.model, arguments.source, arguments.frames)
    finally:
        server.close()
        for writer in list(clients):
            writer.close()


asyncio.run(main())
