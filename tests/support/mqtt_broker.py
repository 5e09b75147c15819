"""A real MQTT broker on loopback, and somebody who listens to it; skips the test where mosquitto is not installed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["Broker", "Listener", "running_broker"]

_TIMEOUT_S = 20


class Broker:
    """mosquitto with a configuration of its own, on one port, to be killed and started as often as wanted."""

    def __init__(self, folder: Path, settings: Sequence[str]) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            pytest.skip("needs mosquitto (Debian package mosquitto)")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        configuration = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "log_dest none", *settings]
        configuration.write_text("\n".join(lines) + "\n")
        self._command = [program, "-c", str(configuration)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "mosquitto listens")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "mosquitto has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Listener:
    """Everything that a broker passes on, as (topic, payload, retained)."""

    def __init__(self, port: int, topic: str = "#", user: str | None = None, password: str | None = None) -> None:
        mqtt = pytest.importorskip("paho.mqtt.client")
        self.messages: list[tuple[str, str, bool]] = []
        self.qualities: list[int] = []
        subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *rest: client.subscribe(topic, qos=2)
        self._client.on_subscribe = lambda *rest: subscribed.set()
        self._client.on_message = lambda client, data, message: self._take(message)
        self._client.reconnect_delay_set(1, 1)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(_TIMEOUT_S)

    def wait_for(self, topic: str, payload: str | None = None, *, after: int = 0) -> str:
        """Wait for a message and return its payload."""
        found: list[str] = []

        def came() -> bool:
            found[:] = [text for name, text, _ in self.messages[after:] if name == topic and payload in (None, text)]
            return bool(found)

        wait_until(came, f"{topic} {payload}")
        return found[0]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, message: object) -> None:
        self.messages.append((message.topic, message.payload.decode(), message.retain))
        self.qualities.append(message.qos)


@contextlib.contextmanager
def running_broker(folder: Path, *settings: str) -> Iterator[Broker]:
    """Start a broker that lets everybody in unless the settings say something else; end it after the block."""
    broker = Broker(folder, settings or ("allow_anonymous true",))
    try:
        yield broker
    finally:
        broker.kill()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll, since neither a port nor another process's messages can be awaited."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)
