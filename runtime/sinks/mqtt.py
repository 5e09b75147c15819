"""Results to an MQTT broker (OASIS MQTT 3.1.1), through paho-mqtt.

| topic | quality of service | payload |
|---|---|---|
| TOPIC | 0, or the address's ``qos`` | one JSON object a frame, the line that ``JsonLinesSink`` writes |
| TOPIC/status | 1, retained | ``online``, ``offline`` after the end; of a program that died the broker says it |

A broker that goes away does not stop the stream: what is found meanwhile is dropped and counted, since a robot wants to
know what is there now, and the connection is taken up again, first after a second, then less and less often, at least
twice a minute. With a quality of service of 1 or 2 the last results before the loss are sent again; never more than 32
are kept.

A broker that does not answer at the start is an error, since most often the address is wrong; with ``connect=later`` in
the address it may come at any time, for a robot that starts on its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from edgedet.errors import SinkError
from edgedet.optional import require
from edgedet.runtime.sinks.json_lines import result_json
from edgedet.runtime.sinks.text_file import json_text
from edgedet.runtime.stream import StreamResult

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

__all__ = ["BrokerAddress", "MqttSink"]

_DEFAULT_TOPIC = "edgedet"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_CONNECT_TIMEOUT_S = 5.0
_KEEPALIVE_S = 15
_LONGEST_WAIT_S = 30
_MOST_UNSENT = 32
_GOODBYE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is and what to publish under.

    Attributes:
        host: name or IP address.
        port: TCP port.
        topic: without wildcards.
        tls: encrypt and check the broker's certificate against the system's authorities, or those in the file that the
            environment's ``SSL_CERT_FILE`` names.
        user: or None.
        password: or None.
        qos: quality of service of the results, 0 to 2.
        connect: ``now``: not to reach the broker is an error; ``later``: it may come at any time.
    """

    host: str
    port: int
    topic: str = _DEFAULT_TOPIC
    tls: bool = False
    user: str | None = None
    password: str | None = None
    qos: int = 0
    connect: Literal["now", "later"] = "now"

    def __repr__(self) -> str:
        return f"BrokerAddress({self.host}:{self.port}/{self.topic})"

    @classmethod
    def parse(cls, text: str) -> BrokerAddress:
        """Read ``mqtt[s]://[USER:PASSWORD@]HOST[:PORT][/TOPIC][?qos=N][&connect=later]``.

        Raises:
            SinkError: if it is not that.
        """
        parts = urlsplit(text)
        topic = unquote(parts.path.strip("/")) or _DEFAULT_TOPIC
        try:
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            port = 0
        wanted = _parameters(parts)
        wrong_topic = topic.startswith("$") or "#" in text or any(mark in topic for mark in "+#\0")
        if not parts.hostname or not port or wanted is None or parts.scheme not in _PORTS or wrong_topic:
            shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            raise SinkError(
                "mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC][?qos=0|1|2][&connect=later], or mqtts://",
                f"'{shown}'",
                "Write for example --mqtt mqtt://localhost/robot/camera",
            )
        user = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname, port, topic, parts.scheme == "mqtts", user, password, *wanted)


class MqttSink:
    """Publishes one JSON object a frame.

    Args:
        broker: an address, or its text.

    Attributes:
        published: results that were sent, with a quality of service above 0 those that the broker has confirmed.
        dropped: results that were dropped, since the broker was away or slow, or JSON cannot say their numbers.

    Raises:
        SinkError: if the broker cannot be reached now, or refuses, unless the address says ``connect=later``; from then
            on it may come and go.
        MissingDependencyError: without paho-mqtt.
    """

    delivery: Final = "newest"
    pixels: Final = False
    wrote: Final = None

    def __init__(self, broker: BrokerAddress | str) -> None:
        self._broker = BrokerAddress.parse(broker) if isinstance(broker, str) else broker
        self.dropped = 0
        self.published = 0
        self._unsent: deque[MQTTMessageInfo] = deque()
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._refused: str | None = None
        self._client: Client | None = self._connect()

    def write(self, result: StreamResult) -> bool:
        """Publish a result, or drop it where the broker is away or slow; see ``Sink.write``."""
        assert self._client is not None
        text = _text(result)
        with self._lock:
            self._settle()
            if text is None or len(self._unsent) >= _MOST_UNSENT or not self._client.is_connected():
                self.dropped += 1
                return True
        sent = self._client.publish(self._broker.topic, text, qos=self._broker.qos)
        with self._lock:
            self._unsent.append(sent)
        return True

    def close(self) -> None:
        """Say ``offline`` and disconnect; calling it again does nothing."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.is_connected():
            goodbye = client.publish(self._status_topic, "offline", qos=1, retain=True)
            with contextlib.suppress(RuntimeError, ValueError):  # the broker goes just now, and says "offline" itself
                goodbye.wait_for_publish(_GOODBYE_TIMEOUT_S)
        client.disconnect()
        client.loop_stop()
        with self._lock:
            self._settle(ended=True)

    @property
    def _status_topic(self) -> str:
        return f"{self._broker.topic}/status"

    def _connect(self) -> Client:
        mqtt = require("paho.mqtt.client", extra="mqtt", purpose="publishing to MQTT")
        client: Client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_WAIT_S)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set()
        if self._broker.connect == "later":
            client.connect_async(self._broker.host, self._broker.port, keepalive=_KEEPALIVE_S)
            client.loop_start()
            return client
        try:
            client.connect(self._broker.host, self._broker.port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise self._unreachable(getattr(error, "strerror", None) or str(error)) from error
        client.loop_start()
        if not self._answered.wait(_CONNECT_TIMEOUT_S) or self._refused is not None:
            client.disconnect()
            client.loop_stop()
            raise self._unreachable(self._refused or f"no answer within {_CONNECT_TIMEOUT_S:.0f} seconds")
        return client

    def _unreachable(self, why: str) -> SinkError:
        return SinkError(
            f"an MQTT broker at {self._broker.host}:{self._broker.port}",
            why,
            "Check address, user and password, for example with: mosquitto_sub -h HOST -t '#'",
        )

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"a broker that refuses: {reason}"
        else:
            client.publish(self._status_topic, "online", qos=1, retain=True)
        self._answered.set()

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._broker.qos == 0:  # others are sent again
            with self._lock:
                self._settle(ended=True)

    def _settle(self, *, ended: bool = False) -> None:
        """Count what has become of the results that were on their way; where nothing more comes, all of them."""
        while self._unsent:
            sent = _was_sent(self._unsent[0])
            if sent is None and not ended:
                return
            self._unsent.popleft()
            if sent:
                self.published += 1
            else:
                self.dropped += 1


def _text(result: StreamResult) -> str | None:
    """Return a result as JSON; None where it holds a number that is not finite: the next one may be well again."""
    try:
        return json_text(result_json(result))
    except SinkError:
        return None


def _was_sent(message: MQTTMessageInfo) -> bool | None:
    """Tell what has become of a message; None while it is on its way."""
    try:
        return True if message.is_published() else None
    except (RuntimeError, ValueError):  # the connection was lost with it, or it never took it
        return False


def _parameters(parts: SplitResult) -> tuple[int, Literal["now", "later"]] | None:
    """Read the quality of service and when to connect; None where there is another parameter, or another value."""
    given = parse_qs(parts.query, keep_blank_values=True)
    qos, connect = given.pop("qos", ["0"])[-1], given.pop("connect", ["now"])[-1]
    if given or qos not in ("0", "1", "2") or connect not in ("now", "later"):
        return None
    return int(qos), "later" if connect == "later" else "now"
