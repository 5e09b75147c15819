"""How ONNX Runtime's threads should wait for work: what each setting does to an engine, a detector and a stream.

The threads of a session wait between two operators, and between two runs, either asleep or by asking again and again
(spinning). Spinning hands work over faster and takes the processor from everything else. The settings take turns, each
in a process of its own; ``after`` is the processor time that is spent in the second after a run.

    python benchmarks/thread_settings.py --json threads.json
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from network import SIZE, spec_of, tune_for
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, write_report
from rich.table import Table
from scene import picture, write_video

import edgedet
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.preprocess import Preprocessor

SPINNING, DURATION = "session.intra_op.allow_spinning", "session.intra_op.spin_duration_us"
STOP = "session.force_spinning_stop"
SETTINGS: dict[str, dict[str, str]] = {
    "spinning": {SPINNING: "1", DURATION: "-1", STOP: "0"},
    "spinning, stops with the run": {SPINNING: "1", STOP: "1", DURATION: "-1"},
    "spinning for 50 us": {SPINNING: "1", STOP: "1", DURATION: "50"},
    "spinning for 5 us": {SPINNING: "1", STOP: "1", DURATION: "5"},
    "sleeping": {SPINNING: "0"},
}
"""The first is ONNX Runtime's default. ``spin_duration_us`` does nothing in releases that do not know it yet."""

WIDTH, HEIGHT = 1920, 1080
WARM_UP = 5


def main() -> None:
    """Measure every setting and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each setting")
    parser.add_argument("--runs", type=int, default=20, help="runs of the engine, of the detector and frames a turn")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads of every setting")
    parser.add_argument("--tries", type=int, default=5, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _run_part(arguments.part, arguments.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        turns = _measure(Path(name), arguments)
    results = {setting: _summary(values) for setting, values in turns.items()}
    write_report(arguments.json, {"environment": environment(arguments.threads), "settings": results})
    table = Table(title="Milliseconds; processor milliseconds in the second after a run; frames per second")
    for column in ("threads wait", "engine", "detector", "stream", "after", "others"):
        table.add_column(column, justify="right")
    for setting, result in results.items():
        values = (f"{result[key]:.2f}" for key in ("engine_ms", "detector_ms", "stream_fps", "after_ms"))
        table.add_row(setting, *values, f"{result['foreign_share']:.0%}")
    show(table)


def _measure(folder: Path, arguments: argparse.Namespace) -> dict[str, list[Turn]]:
    tensor, _ = Preprocessor(spec_of().input)([picture(WIDTH, HEIGHT)])
    tune_for(np.asarray(tensor, np.float32), 10, folder / "network.onnx")
    write_video(folder / "video.mp4", WIDTH, HEIGHT, arguments.runs)
    turns: dict[str, list[Turn]] = {setting: [] for setting in arguments.settings}
    with contextlib.ExitStack() as stack:
        parts = []
        for setting in arguments.settings:
            files = str(folder / "network.onnx"), str(folder / "video.mp4")
            command = ["--part", setting, *files, "--threads", str(arguments.threads)]
            part = stack.enter_context(Part(setting, command, folder, arguments.threads))
            part.ask(WARM_UP)
            parts.append(part)
        for _ in range(arguments.rounds):
            for part in parts:
                turns[part.name].append(part.turn(arguments.runs, arguments.tries))
    return turns


def _summary(turns: Sequence[Turn]) -> dict[str, float]:
    keys = ("engine_ms", "detector_ms", "stream_fps", "after_ms")
    medians = {key: median([turn.answer[key] for turn in turns]) for key in keys}
    return {**medians, "foreign_share": median([turn.foreign for turn in turns])}


def _run_part(part: Sequence[str], threads: int) -> None:
    """Be one setting, in a process of its own; it is given as name, network and video."""
    name, model, video = part
    keep_to(threads)
    engine = OnnxRuntimeEngine(Path(model), threads=threads, config=SETTINGS[name])
    detector = Detector(spec_of(), engine)
    image = picture(WIDTH, HEIGHT)
    tensor = np.zeros((1, 3, SIZE, SIZE), np.float32)

    def measured(runs: int) -> dict[str, float]:
        result = {
            "engine_ms": _typical(lambda: engine.infer(tensor), runs),
            "detector_ms": _typical(lambda: detector(image), runs),
        }
        spent = sum(os.times()[:2])
        time.sleep(1)
        result["after_ms"] = (sum(os.times()[:2]) - spent) * 1e3
        with edgedet.open_stream(detector, video) as stream:
            for _ in stream:
                pass
        result["stream_fps"] = stream.statistics.fps
        return result

    serve(measured)


def _typical(function: Callable[[], Any], runs: int) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times))


if __name__ == "__main__":
    main()
