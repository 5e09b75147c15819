"""The numbered examples as programs of their own: run to their end, or talked to while they run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["EXAMPLES", "Running", "run_example", "running_example"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_TIMEOUT_S = 60
_SETTINGS = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


def run_example(
    name: str, *arguments: str, cwd: Path, expect: int = 0, environment: Mapping[str, str] | None = None
) -> str:
    """Run an example to its end, with warnings as errors; return what it printed."""
    done = subprocess.run(
        _command(name, arguments),
        cwd=cwd,
        env={**os.environ, **_SETTINGS, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


class Running:
    """A program that runs.

    Args:
        process: with a pipe for its output.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        # What hangs is ended, so that `wait_for` meets the end of the output instead of waiting for ever.
        self._timer = threading.Timer(_TIMEOUT_S, process.kill)
        self._timer.start()

    def wait_for(self, text: str) -> str:
        """Read lines until one contains a text, and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return self.lines[-1]
        raise AssertionError(f"it ended without {text!r}:\n" + "\n".join(self.lines))

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal, wait for the end, which must be a clean one, and return what it printed last."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=_TIMEOUT_S)
        assert self.process.returncode == 0, "\n".join(self.lines) + rest
        return rest

    def close(self) -> None:
        """Make an end of it, however it goes."""
        self._timer.cancel()
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def running_example(
    name: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start an example, which is killed after the block where it still runs."""
    process = subprocess.Popen(
        _command(name, arguments),
        cwd=cwd,
        env={**os.environ, **_SETTINGS, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    program = Running(process)
    try:
        yield program
    finally:
        program.close()


def _command(name: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
