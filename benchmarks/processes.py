"""A benchmark's parts in processes of their own, which work only while they are asked to.

Several inference sessions in one process disturb each other, and so do libraries that keep thread pools. So a benchmark
runs itself once for each part, and the parts take turns: they exchange lines of JSON over standard input and output.
Other programs disturb them too: how much processor time those took during a turn is measured, and the turn repeated
where it was too much.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2

__all__ = ["QUIET", "Part", "Turn", "keep_to", "serve"]

QUIET = 0.05
"""Share of the machine's processor time that other programs may take during a turn."""


@dataclass(frozen=True)
class Turn:
    """What a part answered, and the share of the machine's processor time that other programs took meanwhile."""

    answer: Any
    foreign: float


class Part:
    """A running part of the benchmark that is being run.

    Args:
        name: for messages and the name of its log.
        arguments: the command line with which the benchmark runs that part only.
        folder: where its standard error goes.
        processors: how many threads libraries that use OpenMP may start.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, processors: int) -> None:
        self.name = name
        self._errors = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(processors)},
        )

    def ask(self, request: int) -> Any:
        """Send a number and wait for the answer.

        Raises:
            RuntimeError: if the part has ended; the message has the last line of what it said.
        """
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answered is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: its standard error says why
            print(request, file=asked, flush=True)
        while line := answered.readline():
            if line.startswith(("[", "{")):  # anything else is a library that prints
                return json.loads(line)
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["nothing"]
        raise RuntimeError(f"{self.name} ended early and said: {said[-1]}")

    def turn(self, request: int, tries: int) -> Turn:
        """Ask until a turn is undisturbed, at most so many times, and return the least disturbed one."""
        turns: list[Turn] = []
        while len(turns) < tries and not any(turn.foreign <= QUIET for turn in turns):
            busy, own, start = _busy_seconds(), self._own_seconds(), time.perf_counter()
            answer = self.ask(request)
            available = (time.perf_counter() - start) * (os.cpu_count() or 1)
            foreign = (_busy_seconds() - busy) - (self._own_seconds() - own)
            turns.append(Turn(answer, max(0.0, foreign / available)))
            self._settle()
        return min(turns, key=lambda turn: turn.foreign)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _settle(self) -> None:
        """Wait until the part sleeps: the threads of an inference session may spin on for a while after a run."""
        before = -1.0
        while (now := self._own_seconds()) != before:
            before = now
            time.sleep(0.05)

    def _own_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _busy_seconds() -> float:
    """Processor time that the machine has spent on anything, stolen time of a virtual machine included."""
    user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def keep_to(processors: int) -> None:
    """Keep this process to the first so many of its processors, and OpenCV to as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    cv2.setNumThreads(processors)


def serve(answer: Callable[[int], list[Any] | dict[str, Any]]) -> None:
    """Answer the parent's numbers until it closes the pipe."""
    for line in sys.stdin:
        print(json.dumps(answer(int(line))), flush=True)
