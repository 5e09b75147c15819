"""A detection service for a device that nobody watches: systemd starts it, watches it and starts it again.

python examples/firmware/service.py --model model.onnx --source /dev/video0 --shm camera0
python examples/firmware/service.py --frames 100      # try it: the shipped clip, played as a camera would

It tells systemd that it is ready when the first result is there, and after that it answers the watchdog only while
results come: a program that still runs but no longer sees is as dead as one that has ended. See README.md beside it.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import signal
import socket
import time
from pathlib import Path

import edgedet
from edgedet.errors import EdgedetError
from edgedet.runtime.capture.loop import LoopSource
from edgedet.runtime.sinks import Sink, SinkRunner
from edgedet.runtime.sinks.mqtt import MqttSink
from edgedet.runtime.sinks.shared_memory import SharedMemorySink
from edgedet.runtime.stream.statistics_log import StatisticsLog

DEMO = Path(edgedet.__file__).parent / "demo"
LOG = logging.getLogger("edgedet.service")


def sd_notify(state: str) -> None:
    """Tell systemd a state such as READY=1 (man sd_notify); nothing where systemd does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract sockets begin with a zero byte
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(state.encode(), address)


def options() -> argparse.Namespace:
    """Read the command line; without one, the EDGEDET_... variables that systemd passes from edgedet.env."""
    given = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=given("EDGEDET_MODEL", DEMO / "digits.int8.onnx"))
    parser.add_argument("--source", default=given("EDGEDET_SOURCE"), help="the shipped clip where none is named")
    parser.add_argument("--shm", default=given("EDGEDET_SHM", "edgedet"), metavar="NAME")
    parser.add_argument("--mqtt", default=given("EDGEDET_MQTT"), metavar="mqtt://HOST/TOPIC")
    parser.add_argument("--frames", type=int, help="end after so many")
    return parser.parse_args()


def run(wanted: argparse.Namespace) -> None:
    """Detect until the source ends, a signal comes, or something fails that the stream cannot mend."""
    # systemd kills a service that is silent for WATCHDOG_USEC; half of it is a good pace (man sd_watchdog_enabled).
    pace_s = int(os.environ.get("WATCHDOG_USEC", "2000000")) / 2e6
    outputs: list[Sink] = [SharedMemorySink(wanted.shm)]
    if wanted.mqtt:
        outputs.append(MqttSink(wanted.mqtt))
    with (
        SinkRunner(outputs, live=True, on_error=lambda error: LOG.error("%s", error)) as sinks,
        edgedet.open_stream(wanted.model, wanted.source or LoopSource(DEMO / "digits.mp4")) as stream,
        StatisticsLog(lambda: stream.statistics, 60),
    ):
        due = None
        for result in itertools.islice(stream, wanted.frames):
            if not sinks.write(result):
                break
            now = time.monotonic()
            if due is None:
                sd_notify("READY=1")
            if due is None or now >= due:
                due = now + pace_s
                counts = stream.statistics
                sd_notify(f"WATCHDOG=1\nSTATUS={counts.frames} results, {counts.fps:.1f} per second")
    for error in sinks.errors:
        raise error


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # As Ctrl-C: it unwinds. A handler must not call stream.stop(), which takes locks that may be held where it comes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(options())
    except KeyboardInterrupt:
        sd_notify("STOPPING=1")
    except EdgedetError as error:
        sd_notify(f"STATUS={error}")
        raise SystemExit(str(error)) from None
