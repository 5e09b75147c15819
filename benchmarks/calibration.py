"""What calibration costs: time and peak memory for 16, 64 and 128 pictures, and what the second time costs.

Each measurement runs in a process of its own, so that its peak is its own: the pass of the float network over the
pictures with the distribution of every tensor that INT8 needs, once, and then again from the cache. Memory must not
grow with the pictures. A folder with fewer pictures than asked for is gone through again.

    python benchmarks/calibration.py --calib coco/train/images --json calibration.json [yolox.onnx ...]

Networks are ONNX files that edgedet exported. Without any, it is a network of the size and shape of YOLOv8n at 640x640.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import onnx
from network import build_network, spec_of
from report import environment, show, write_report
from rich.progress import track
from rich.table import Table

from edgedet.export.graph import GraphIndex
from edgedet.export.onnx_file import load_onnx, stamp_spec
from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.placement import Target, find_layers, place
from edgedet.export.quantisation.statistics_cache import StatisticsCache
from edgedet.model_spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Measure every network, target and number of pictures, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, help="ONNX files that edgedet exported")
    parser.add_argument("--calib", type=Path, default=ROOT / "examples/digits/images", help="calibration pictures")
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 64, 128], help="numbers of pictures")
    parser.add_argument("--targets", nargs="+", default=["tensorrt", "cpu"], help="what Q/DQ would be placed for")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--alone", metavar="NETWORK", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone is not None:
        print(json.dumps(_measure(arguments.alone, arguments.calib, arguments.targets[0], arguments.counts[0])))
        return
    with tempfile.TemporaryDirectory() as name:
        networks = arguments.networks or [_like_yolov8n(Path(name))]
        asked = [
            (network, target, count)
            for network in networks
            for target in arguments.targets
            for count in arguments.counts
        ]
        rows = [_in_a_process(*one, arguments.calib) for one in track(asked, "measurements", transient=True)]
    _print(rows)
    write_report(arguments.json, {"environment": environment(2), "measurements": rows})


def _like_yolov8n(folder: Path) -> Path:
    model, convolutions = build_network()
    # Calibration reads what the layers make; the instance norms that stand in for batch norms may stay.
    del model.graph.output[1 : 1 + len(convolutions)]
    stamp_spec(model, spec_of())
    onnx.save(model, folder / "yolov8n_shaped.onnx")
    return folder / "yolov8n_shaped.onnx"


def _in_a_process(network: Path, target: str, count: int, calib: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--alone", str(network), "--calib", str(calib)]
    command += ["--targets", target, "--counts", str(count)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def _measure(network: Path, calib: Path, target: Target, count: int) -> dict[str, Any]:
    model = load_onnx(network)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    prepared = form_for_cpu(prepare(model)) if target == "cpu" else prepare(model)
    graph = GraphIndex(prepared)
    layers = frozenset(layer.node for layer in find_layers(graph, target=target) if not layer.reason)
    tensors = list(place(graph, target, layers).activations)
    before = _peak()
    with tempfile.TemporaryDirectory() as name:
        cache = StatisticsCache(Path(name))
        start, processor = time.perf_counter(), time.process_time()
        paths = list(islice(cycle(find_pictures(calib, count).paths), count))
        cache.collect(prepared, spec, tensors, paths)
        took, used, peak = time.perf_counter() - start, time.process_time() - processor, _peak()
        start = time.perf_counter()
        cache.collect(prepared, spec, tensors, paths)
        again = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(name).iterdir())
    return {
        "network": network.stem,
        "input": f"{spec.input.width}x{spec.input.height}",
        "target": target,
        "pictures": count,
        "tensors": len(tensors),
        "seconds": round(took, 2),
        "processor_seconds": round(used, 2),
        "from_cache_seconds": round(again, 3),
        "cache_mb": round(size / 1e6, 2),
        "before_mb": round(before, 1),
        "peak_mb": round(peak, 1),
    }


def _peak() -> float:
    """Return the most memory that this process ever held, in MB; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _print(rows: list[dict[str, Any]]) -> None:
    columns = {
        "network": "network",
        "input": "input",
        "target": "target",
        "pictures": "pictures",
        "tensors": "tensors",
        "seconds": "seconds",
        "processor_seconds": "processor",
        "from_cache_seconds": "cached",
        "cache_mb": "entry MB",
        "before_mb": "MB before",
        "peak_mb": "MB peak",
    }
    table = Table(*columns.values(), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(str(row[name]) for name in columns))
    show(table)


if __name__ == "__main__":
    main()
