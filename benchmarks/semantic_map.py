"""From 1x21x130x130 class scores to the class of each pixel of a 1080p picture, on one processor.

What that costs depends on how much border there is between the classes, so score fields of three kinds are measured.
In the semantic labels of 64 pictures of COCO panoptic, 6.6 % of the 129x129 cells between scores have different classes
at their corners on average, 16.4 % in the busiest picture; the first two fields have about as many. The third is noise,
where every cell is a border. Beside edgedet stands what is usually done: every class enlarged (OpenCV, torch), then the
best one taken.

    python benchmarks/semantic_map.py --json semantic_map.json
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from report import environment, show, spread, write_report
from rich.table import Table

from edgedet.runtime.heads import ClassScores
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

CLASSES, CELLS = 21, 130
STRIDE = 8
WIDTH, HEIGHT = 1920, 1080

FloatArray = npt.NDArray[np.float32]
REGIONS = {"typical": 3, "busy": 8, "noise": CELLS}
"""Kind of field -> how many bumps of score a class has along either side."""


def main() -> None:
    """Measure and print one line a field and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=30, help="runs of which the median is taken")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    ways: dict[str, Callable[[FloatArray], npt.NDArray[Any]]] = {"edgedet": _edgedet, "opencv": _opencv}
    if importlib.util.find_spec("torch") is not None:
        ways["torch"] = _torch
    fields = {name: _field(count) for name, count in REGIONS.items()}
    rows = [
        {"field": name, "mixed_cells": round(_mixed(field), 3), "way": way, "ms": _time(run, field, arguments.rounds)}
        for name, field in fields.items()
        for way, run in ways.items()
    ]
    table = Table("field", "mixed cells", "way", "ms (median, quartiles)")
    for row in rows:
        ms: Any = row["ms"]
        figures = f"{ms['median']:.1f} ({ms['q1']:.1f}, {ms['q3']:.1f})"
        table.add_row(str(row["field"]), f"{row['mixed_cells']:.1%}", str(row["way"]), figures)
    show(table)
    write_report(arguments.json, {"environment": environment(1), "rows": rows})


def _field(count: int) -> FloatArray:
    """Return (classes, cells, cells) scores with `count` bumps along either side."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 4, (CLASSES, count, count)).astype(np.float32)
    if count >= CELLS:
        return coarse
    smooth = [cv2.resize(one, (CELLS, CELLS), interpolation=cv2.INTER_CUBIC) for one in coarse]
    return np.stack(smooth).astype(np.float32)


def _mixed(field: FloatArray) -> float:
    """Share of the cells whose four corners differ in their best class."""
    best = field.argmax(axis=0)
    corners = (best[:-1, 1:], best[1:, :-1], best[1:, 1:])
    return float(np.any([corner != best[:-1, :-1] for corner in corners], axis=0).mean())


def _edgedet(field: FloatArray) -> npt.NDArray[Any]:
    size = (CELLS * STRIDE, CELLS * STRIDE)
    answer = ClassScores().decode_map([field], Placement(WIDTH, HEIGHT, 0, 0, *size), size, Selection(), ())
    return answer.class_id


def _opencv(field: FloatArray) -> npt.NDArray[Any]:
    best = np.zeros((HEIGHT, WIDTH), np.uint8)
    highest = np.full((HEIGHT, WIDTH), -np.inf, np.float32)
    for class_id, score in enumerate(field):
        enlarged = cv2.resize(score, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        np.copyto(best, np.uint8(class_id), where=enlarged > highest)
        np.maximum(highest, enlarged, out=highest)
    return best


def _torch(field: FloatArray) -> npt.NDArray[Any]:
    import torch

    torch.set_num_threads(1)
    scores = torch.from_numpy(field)[None]
    enlarged = torch.nn.functional.interpolate(scores, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    return np.asarray(enlarged[0].argmax(0).numpy())


def _time(run: Callable[[FloatArray], npt.NDArray[Any]], field: FloatArray, rounds: int) -> dict[str, float]:
    run(field)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(field)
        times.append(1e3 * (time.perf_counter() - start))
    return spread(times)


if __name__ == "__main__":
    main()
