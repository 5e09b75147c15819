"""Against a real broker, which is killed and started again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mqtt_broker import Broker, Listener, running_broker, wait_until
from sink_results import sink_result

from edgedet.errors import MissingDependencyError, SinkError
from edgedet.runtime.sinks import SinkRunner
from edgedet.runtime.sinks.json_lines import result_json
from edgedet.runtime.sinks.mqtt import BrokerAddress, MqttSink
from edgedet.runtime.sinks.text_file import json_text

pytest.importorskip("paho.mqtt.client")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as broker:
        yield broker


@contextlib.contextmanager
def listening(broker: Broker, **login: str) -> Iterator[Listener]:
    listener = Listener(broker.port, **login)
    try:
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def publishing(broker: Broker, rest: str = "/robot/camera") -> Iterator[MqttSink]:
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}{rest}")
    try:
        yield sink
    finally:
        sink.close()


def connected(sink: MqttSink) -> bool:
    return sink._client is not None and sink._client.is_connected()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_results_are_the_json_lines_and_the_status_tells_who_is_there(broker: Broker, qos):
    result = replace(sink_result(3), source_index=2)
    with listening(broker) as listener:
        with publishing(broker, f"/robot/camera?qos={qos}") as sink:
            assert sink.write(result)
            assert json.loads(listener.wait_for("robot/camera")) == result_json(result)
            assert listener.qualities[[name for name, *_ in listener.messages].index("robot/camera")] == qos
            listener.wait_for("robot/camera/status", "online")
            with listening(broker) as late:
                late.wait_for("robot/camera/status", "online")
                assert ("robot/camera/status", "online", True) in late.messages, "retained"
        listener.wait_for("robot/camera/status", "offline")
        assert (sink.published, sink.dropped) == (1, 0)
    sink.close()


def test_a_broker_that_dies_and_comes_back_neither_stops_nor_floods(broker: Broker):
    with publishing(broker) as sink:
        with SinkRunner([sink], live=True) as runner:
            with listening(broker) as listener:
                runner.write(sink_result(1))
                listener.wait_for("robot/camera")
            broker.kill()
            wait_until(lambda: not connected(sink), "the loss is noticed")
            for sequence in range(2, 502):
                sink.write(sink_result(sequence))
            assert sink.dropped == 500 and len(sink._unsent) == 0, "nothing is kept for later"
            assert sink._client is not None and not sink._client._out_packet
            broker.start()
            with listening(broker) as listener:
                listener.wait_for("robot/camera/status", "online")
                runner.write(sink_result(1000))
                assert json.loads(listener.wait_for("robot/camera"))["frame"] == 1000, "the newest, not the oldest"
        assert not runner.errors and runner.dropped == 500
    assert (sink.published, sink.dropped) == (2, 500)


def test_a_broker_that_comes_later(broker: Broker):
    broker.kill()
    with publishing(broker, "/robot/camera?connect=later") as sink:
        sink.write(sink_result(1))
        assert sink.dropped == 1 and not connected(sink)
        broker.start()
        with listening(broker) as listener:
            listener.wait_for("robot/camera/status", "online")
            sink.write(sink_result(2))
            assert json.loads(listener.wait_for("robot/camera"))["frame"] == 2
    assert (sink.published, sink.dropped) == (1, 1)


def test_a_broker_that_hangs_is_bounded_and_counted():
    """A server that accepts the connection and then reads no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        address = f"mqtt://127.0.0.1:{server.getsockname()[1]}?qos=1"
        held: list[socket.socket] = []

        def answer() -> None:
            connection, _ = server.accept()
            held.append(connection)
            connection.recv(1000)
            connection.sendall(bytes([0x20, 2, 0, 0]))  # CONNACK

        thread = threading.Thread(target=answer)
        thread.start()
        sink = MqttSink(address)
        thread.join(20)
        for sequence in range(100):
            sink.write(sink_result(sequence))
        assert len(sink._unsent) == 32 and sink.dropped == 68
        held[0].close()
    sink.close()
    assert (sink.published, sink.dropped) == (0, 100)


def test_what_was_not_confirmed_is_sent_again_with_a_higher_quality(broker: Broker):
    with listening(broker) as listener, publishing(broker, "/robot/camera?qos=1") as sink:
        assert sink._client is not None
        sink._client._sock.shutdown(socket.SHUT_RDWR)  # as if a cable was pulled just now
        count = 30
        for sequence in range(count):
            sink.write(sink_result(sequence))
        wait_until(lambda: connected(sink), "the connection is back")
        sink.write(sink_result(count))
        listener.wait_for("robot/camera", json_text(result_json(sink_result(count))))
        wait_until(lambda: not sink._unsent or (sink._settle(), not sink._unsent)[1], "all are accounted for")
    received = {json.loads(text)["frame"] for name, text, _ in listener.messages if name == "robot/camera"}
    assert sink.published + sink.dropped == count + 1
    assert sink.published <= len(received) and len(received) + sink.dropped >= count + 1


