"""A stream run into its sinks from the command line: progress, summary, and a clean end by whatever cause."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

import click

from edgedet.cli.contents import Contents, count
from edgedet.errors import EdgedetError, SinkError

if TYPE_CHECKING:
    from edgedet.runtime.sinks import Sink, SinkRunner
    from edgedet.runtime.stream import SourceStatistics, Statistics, Stream

__all__ = ["SHOWN_CLASSES", "RunOutcome", "run_stream"]

SHOWN_CLASSES = 10
"""At most so many classes are named in one line."""

_SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


@dataclass
class RunOutcome:
    """What happened so far: pictures that are left out, and what was found in the others."""

    broken: list[EdgedetError] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)

    def report_broken(self, error: EdgedetError) -> None:
        """Keep and print the error of a picture that is left out."""
        self.broken.append(error)
        click.echo(f"skipped: {error}", err=True)


def run_stream(stream: Stream, sinks: Sequence[Sink], outcome: RunOutcome, *, to_stderr: bool) -> None:
    """Hand every result to every sink until the sources end or a sink has had enough; close the sinks; sum up.

    The first SIGINT or SIGTERM ends the stream as if its sources had ended, so that files are finished; a second SIGINT
    ends the process at once.

    Args:
        stream: what to run.
        sinks: open sinks.
        outcome: is added to.
        to_stderr: where the summary goes.

    Raises:
        SinkError: if a sink failed; the others have gone on to the end.
        KeyboardInterrupt: after a SIGINT, when everything is closed.
        SystemExit: the same after a SIGTERM, with exit code 143.
    """
    from edgedet.runtime.sinks import SinkRunner

    def report(error: EdgedetError) -> None:
        if len(sinks) > 1:
            click.echo(f"failed: {error}", err=True)

    live = any(source.live for source in stream.sources) and not stream.keeps_all
    runner = SinkRunner(sinks, live=live, on_error=report)
    with _signals_call(stream.stop) as received, _events_on_stderr():
        try:
            _pump(stream, runner, outcome)
        finally:
            runner.close()
            _print_summary(stream, sinks, runner, outcome, to_stderr=to_stderr)
    _raise_errors(sinks, runner)
    if signal.SIGTERM in received:
        raise SystemExit(_SIGTERM_EXIT_CODE)
    if received:
        raise KeyboardInterrupt


def _raise_errors(sinks: Sequence[Sink], runner: SinkRunner) -> None:
    if len(sinks) == 1 and runner.errors:
        raise runner.errors[0]
    if runner.errors:
        raise SinkError(
            f"{count(len(sinks), 'output')} that can be written",
            f"{len(runner.errors)} that cannot",
            "See the messages above; the other outputs are complete",
        )


def _pump(stream: Stream, runner: SinkRunner, outcome: RunOutcome) -> None:
    with _progress(stream) as advance:
        for result in stream:
            outcome.contents.add(result.answer)
            more = runner.write(result)
            advance()
            if not more:
                return


@contextlib.contextmanager
def _progress(stream: Stream) -> Iterator[Callable[[], None]]:
    """Show a bar with frames per second where standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.1f} frames per second"),
        TimeRemainingColumn(),
    )
    # Standard output is not the bar's to redirect: JSON lines may go there.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        counts = [source.frame_count for source in stream.sources]
        total = None if None in counts else sum(filter(None, counts))
        task = bar.add_task("Detecting", total=total, fps=0.0)

        def advance() -> None:
            bar.update(task, advance=1, fps=stream.statistics.fps)

        yield advance


def _print_summary(
    stream: Stream, sinks: Sequence[Sink], runner: SinkRunner, outcome: RunOutcome, *, to_stderr: bool
) -> None:
    statistics = stream.statistics
    if not statistics.frames:
        return
    noun = "frame" if any(source.moving for source in stream.sources) else "picture"
    lines = [
        f"{count(statistics.frames, noun)}{outcome.contents.summary(SHOWN_CLASSES)}",
        *(_of_source(source, noun) for source in statistics.sources if len(statistics.sources) > 1),
        _timing(statistics, noun, stream.in_flight),
        *(f"Wrote {sink.wrote}" for sink in sinks if sink.wrote is not None),
    ]
    if runner.dropped:
        lines.append(f"{count(runner.dropped, 'result')} dropped by outputs that were slower than the stream, or away")
    for line in lines:
        click.echo(line, err=to_stderr)


def _timing(statistics: Statistics, noun: str, in_flight: int) -> str:
    spent = statistics.latencies
    stages = {"pre-processing": spent.preprocess, "inference": spent.infer, "post-processing": spent.postprocess}
    text = f"A {noun}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in stages.items())
    if statistics.fps:
        text += f"; {statistics.fps:.1f} {noun}s per second"
        if in_flight > 1:
            text += f", {in_flight} at a time"
    if statistics.dropped:
        text += f"; {statistics.dropped} skipped"
    return text


def _of_source(source: SourceStatistics, noun: str) -> str:
    text = f"'{source.name}': {count(source.frames, noun)}"
    if source.fps:
        text += f", {source.fps:.1f} per second"
    if source.drops.total:
        text += f", {source.drops.total} skipped"
    return text


@contextlib.contextmanager
def _signals_call(function: Callable[[], object]) -> Iterator[list[int]]:
    """Call a function, from a thread of its own, at the first SIGINT or SIGTERM; yields those that came.

    Nothing is raised where a signal happens to come, such as between two bytes of a file. The function may take locks,
    which a signal handler must not: the thread that it interrupts may hold them.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    arrived: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be put to in a signal handler

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        arrived.put(True)

    def wait() -> None:
        if arrived.get():
            function()

    thread = threading.Thread(target=wait, name="edgedet-signals", daemon=True)
    thread.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.put(False)
        thread.join()


@contextlib.contextmanager
def _events_on_stderr() -> Iterator[None]:
    """Show what the stream logs: sources that fail and come back, and its statistics."""
    logger = logging.getLogger("edgedet.runtime.stream")
    handler = _EchoHandler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _EchoHandler(logging.Handler):
    """Prints messages to standard error as it is when they come: a progress bar may have replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            click.echo(self.format(record), err=True)
