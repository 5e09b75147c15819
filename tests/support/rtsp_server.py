"""An RTSP server on this machine: GStreamer's, in a process of its own, with one path a colour."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import TracebackType

from system_python import SYSTEM_PYTHON

__all__ = ["RtspServer"]

_PROGRAM = Path(__file__).with_name("rtsp_server_program.py")


class RtspServer:
    """A server that runs until `stop`, and may start again at the same port.

    Args:
        codec: h264 or jpeg.
    """

    def __init__(self, codec: str = "h264") -> None:
        self._codec = codec
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        arguments = [SYSTEM_PYTHON, str(_PROGRAM), str(self.port), self._codec]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Kill it, as a pulled plug would: it says goodbye to nobody."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def freeze(self) -> None:
        """Let it hang with its connections open; `stop` ends it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def address(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{path}"

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
