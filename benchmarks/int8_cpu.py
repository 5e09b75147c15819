"""INT8 on a CPU: how fast and how accurate the two flavours are beside the float network.

For each network: the metric in float, points lost by the CPU flavour with every layer quantised and behind the accuracy
gate; and how many times as fast as the float network they are, and the TensorRT flavour as `edgedet load` runs it on a
CPU. All of a network's engines run in processes of their own and take turns, on one thread; a time is processor time,
a ratio the median of the ratios of each round. "Same form" is the float network with its activation functions written
as the CPU flavour has them, without integers. The last column is what share of the float network's time are layers.

    python benchmarks/int8_cpu.py --calib coco/train/images --data coco/val yolox_nano.onnx picodet.onnx

Networks are ONNX files that edgedet exported. Without any, it is the digit detector on its own 48 pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from processes import Part, keep_to, serve
from report import environment, median, show, write_report
from rich.progress import track
from rich.table import Table

import edgedet
from edgedet.export.onnx_file import load_onnx, stamp_spec, write_onnx
from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import read_image

ROOT = Path(__file__).resolve().parent.parent
PROFILED = 20
WARM_UP = 5

FLAVOURS = ("float", "same_form", "every_layer", "gated", "tensorrt")


def main() -> None:
    """Quantise every network for both targets, let the results take turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, help="ONNX files that edgedet exported")
    parser.add_argument("--calib", type=Path, default=ROOT / "examples/digits/images", help="calibration pictures")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/digits", help="labelled pictures")
    parser.add_argument("--count", type=int, default=32, help="calibration pictures")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each engine")
    parser.add_argument("--runs", type=int, default=10, help="runs of an engine in a turn")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--part", nargs=2, metavar=("MODEL", "PICTURE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        _run_part(Path(arguments.part[0]), Path(arguments.part[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        networks = arguments.networks or [_digits(Path(name))]
        rows = [_measure(path, arguments, Path(name)) for path in track(networks, "networks", transient=True)]
    _print(rows)
    write_report(arguments.json, {"environment": environment(1), "networks": rows})


def _digits(folder: Path) -> Path:
    edgedet.export_model(ROOT / "examples/models/digits.pt", folder / "digits.onnx")
    return folder / "digits.onnx"


def _measure(path: Path, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    model = load_onnx(path)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None

    def quantised(**changes: Any) -> QuantisationOutcome:
        given = {"calib": arguments.calib, "data": arguments.data, "calib_count": arguments.count, **changes}
        return quantise(model, spec, QuantisationRequest("int8", **given))

    gated = quantised(target="cpu")
    every = quantised(target="cpu", max_drop=100.0, method=_one_method(gated))
    tensorrt = quantised(target="tensorrt", max_drop=100.0, method="minmax")
    files = {name: folder / f"{name}.onnx" for name in FLAVOURS}
    _write(model, spec, files["float"])
    _write(form_for_cpu(prepare(model)), spec, files["same_form"])
    for name, outcome in (("every_layer", every), ("gated", gated), ("tensorrt", tensorrt)):
        _write(outcome.model, spec.replace(precision="int8", calibration=outcome.record()), files[name])
    picture = find_pictures(arguments.calib, arguments.count).paths[0]
    times = _times(files, picture, arguments, folder)
    return {
        "network": path.stem,
        "metric": gated.metric,
        "float": round(gated.reference.value, 4),
        "loss_every_layer": round(gated.loss_before, 2),
        "loss_gated": round(gated.loss, 2),
        "holds": gated.holds,
        "method": gated.method,
        "float_layers": [layer.node for layer in gated.float_layers],
        "layers": gated.layers,
        "int8_share": round(gated.int8_share, 4),
        "milliseconds": {name: median([turn[name] for turn in times]) for name in FLAVOURS},
        "times_as_fast": {name: median([turn["float"] / turn[name] for turn in times]) for name in FLAVOURS},
        "layers_share_of_float_time": round(_share_of_layers(files["float"]), 3),
    }


def _one_method(outcome: QuantisationOutcome) -> Any:
    """Return the method that was chosen; ``auto`` is what leads to the one that has no name of its own."""
    return "auto" if outcome.method == "output" else outcome.method


def _write(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stamp_spec(copy, spec)
    write_onnx(copy, path)


def _times(
    files: dict[str, Path], picture: Path, arguments: argparse.Namespace, folder: Path
) -> list[dict[str, float]]:
    """Return for each round the milliseconds of processor time of a run, by flavour."""
    with contextlib.ExitStack() as stack:
        parts = [
            stack.enter_context(Part(name, ["--part", str(path), str(picture)], folder, 1))
            for name, path in files.items()
        ]
        for part in parts:
            part.ask(WARM_UP)
        return [
            {part.name: part.ask(arguments.runs)["milliseconds"] for part in parts} for _ in range(arguments.rounds)
        ]


def _run_part(model: Path, picture: Path) -> None:
    """Be one engine, in a process of its own."""
    keep_to(1)
    detector = edgedet.load(model, threads=1)
    prepared = detector.preprocess([read_image(picture)])
    serve(lambda runs: {"milliseconds": _typical(lambda: detector.infer(prepared), runs)})


def _typical(function: Callable[[], Any], runs: int) -> float:
    """Median milliseconds of processor time of a call."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append((time.process_time() - start) * 1e3)
    return float(np.median(times))


def _share_of_layers(path: Path) -> float:
    """Return the share of an engine's own time that it spends in convolutions and matrix products."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(".profile"))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.zeros([size if isinstance(size, int) else 1 for size in value.shape], _dtype(value.type))
        for value in session.get_inputs()
    }
    for _ in range(PROFILED):
        session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("kernel_time")]
    spent: dict[bool, int] = {True: 0, False: 0}
    for event in kernels:
        spent[any(word in event["args"]["op_name"] for word in ("Conv", "MatMul", "Gemm"))] += event["dur"]
    return spent[True] / max(sum(spent.values()), 1)


def _dtype(kind: str) -> str:
    return {"tensor(float)": "float32", "tensor(uint8)": "uint8"}[kind]


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Points lost; times as fast as the float network", box=None, pad_edge=False)
    table.add_column("network")
    for column in ("float", "lost", "with gate", "in float", "same form", "INT8", "with gate", "TensorRT's", "layers"):
        table.add_column(column, justify="right")
    for row in rows:
        fast = row["times_as_fast"]
        table.add_row(
            row["network"],
            f"{row['float']:.3f}",
            f"{row['loss_every_layer']:.2f}",
            f"{row['loss_gated']:.2f}",
            f"{len(row['float_layers'])} of {row['layers']}",
            *(f"{fast[name]:.2f}" for name in FLAVOURS[1:]),
            f"{row['layers_share_of_float_time']:.0%}",
        )
    show(table)


if __name__ == "__main__":
    main()
