"""What a live stream costs and how old its results are, beside what else there is.

| part | question |
|---|---|
| age | A network camera of 30 frames a second and a model that is slower: how old are the results? |
| throughput | Four videos at once: how many frames a second, over what the engine alone does? |
| handover | From a camera's buffer (YUYV, 720p) to the engine's start, over conversion and pre-processing alone? |
| page | What does the web page take of one core at 30 frames a second? |

Everything takes turns, in processes of its own, on the same processors and with the same network of YOLOv8n's size.

    python benchmarks/stream.py --json stream.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent / "live"))

import age
import camera
import handover
import throughput
import web_page
from network import spec_of, tune_for
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, spread, write_report
from rich.table import Table
from scene import write_video

from edgedet.runtime.preprocess import Preprocessor

PARTS = ("age", "throughput", "handover", "page")
_FRAMES = {"age": 150, "throughput": 60, "handover": 100, "page": 150}
_QUICK = {"age": 20, "throughput": 8, "handover": 10, "page": 15}
_WARM_UP = 5
_VIDEOS = 4


def main() -> None:
    """Measure the parts and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--only-edgedet", action="store_true", help="leave the other packages out")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--quick", action="store_true", help="few frames, one round: does it run at all?")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads of each")
    parser.add_argument("--tries", type=int, default=3, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        keep_to(arguments.threads)
        serve(_work(arguments.part, arguments.threads))
        return
    if arguments.quick:
        arguments.rounds = arguments.tries = 1
    report: dict[str, Any] = {"environment": environment(arguments.threads)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tensor, _ = Preprocessor(spec_of().input)([next(camera.pictures(1))])
        model = tune_for(np.asarray(tensor, np.float32), 10, folder / "network.onnx").path
        bench = Bench(model, folder, arguments)
        for part in arguments.parts:
            report[part] = getattr(bench, part)()
            write_report(arguments.json, report)


class Bench:
    """The parts.

    Args:
        model: the network that all run.
        folder: for logs.
        arguments: of the command line.
    """

    def __init__(self, model: Path, folder: Path, arguments: argparse.Namespace) -> None:
        self._model, self._folder, self._arguments = model, folder, arguments
        self._frames = _QUICK if arguments.quick else _FRAMES

    def age(self) -> dict[str, Any]:
        """Measure ages."""
        with subprocess.Popen([sys.executable, camera.__file__], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            ways = {way: [str(self._model), said["address"], str(said["start"])] for way in self._chosen(age.WAYS)}
            try:
                turns = self._turns("age", ways, warm_up=2)
            finally:
                process.kill()
        table = Table(title="Milliseconds from the camera's shutter to the result; camera of 30 frames a second")
        for column in ("way", "p50", "p99", "engine", "of engine + frame, p99", "of stages + frame, p99", "others"):
            table.add_column(column, justify="right")
        result = {}
        for way, each in turns.items():
            rows = {name: np.concatenate([turn.answer[name] for turn in each]) for name in each[0].answer}
            figures = {name: _percentiles(values) for name, values in rows.items()}
            figures["foreign_share"] = median([turn.foreign for turn in each])
            bounds = (figures[name]["p99"] if name in figures else "" for name in _BOUNDS)
            glass, engine = figures["glass_ms"], figures["engine_ms"]
            table.add_row(way, *map(str, (glass["p50"], glass["p99"], engine["p50"], *bounds)), _percent(each))
            result[way] = figures
        show(table)
        return result

    def throughput(self) -> dict[str, Any]:
        """Measure frames a second."""
        videos = [str(self._folder / f"{number}.mp4") for number in range(_VIDEOS)]
        for video in videos:
            write_video(Path(video), camera.WIDTH, camera.HEIGHT, self._frames["throughput"] // _VIDEOS + 2)
        runners = {name: [str(self._model), *videos] for name in self._chosen(throughput.RUNNERS, 3)}
        turns = self._turns("throughput", runners)
        alone = turns["onnxruntime"]
        table = Table(title="Four videos: frames a second, and over ONNX Runtime alone")
        for column in ("runner", "frames a second", "over alone", "processor ms a frame", "over alone", "others"):
            table.add_column(column, justify="right")
        result = {}
        for name, each in turns.items():
            ratios = [turn.answer["fps"] / by.answer["fps"] for turn, by in zip(each, alone, strict=True)]
            costs = [
                by.answer["processor_ms"] / turn.answer["processor_ms"] for turn, by in zip(each, alone, strict=True)
            ]
            result[name] = {
                "fps": spread([turn.answer["fps"] for turn in each]),
                "processor_ms": spread([turn.answer["processor_ms"] for turn in each]),
                "over_alone": spread(ratios),
                "processor_over_alone": spread(costs),
                "foreign_share": median([turn.foreign for turn in each]),
            }
            fps, spent = result[name]["fps"]["median"], result[name]["processor_ms"]["median"]
            cells = (f"{fps:.1f}", f"{median(ratios):.3f}", f"{spent:.1f}", f"{median(costs):.3f}")
            table.add_row(name, *cells, _percent(each))
        show(table)
        return result

    def handover(self) -> dict[str, Any]:
        """Measure the way to the engine."""
        each = self._turns("handover", {"handover": [str(self._model)]})["handover"]
        stream, direct = (np.concatenate([turn.answer[name] for turn in each]) for name in ("stream_ms", "direct_ms"))
        ratios = stream / direct
        result = {
            "stream_ms": spread(stream.tolist()),
            "direct_ms": spread(direct.tolist()),
            "ratio": spread(ratios.tolist()),
            "undisturbed_ratio": round(float(np.percentile(stream, 10) / np.percentile(direct, 10)), 3),
            "copies_before_conversion": sum(turn.answer["copies"] for turn in each),
            "frames": len(stream),
        }
        table = Table(title="A 720p YUYV buffer to the engine's start, over conversion and pre-processing alone")
        for column in ("stream, ms", "alone, ms", "ratio", "ratio of the quickest tenth", "copies before", "others"):
            table.add_column(column, justify="right")
        numbers = (f"{result[name]['median']:.3f}" for name in ("stream_ms", "direct_ms", "ratio"))
        table.add_row(
            *numbers, f"{result['undisturbed_ratio']:.3f}", str(result["copies_before_conversion"]), _percent(each)
        )
        show(table)
        return result

    def page(self) -> dict[str, Any]:
        """Measure the web page."""
        each = self._turns("page", {"page": []})["page"]
        result = {name: spread([turn.answer[name] for turn in each]) for name in each[0].answer}
        table = Table(title="Web page, 30 frames a second of 640x480: share of one core")
        for column in ("with a viewer", "without", "the page", "others"):
            table.add_column(column, justify="right")
        table.add_row(*(f"{100 * figures['median']:.1f} %" for figures in result.values()), _percent(each))
        show(table)
        return result

    def _chosen(self, names: Sequence[str] | dict[str, Any], own: int = 1) -> list[str]:
        """Return what is measured of a list that begins with so many of our own."""
        return list(names)[: own if self._arguments.only_edgedet else None]

    def _turns(self, part: str, runners: dict[str, list[str]], warm_up: int = _WARM_UP) -> dict[str, list[Turn]]:
        """Let all take turns."""
        turns: dict[str, list[Turn]] = {name: [] for name in runners}
        with contextlib.ExitStack() as stack:
            parts = []
            for name, arguments in runners.items():
                command = ["--threads", str(self._arguments.threads), "--part", part, name, *arguments]
                runner = Part(name, command, self._folder, self._arguments.threads)
                parts.append(stack.enter_context(runner))
                parts[-1].ask(warm_up)
            for _ in range(self._arguments.rounds):
                for each in parts:
                    turns[each.name].append(each.turn(self._frames[part], self._arguments.tries))
        return turns


_BOUNDS = ("share_of_engine_bound", "share_of_bound")


def _work(part: Sequence[str], threads: int) -> Callable[[int], Any]:
    """Be one part, in a process of its own."""
    kind, name, *arguments = part
    if kind == "age":
        model, address, start = arguments
        return age.measure(name, Path(model), address, float(start), threads)
    if kind == "throughput":
        return throughput.measure(name, Path(arguments[0]), arguments[1:], threads)
    return web_page.measure() if kind == "page" else handover.measure(Path(arguments[0]), threads)


def _percentiles(values: Any) -> dict[str, float]:
    middle, high, highest = np.percentile(values, (50, 99, 100))
    return {"p50": round(float(middle), 2), "p99": round(float(high), 2), "worst": round(float(highest), 2)}


def _percent(turns: Sequence[Turn]) -> str:
    return f"{median([turn.foreign for turn in turns]):.0%}"


if __name__ == "__main__":
    main()
