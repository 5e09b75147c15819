"""What a detector costs beyond its engine: one picture at a time, on the CPU, edgedet beside others.

A network of YOLOv8n's size is made with random weights and tuned to find about 10 and about 300 boxes. Each contestant
runs in a process of its own; they take turns, so that the machine's moods hit all alike. In each turn engine and end to
end alternate, and a ratio is always one of two neighbours: the reported one is the median over all pairs. ``others``
is how much of the machine other programs took meanwhile; figures are worth something where that is a few percent.

- ``own``: end to end over the same process' engine alone, just before.
- ``plain``: end to end over ONNX Runtime with its defaults, alone in its process, in the same round.

    python benchmarks/cpu_overhead.py --json overhead.json
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from contestants import CONTESTANTS, Contestant
from network import spec_of, tune_for
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, spread, write_report
from rich.table import Table
from scene import picture

from edgedet.runtime.preprocess import Preprocessor

PICTURES = ("1920x1080", "2028x1520", "1280x720")
"""1080p is exactly three times the network's width, which some code handles faster; the other two are not."""

PAIRS_A_TURN = 6
WARM_UP = 3
ENGINE = next(iter(CONTESTANTS))


class Sample(NamedTuple):
    """One pair: milliseconds of the engine alone, of the three stages and of their sum; and the boxes found."""

    engine: float
    preprocess: float
    infer: float
    postprocess: float
    total: float
    boxes: int


def main() -> None:
    """Measure every scenario and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contestant in each scenario")
    parser.add_argument("--pictures", nargs="+", default=PICTURES, metavar="WxH", help="sizes of the picture")
    parser.add_argument("--boxes", nargs="+", type=int, default=(10, 300), help="boxes to be found, at most")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads of every contestant")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--tries", type=int, default=5, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _contest(arguments.part, arguments.threads)
        return
    report: dict[str, Any] = {"environment": environment(arguments.threads), "scenarios": []}
    for size in arguments.pictures:
        for boxes in arguments.boxes:
            with tempfile.TemporaryDirectory() as folder:
                scenario = _scenario(Path(folder), size, boxes, arguments)
            report["scenarios"].append(scenario)
            show(_table(scenario))
            write_report(arguments.json, report)


def _contest(part: Sequence[str], threads: int) -> None:
    """Be one contestant, in a process of its own; it is given as name, network and picture."""
    name, model, picture_file = part
    keep_to(threads)
    contestant = CONTESTANTS[name](Path(model), threads)
    image = np.load(picture_file)
    for _ in range(WARM_UP):
        _pair(contestant, image)
    serve(lambda pairs: [_pair(contestant, image) for _ in range(pairs)])


def _pair(contestant: Contestant, image: npt.NDArray[np.uint8]) -> Sample:
    start = time.perf_counter()
    contestant.engine()
    between = time.perf_counter()
    run = contestant.detect(image)
    total = (time.perf_counter() - between) * 1e3
    rest = total - run.preprocess - run.infer
    return Sample((between - start) * 1e3, run.preprocess, run.infer, rest, total, run.boxes)


def _scenario(folder: Path, size: str, boxes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    width, height = map(int, size.split("x"))
    image = picture(width, height)
    np.save(folder / "picture.npy", image)
    tensor, _ = Preprocessor(spec_of().input)([image])
    tuned = tune_for(np.asarray(tensor, np.float32), boxes, folder / "network.onnx")
    with contextlib.ExitStack() as stack:
        parts, failures = _start(stack, folder, arguments)
        rounds = [
            {part.name: part.turn(PAIRS_A_TURN, arguments.tries) for part in parts} for _ in range(arguments.rounds)
        ]
    return {
        "picture": size,
        "boxes_wanted": boxes,
        "boxes": tuned.boxes,
        "candidates": tuned.candidates,
        "contestants": {part.name: _summary(part.name, rounds) for part in parts},
        "failures": failures,
    }


def _start(
    stack: contextlib.ExitStack, folder: Path, arguments: argparse.Namespace
) -> tuple[list[Part], dict[str, str]]:
    """Start the contestants; one that is not installed leaves the others' figures untouched."""
    parts, failures = [], {}
    for name in (ENGINE, *(name for name in arguments.contestants if name != ENGINE)):
        files = str(folder / "network.onnx"), str(folder / "picture.npy")
        part = Part(name, ["--part", name, *files, "--threads", str(arguments.threads)], folder, arguments.threads)
        stack.enter_context(part)
        try:
            part.ask(0)
            parts.append(part)
        except RuntimeError as error:
            failures[name] = str(error)
    return parts, failures


def _summary(name: str, rounds: Sequence[Mapping[str, Turn]]) -> dict[str, Any]:
    turns = [[Sample(*values) for values in turn[name].answer] for turn in rounds]
    every = [sample for turn in turns for sample in turn]
    alone = [float(np.median([Sample(*values).engine for values in turn[ENGINE].answer])) for turn in rounds]
    plain = [sample.total / engine for turn, engine in zip(turns, alone, strict=True) for sample in turn]
    return {
        "boxes": every[-1].boxes,
        "pairs": len(every),
        "engine_ms": median([sample.engine for sample in every]),
        "end_to_end_ms": median([sample.total for sample in every]),
        "preprocess_ms": median([sample.preprocess for sample in every]),
        "infer_ms": median([sample.infer for sample in every]),
        "postprocess_ms": median([sample.postprocess for sample in every]),
        "ratio_own": spread([sample.total / sample.engine for sample in every]),
        "ratio_plain": spread(plain),
        "foreign_share": median([turn[name].foreign for turn in rounds]),
    }


def _table(scenario: dict[str, Any]) -> Table:
    title = f"{scenario['picture']}, {scenario['boxes']} boxes of {scenario['candidates']} candidates, milliseconds"
    table = Table(title=title)
    for column in ("", "boxes", "engine", "end to end", "pre", "infer", "post", "own", "plain", "others"):
        table.add_column(column, justify="right")
    for name, values in scenario["contestants"].items():
        times = ("engine_ms", "end_to_end_ms", "preprocess_ms", "infer_ms", "postprocess_ms")
        ratios = (f"{values[key]['median']:.3f}" for key in ("ratio_own", "ratio_plain"))
        share = f"{values['foreign_share']:.0%}"
        table.add_row(name, str(values["boxes"]), *(f"{values[key]:.2f}" for key in times), *ratios, share)
    for name, failure in scenario["failures"].items():
        table.add_row(name, failure)
    return table


if __name__ == "__main__":
    main()