def test_the_broker_says_offline_for_a_program_that_was_killed(broker: Broker):
    code = (
        "import sys, time; from edgedet.runtime.sinks.mqtt import MqttSink\n"
        f"sink = MqttSink('mqtt://127.0.0.1:{broker.port}/robot'); print('up', flush=True); sys.stdin.read()"
    )
    with listening(broker) as listener:
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout and program.stdout.readline() == b"up\n"
            listener.wait_for("robot/status", "online")
            program.send_signal(signal.SIGKILL)
        listener.wait_for("robot/status", "offline")


def test_user_and_password(tmp_path: Path):
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd (Debian package mosquitto)")
    subprocess.run([tool, "-b", "-c", str(passwords), "arm", "p@ss/word"], check=True, capture_output=True)
    passwords.chmod(0o644)
    with running_broker(tmp_path, "allow_anonymous false", f"password_file {passwords}", "user root") as broker:
        sink = MqttSink(f"mqtt://arm:p%40ss%2Fword@127.0.0.1:{broker.port}/robot")
        with listening(broker, user="arm", password="p@ss/word") as listener:
            sink.write(sink_result())
            listener.wait_for("robot")
        sink.close()
        for login in ("", "arm:wrong@"):
            with pytest.raises(SinkError, match=r"a broker that refuses: (Not authorized|Bad user name or password)"):
                MqttSink(f"mqtt://{login}127.0.0.1:{broker.port}/robot")


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl (Debian package openssl)")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=broker"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *words.split(), *files], check=True, capture_output=True)
    key.chmod(0o644)
    return certificate, key


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_checks_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    certificate, key = certificates(tmp_path)
    settings = ("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}", "user root")
    with running_broker(tmp_path, *settings) as broker:
        address = f"mqtts://127.0.0.1:{broker.port}/robot"
        with pytest.raises(SinkError, match="certificate verify failed"):
            MqttSink(address)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sink = MqttSink(address)
        sink.write(sink_result())
        wait_until(lambda: (sink._settle(), sink.published)[1] == 1, "it is sent")
        sink.close()


def test_no_broker_is_one_error(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SinkError, match=f"an MQTT broker at 127.0.0.1:{port}, got Connection refused"):
        MqttSink(f"mqtt://127.0.0.1:{port}")


def test_numbers_that_json_cannot_say_are_dropped_and_the_next_result_is_not(broker: Broker):
    bad = sink_result(1)
    bad.detections.xyxy[0, 0] = np.nan
    with publishing(broker) as sink, listening(broker) as listener:
        assert sink.write(bad) and sink.write(sink_result(2))
        assert json.loads(listener.wait_for("robot/camera"))["frame"] == 2 and sink.dropped == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt://localhost", BrokerAddress("localhost", 1883)),
        ("mqtts://broker.local", BrokerAddress("broker.local", 8883, tls=True)),
        ("mqtt://[::1]:1884/a/b", BrokerAddress("::1", 1884, "a/b")),
        ("mqtt://u:p%3Aq%40@h/a%20b", BrokerAddress("h", 1883, "a b", user="u", password="p:q@")),
        ("mqtt://u@h/t/?qos=2", BrokerAddress("h", 1883, "t", user="u", qos=2)),
        ("mqtt://h/t?qos=1&connect=later", BrokerAddress("h", 1883, "t", qos=1, connect="later")),
    ],
)
def test_addresses(text, address):
    assert BrokerAddress.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "http://localhost",
        "mqtt://",
        "mqtt://h:99999",
        "mqtt://h:x",
        "mqtt://h/a/#",
        "mqtt://h/+/a",
        "mqtt://h/$SYS",
        "mqtt://h/a?qos=3",
        "mqtt://h/a?connect=never",
        "mqtt://h/a?retain=1",
        "mqtt://h/a#b",
        "mqtt://user:secret@h:x/a",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(SinkError, match="Write for example --mqtt") as error:
        BrokerAddress.parse(text)
    assert "secret" not in str(error.value)


def test_passwords_are_not_shown():
    assert "secret" not in repr(BrokerAddress.parse("mqtt://user:secret@host/a"))


def test_without_paho_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedet\[mqtt\]'"):
        MqttSink("mqtt://localhost")
