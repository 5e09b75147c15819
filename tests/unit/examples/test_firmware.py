"""The firmware example: what it tells systemd, over a real socket, and the unit, read by systemd itself."""

from __future__ import annotations

import configparser
import http.server
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from example_programs import EXAMPLES, running_example

from edgedet.runtime.sinks.shared_memory import SharedMemoryReader
from edgedet.runtime.stream import Recovery

UNIT = EXAMPLES / "firmware" / "edgedet.service"
SERVICE = "firmware/service.py"
PING = "WATCHDOG=1\nSTATUS="


class Systemd:
    """Systemd's end of the socket.

    Args:
        address: a path, or "@" and a name.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))

    def heard(self, timeout_s: float = 20) -> str:
        self._socket.settimeout(timeout_s)
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@edgedet-{uuid.uuid4()}")
    yield one
    one.close()


@pytest.fixture
def shared_name() -> Iterator[str]:
    name = f"edgedet-test-{uuid.uuid4()}"
    yield name
    Path("/dev/shm", name).unlink(missing_ok=True)


@pytest.fixture
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgedet_example_service", EXAMPLES / SERVICE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sd_notify(service: ModuleType, systemd: Systemd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    service.sd_notify("READY=1\nSTATUS=grün")
    assert systemd.heard() == "READY=1\nSTATUS=grün"
    monkeypatch.delenv("NOTIFY_SOCKET")
    service.sd_notify("READY=1")
    with pytest.raises(TimeoutError):
        systemd.heard(0.01)


def test_it_is_ready_with_the_first_result_and_ends_cleanly(systemd: Systemd, shared_name: str, tmp_path: Path):
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000", "EDGEDET_SHM": shared_name}
    with running_example(SERVICE, cwd=tmp_path, environment=environment) as program:
        assert systemd.heard() == "READY=1"
        with SharedMemoryReader(shared_name) as reader:
            for _ in range(3):
                assert re.fullmatch(r"WATCHDOG=1\nSTATUS=\d+ results, \d+\.\d per second", systemd.heard())
            assert reader.read() is not None
        program.end(signal.SIGTERM)
    while (message := systemd.heard()) != "STOPPING=1":
        assert message.startswith(PING)


def test_a_service_that_cannot_start_says_why(systemd: Systemd, shared_name: str, tmp_path: Path):
    environment = {"NOTIFY_SOCKET": systemd.address, "EDGEDET_SHM": shared_name}
    with running_example(SERVICE, "--source", "/dev/video999", cwd=tmp_path, environment=environment) as program:
        assert "/dev/video999" in program.wait_for("Expected")
        assert program.process.wait(20) == 1
    assert systemd.heard().startswith("STATUS=Expected a camera, got '/dev/video999'")


class Camera:
    """A network camera (MJPEG over HTTP) that can be told to be silent."""

    def __init__(self, jpeg: bytes) -> None:
        self.sends = threading.Event()
        self.sends.set()
        self.ended = threading.Event()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while not camera.ended.wait(0.03):
                    camera.sends.wait()
                    try:
                        self.wfile.write(part)
                    except OSError:  # the viewer has gone
                        return

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/live.mjpg"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self.sends.set()
        self._server.shutdown()
        self._server.server_close()


def test_the_watchdog_is_answered_only_while_results_come(shared_name: str, tmp_path: Path):
    pytest.importorskip("av")
    camera = Camera((EXAMPLES / "digits" / "images" / "0000.jpg").read_bytes())
    systemd = Systemd(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "100000", "EDGEDET_SHM": shared_name}
    try:
        with running_example(SERVICE, "--source", camera.address, cwd=tmp_path, environment=environment) as program:
            assert systemd.heard() == "READY=1"
            assert systemd.heard().startswith(PING)
            camera.sends.clear()
            with pytest.raises(TimeoutError):
                for _ in range(200):  # what was under way when the camera went silent
                    assert systemd.heard(0.7).startswith(PING)
            camera.sends.set()
            assert systemd.heard().startswith(PING)
            program.end(signal.SIGTERM)
    finally:
        systemd.close()
        camera.close()


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of systemd are in mixed case
    parser.read_string(UNIT.read_text())
    return parser


def test_systemd_understands_the_unit(tmp_path: Path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze (Debian package systemd)")
    installed = tmp_path / UNIT.name
    installed.write_text(UNIT.read_text().replace("/opt/edgedet/bin/python", sys.executable))
    command = [program, "verify", "--man=no", str(installed)]
    done = subprocess.run(command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert not complaints


def test_the_unit_gives_the_stream_time_to_mend_itself():
    settings = unit()["Service"]
    recovery = Recovery()
    assert recovery.watchdog_s is not None
    assert float(settings["WatchdogSec"]) > 2 * recovery.watchdog_s
    assert float(settings["TimeoutStopSec"]) > recovery.close_timeout_s
    assert settings["Type"] == "notify" and settings["Restart"] == "always"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_unit_locks_the_service_in():
    settings = unit()["Service"]
    wanted = {
        "DynamicUser": "yes",
        "SupplementaryGroups": "video",
        "StateDirectory": "edgedet",
        "ProtectSystem": "strict",
        "ReadOnlyPaths": "/opt/edgedet",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "DevicePolicy": "closed",
    }
    assert {name: settings[name] for name in wanted} == wanted
