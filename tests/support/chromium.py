"""A headless Chromium, driven over the pipe of its DevTools protocol; skips the test where there is none."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Page", "chromium_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT_S = 20


class Page:
    """One tab."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        """What the page wrote to its console as errors, exceptions among them."""
        self.requested: list[str] = []
        """Addresses of all requests."""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def set_view(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        scale = 2 if phone else 1
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        answer = self._send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key such as Tab or ArrowRight."""
        code = {"Tab": 9, "ArrowRight": 39}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self._send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def wait_for(self, expression: str) -> Any:
        """Evaluate until it is true."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never: {expression}; {self.problems}"
            time.sleep(0.05)
        return value

    def accessibility_tree(self) -> list[tuple[str, str]]:
        """Role and name of each node that assistive software gets."""
        nodes = self._send("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def screenshot(self, path: Path) -> None:
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        kind = "jpeg" if path.suffix == ".jpg" else "png"
        data = self._send("Page.captureScreenshot", format=kind, clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, details = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(details["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.problems.append(details["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and details["type"] == "error":
            self.problems.append(json.dumps(details["args"])[:500])
        elif method == "Network.requestWillBeSent":
            self.requested.append(details["request"]["url"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], _TIMEOUT_S)
            assert ready, f"Chromium does not answer; {self.problems}"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium has ended"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)


@contextlib.contextmanager
def chromium_page(profile: Path) -> Iterator[Page]:
    """Start the browser with a fresh profile in a folder, and end it after the block."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None or shutil.which("bash") is None:
        pytest.skip(f"needs a browser: {', '.join(_NAMES)}")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
    read_commands, to_browser = os.pipe()
    from_browser, write_answers = os.pipe()
    # The protocol's pipe is file descriptors 3 and 4.
    shell = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
    with contextlib.ExitStack() as ending:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *flags],
            pass_fds=(read_commands, write_answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ending.callback(_end, process)
        for end in (to_browser, from_browser):
            ending.callback(os.close, end)
        os.close(read_commands)
        os.close(write_answers)
        yield Page(to_browser, from_browser)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
