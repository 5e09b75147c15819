"""What looking at an 8K picture through tiles costs beyond the engine: time a tile, the merge, and memory.

The picture repeats a small scene, and a network of YOLOv8n's size with random weights is tuned to find something in
each tile, of which at most 10 boxes are kept. The detector and the engine alone (ONNX Runtime with its defaults, on one
prepared tensor) run in processes of their own and take turns.
Memory is how far the detector's process rises above what it holds before it looks at the picture.

    python benchmarks/tiled_8k.py --json tiled.json
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from contestants import CONTESTANTS
from network import CONFIDENCE, IOU, SIZE, spec_of, tune_for
from processes import Part, keep_to, serve
from report import environment, median, show, spread, write_report
from rich.table import Table
from scene import picture

import edgedet
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiling import Tiling

ENGINE = next(iter(CONTESTANTS))
RUNS_A_TURN = 20
SCENE = (320, 180)


@dataclass(frozen=True)
class Look:
    """One picture: milliseconds of all views and of the merge, boxes before and after it, and the rise in memory."""

    views: int
    look_ms: float
    merge_ms: float
    boxes_in_views: int
    boxes: int
    rise_mb: float


def main() -> None:
    """Measure both in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the detector and of the engine")
    parser.add_argument("--picture", default="7680x4320", metavar="WxH", help="size of the picture")
    parser.add_argument("--boxes", type=int, default=10, help="boxes that are kept of a tile, at most")
    parser.add_argument("--overlap", type=float, default=0.2, help="of tiles of 640 pixels")
    parser.add_argument("--merge", choices=("nms", "wbf"), default="nms")
    parser.add_argument("--threads", type=int, default=2, help="processors and threads")
    parser.add_argument("--tries", type=int, default=3, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _take_part(arguments.part, arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = {"environment": environment(arguments.threads), "tiled": _measure(Path(folder), arguments)}
    show(_table(report["tiled"]))
    write_report(arguments.json, report)


def _measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    width, height = map(int, arguments.picture.split("x"))
    image = _repeated_scene(width, height)
    np.save(folder / "picture.npy", image)
    tensor, _ = Preprocessor(spec_of().input)([image[:SIZE, :SIZE]])
    tune_for(np.asarray(tensor, np.float32), arguments.boxes, folder / "network.onnx")
    settings = [
        "--boxes",
        str(arguments.boxes),
        "--overlap",
        str(arguments.overlap),
        "--merge",
        arguments.merge,
        "--threads",
        str(arguments.threads),
    ]
    files = [str(folder / "network.onnx"), str(folder / "picture.npy")]
    with (
        Part("engine", ["--part", "engine", *files, *settings], folder, arguments.threads) as engine,
        Part("tiled", ["--part", "tiled", *files, *settings], folder, arguments.threads) as tiled,
    ):
        rounds = [
            (engine.turn(RUNS_A_TURN, arguments.tries), tiled.turn(1, arguments.tries)) for _ in range(arguments.rounds)
        ]
    alone = [float(np.median(turn.answer)) for turn, _ in rounds]
    looks = [Look(*turn.answer) for _, turn in rounds]
    a_view = [(look.look_ms + look.merge_ms) / look.views for look in looks]
    return {
        "picture": arguments.picture,
        "tile": SIZE,
        "overlap": arguments.overlap,
        "merge": arguments.merge,
        "views": looks[0].views,
        "boxes_in_views": looks[0].boxes_in_views,
        "boxes": looks[0].boxes,
        "engine_ms_a_tile": median(alone),
        "tiled_ms_a_tile": median(a_view),
        "ratio": spread([mine / engine for mine, engine in zip(a_view, alone, strict=True)]),
        "merge_ms": median([look.merge_ms for look in looks]),
        "seconds_a_picture": median([(look.look_ms + look.merge_ms) / 1e3 for look in looks]),
        "picture_mb": round(width * height * 3 / 1e6, 1),
        "all_tensors_mb": round(looks[0].views * tensor.nbytes / 1e6, 1),
        "rise_mb": max(look.rise_mb for look in looks),
        "foreign_share": median([turn.foreign for pair in rounds for turn in pair]),
    }


def _repeated_scene(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a BGR picture whose tiles all have the same statistics, on which a random network's answers depend."""
    scene = picture(*SCENE)
    return np.tile(scene, (-(-height // SCENE[1]), -(-width // SCENE[0]), 1))[:height, :width].copy()


def _take_part(part: Sequence[str], arguments: argparse.Namespace) -> None:
    """Be the engine or the detector, in a process of its own."""
    name, model, picture_file = part
    keep_to(arguments.threads)
    image = np.load(picture_file)
    if name == "engine":
        contestant = CONTESTANTS[ENGINE](Path(model), arguments.threads)
        contestant.detect(image[:SIZE, :SIZE])
        serve(lambda runs: [_milliseconds(contestant.engine) for _ in range(runs)])
        return
    tiling = Tiling(SIZE, SIZE, arguments.overlap, merge=arguments.merge)
    # The limit holds for the picture too: what is timed is all of the merge but its last cut.
    selection = Selection(confidence=CONFIDENCE, iou=IOU, max_detections=arguments.boxes)
    with edgedet.load(model, selection=selection, threads=arguments.threads, tiling=tiling) as detector:
        detector(image[: 2 * SIZE, : 2 * SIZE])

        def look(_: int) -> list[Any]:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
            before = _resident("VmRSS")
            start = time.perf_counter()
            raw = detector.infer(detector.preprocess([image]))
            between = time.perf_counter()
            found = detector.postprocess(raw)[0]
            end = time.perf_counter()
            times = (between - start) * 1e3, (end - between) * 1e3
            in_views = sum(map(len, raw[0].found))
            return [len(raw[0].views), *times, in_views, len(found), round(_resident("VmHWM") - before, 1)]

        serve(look)


def _milliseconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def _resident(which: str) -> float:
    """Megabytes of this process in memory, now (VmRSS) or at most (VmHWM)."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1e3


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"{figures['picture']} in {figures['views']} views, merged by {figures['merge']}")
    table.add_column("")
    table.add_column(justify="right")
    for name, value in (
        ("engine alone, ms a tile", f"{figures['engine_ms_a_tile']:.2f}"),
        ("tiled, ms a tile", f"{figures['tiled_ms_a_tile']:.2f}"),
        ("tiled over engine", f"{figures['ratio']['median']:.3f}"),
        ("merge, ms a picture", f"{figures['merge_ms']:.1f}"),
        ("boxes that are merged", str(figures["boxes_in_views"])),
        ("memory, MB above picture and network", f"{figures['rise_mb']:.0f}"),
        ("all tiles' tensors at once would take, MB", f"{figures['all_tensors_mb']:.0f}"),
        ("others", f"{figures['foreign_share']:.0%}"),
    ):
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    main()
