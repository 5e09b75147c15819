"""Frames per second of a stream on a video, over what its engine does with nothing else to do.

A video is written, then four parts take turns, each in a process of its own and all on the same processors: ONNX
Runtime with its defaults on a prepared tensor, edgedet's engine on it, decoding and pre-processing without an engine,
and ``edgedet.open_stream`` on the model's file, from loading it to the last frame. Each round gives
one ratio; the median is reported.

``bound`` is what the ratio would be if the engine alone kept all processors busy, so that the processor time of
decoding and pre-processing came on top of it.

    python benchmarks/stream_throughput.py --json stream.json
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

import cv2
import numpy as np
from contestants import CONTESTANTS, Edgedet
from network import spec_of, tune_for
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, spread, write_report
from rich.table import Table
from scene import write_video

import edgedet
from edgedet.runtime.capture import open_source
from edgedet.runtime.preprocess import Preprocessor

SIZES = ("1920x1080", "1280x720")
PARTS = ("onnxruntime", "engine", "preparing", "stream")
WARM_UP = 20


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each part at each size")
    parser.add_argument("--frames", type=int, default=300, help="frames a turn")
    parser.add_argument("--boxes", type=int, default=10, help="boxes to be found in the first frame, at most")
    parser.add_argument("--videos", nargs="+", default=SIZES, metavar="WxH", help="sizes of the video")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads of every part")
    parser.add_argument("--tries", type=int, default=5, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _run_part(arguments.part, arguments.threads)
        return
    report: dict[str, Any] = {"environment": environment(arguments.threads), "videos": []}
    table = Table(title="Frames per second; stream over ONNX Runtime alone (plain), over its own engine (own)")
    for column in ("video", *PARTS, "plain", "own", "bound", "others"):
        table.add_column(column, justify="right")
    for size in arguments.videos:
        with tempfile.TemporaryDirectory() as folder:
            result = _measure(Path(folder), size, arguments)
        report["videos"].append(result)
        write_report(arguments.json, report)
        fps = (f"{result[name]['fps']['median']:.1f}" for name in PARTS)
        ratios = (f"{result[key]['median']:.3f}" for key in ("ratio_plain", "ratio_own"))
        table.add_row(size, *fps, *ratios, f"{result['bound']:.3f}", f"{result['foreign_share']:.0%}")
    show(table)


def _measure(folder: Path, size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    width, height = map(int, size.split("x"))
    video = folder / "video.mp4"
    write_video(video, width, height, arguments.frames)
    _, first = cv2.VideoCapture(str(video)).read()
    tensor, _ = Preprocessor(spec_of().input)([np.asarray(first, np.uint8)])
    tuned = tune_for(np.asarray(tensor, np.float32), arguments.boxes, folder / "network.onnx")
    turns: dict[str, list[Turn]] = {name: [] for name in PARTS}
    with contextlib.ExitStack() as stack:
        parts = []
        for name in PARTS:
            command = ["--part", name, str(tuned.path), str(video), "--threads", str(arguments.threads)]
            part = stack.enter_context(Part(name, command, folder, arguments.threads))
            part.ask(WARM_UP)
            parts.append(part)
        for _ in range(arguments.rounds):
            for part in parts:
                turns[part.name].append(part.turn(arguments.frames, arguments.tries))
    return {"video": size, "frames": arguments.frames, "boxes": tuned.boxes, **_summary(turns, arguments.threads)}


def _summary(turns: dict[str, list[Turn]], processors: int) -> dict[str, Any]:
    def fps(name: str) -> list[float]:
        return [turn.answer["fps"] for turn in turns[name]]

    def processor_ms(name: str) -> float:
        return float(np.median([turn.answer["processor_ms"] for turn in turns[name]]))

    stream, plain, own = fps("stream"), fps("onnxruntime"), fps("engine")
    available = processors * 1e3 / float(np.median(plain))
    return {
        **{name: {"fps": spread(fps(name)), "processor_ms": round(processor_ms(name), 2)} for name in PARTS},
        "foreign_share": median([turn.foreign for name in PARTS for turn in turns[name]]),
        "ratio_plain": spread([value / alone for value, alone in zip(stream, plain, strict=True)]),
        "ratio_own": spread([value / alone for value, alone in zip(stream, own, strict=True)]),
        "bound": round(available / (available + processor_ms("preparing")), 3),
    }


def _run_part(part: Sequence[str], threads: int) -> None:
    """Be one part, in a process of its own; it is given as name, network and video."""
    name, model, video = part
    keep_to(threads)
    work = _work(name, Path(model), video, threads)

    def timed(frames: int) -> dict[str, float]:
        processor = sum(os.times()[:2])
        start = time.perf_counter()
        done = work(frames)
        elapsed = time.perf_counter() - start
        return {"fps": done / elapsed, "processor_ms": (sum(os.times()[:2]) - processor) * 1e3 / done}

    serve(timed)


def _work(name: str, model: Path, video: str, threads: int) -> Callable[[int], int]:
    """Return what does a part's work on so many frames and says how many there were."""
    if name == "preparing":
        return lambda frames: _prepare(video, frames)
    if name == "stream":
        return lambda frames: _stream(model, video, frames)
    contestant = Edgedet(model, threads) if name == "engine" else CONTESTANTS[name](model, threads)
    return lambda frames: sum(1 for _ in range(frames) if contestant.engine() is not None)


def _prepare(video: str, frames: int) -> int:
    source, preprocessor = open_source(video), Preprocessor(spec_of().input)
    done = 0
    while done < frames and (frame := source.read()) is not None:
        preprocessor([frame.image])
        done += 1
    source.close()
    return done


def _stream(model: Path, video: str, frames: int) -> int:
    """Load the network and run the video, as ``edgedet run`` does."""
    done = 0
    with edgedet.open_stream(model, video) as stream:
        for _ in stream:
            done += 1
            if done == frames:
                break
    return done


if __name__ == "__main__":
    main()
