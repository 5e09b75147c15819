"""What a whole detector costs on a GPU over its engine alone: picture in, detections out, one at a time.

The engine is TensorRT's where it is, else ONNX Runtime with CUDA (``--engine``); the network is any that edgedet
exported. Engine alone and detector take turns; a ratio is one of two neighbours, and the median of many is reported.
With TensorRT the detector is measured with and without CUDA graphs.

    python benchmarks/gpu/end_to_end.py model.onnx --json end_to_end.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edgedet.loader import load
from edgedet.runtime.gpu.detector import DeviceDetector

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import environment, show, write_report  # beside this folder
from scene import picture


def main() -> None:
    """Measure the detector with and without graphs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file that edgedet exported, or an engine")
    parser.add_argument("--engine", default="auto", choices=["auto", "tensorrt", "rtx", "onnxruntime-cuda"])
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=200, help="pairs of engine and detector")
    arguments = parser.parse_args()
    first = load(arguments.model, engine=arguments.engine)
    assert isinstance(first, DeviceDetector), "no GPU engine here: see edgedet doctor"
    image = picture(1920, 1080)
    rows = []
    for graphs in (False, True):
        detector = DeviceDetector(first.spec, first.device_engine, first.selection, graphs=graphs)
        rows.append({"graphs": graphs, **measure(detector, image, arguments.rounds)})
    first.close()
    table = Table("CUDA graphs", "engine, ms", "detector, ms", "ratio", title=f"1080p, {first.engine.name}")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("graphs", "engine_ms", "detector_ms", "ratio")))
    show(table)
    machine = environment(1)
    machine["engine"] = first.engine.name
    write_report(arguments.json, {"environment": machine, "model": arguments.model.name, "rows": rows})


def measure(detector: DeviceDetector[Any], image: np.ndarray, rounds: int) -> dict[str, Any]:
    """Return the medians of engine alone and detector, and of the ratio of neighbours."""
    engine = detector.device_engine
    stream = engine.device.stream()
    spec = detector.spec.input
    size = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
    worker = engine.worker(stream, {engine.inputs[0].name: (spec.batch or 1, *size)})
    pairs = []
    for turn in range(rounds + 10):
        start = time.perf_counter()
        worker.enqueue()
        stream.synchronize()
        middle = time.perf_counter()
        detector(image)
        end = time.perf_counter()
        if turn >= 10:
            pairs.append((1000 * (middle - start), 1000 * (end - middle)))
    worker.close()
    return {
        "engine_ms": round(statistics.median(a for a, _ in pairs), 3),
        "detector_ms": round(statistics.median(b for _, b in pairs), 3),
        "ratio": round(statistics.median(b / a for a, b in pairs), 3),
    }


if __name__ == "__main__":
    main()
