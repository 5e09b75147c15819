"""What INT8 costs: edgedet's quantisation with and without its gate, beside ONNX Runtime's own with its defaults.

For each network: the metric in float; points lost when every layer is quantised, with ranges by min-max and with those
that edgedet chooses; points lost behind the accuracy gate, and what stays in float; the share of the
multiply-accumulates in INT8, as placed and, where the extra `rtx` is installed, as the TensorRT-RTX builder's own
listing has it; and points lost by onnxruntime.quantization.quantize_static with its defaults on the same pictures.

    python benchmarks/quantisation.py --calib coco/train/images --data coco/val yolox_nano.onnx picodet.onnx

Networks are ONNX files that edgedet exported. Without any, it is the digit detector on its own 48 pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from report import environment, show, write_report
from rich.progress import track
from rich.table import Table

import edgedet
from edgedet.export.engine.layers import LayerPrecision
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import build_engine
from edgedet.export.onnx_file import load_onnx, stamp_spec, write_onnx
from edgedet.export.quantisation.calibration import find_pictures, read_batches
from edgedet.export.quantisation.graph import index_graph, prepare
from edgedet.export.quantisation.judge import Judge, Verdict, labelled_judge
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.placement import find_layers
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Quantise every network in every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, help="ONNX files that edgedet exported")
    parser.add_argument("--calib", type=Path, default=ROOT / "examples/digits/images", help="calibration pictures")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/digits", help="labelled pictures")
    parser.add_argument("--count", type=int, default=32, help="calibration pictures")
    parser.add_argument("--target", choices=["tensorrt", "cpu"], default="tensorrt", help="what Q/DQ are placed for")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        networks = arguments.networks or [_digits(Path(name))]
        rows = [_measure(path, arguments, Path(name)) for path in track(networks, "networks", transient=True)]
    _print(rows)
    write_report(arguments.json, {"environment": environment(2), "networks": rows})


def _digits(folder: Path) -> Path:
    edgedet.export_model(ROOT / "examples/models/digits.pt", folder / "digits.onnx")
    return folder / "digits.onnx"


def _measure(path: Path, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    model = load_onnx(path)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    gated = _quantised(model, spec, arguments)
    judge = labelled_judge(spec, arguments.data)
    return {
        "network": path.stem,
        "metric": gated.metric,
        "float": round(gated.reference.value, 4),
        "loss_minmax": round(_quantised(model, spec, arguments, method="minmax", max_drop=100.0).loss, 2),
        "loss_chosen_ranges": round(gated.loss_before, 2),
        "loss_gated": round(gated.loss, 2),
        "holds": gated.holds,
        "method": gated.method,
        "float_layers": [layer.node for layer in gated.float_layers],
        "layers": gated.layers,
        "int8_share": round(gated.int8_share, 4),
        "int8_share_rtx": _share_in_rtx(gated, spec, folder),
        "loss_onnxruntime": _loss_of_onnxruntime(path, spec, judge, gated.reference, arguments, folder),
    }


def _quantised(
    model: onnx.ModelProto,
    spec: ModelSpec,
    arguments: argparse.Namespace,
    **changes: Any,
) -> QuantisationOutcome:
    request = QuantisationRequest(
        "int8",
        calib=arguments.calib,
        data=arguments.data,
        calib_count=arguments.count,
        target=arguments.target,
        **changes,
    )
    return quantise(model, spec, request)


def _share_in_rtx(outcome: QuantisationOutcome, spec: ModelSpec, folder: Path) -> float | None:
    """Return the share of the multiply-accumulates in the builder's INT8 kernels."""
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None or outcome.request.target != "tensorrt":
        return None
    path = folder / "quantised.onnx"
    stamp_spec(outcome.model, spec)
    write_onnx(outcome.model, path)
    kernels = build_engine(path, EngineOptions("rtx", targets=("sm_86",))).layers
    layers = {
        layer.node: layer.multiply_accumulates for layer in find_layers(index_graph(prepare(outcome.float_model)))
    }
    in_int8 = {node for kernel in kernels if _is_int8(kernel) for node in kernel.nodes}
    return round(sum(layers[node] for node in layers if node in in_int8) / sum(layers.values()), 4)


def _is_int8(kernel: LayerPrecision) -> bool:
    return kernel.is_product and kernel.is_int8


class _Reader:
    """The calibration pictures in the form that onnxruntime.quantization asks for."""

    def __init__(self, spec: ModelSpec, paths: tuple[Path, ...]) -> None:
        self._name = spec.input.name
        self._tensors = iter(read_batches(spec, paths))

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next input, or None at the end."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def _loss_of_onnxruntime(
    path: Path,
    spec: ModelSpec,
    judge: Judge,
    reference: Verdict,
    arguments: argparse.Namespace,
    folder: Path,
) -> float:
    from onnxruntime.quantization import quantize_static

    target, paths = folder / "onnxruntime.onnx", find_pictures(arguments.calib, arguments.count).paths
    source = folder / "prepared.onnx"
    write_onnx(prepare(load_onnx(path)), source)
    quantize_static(source, target, _Reader(spec, paths))
    return round(judge(onnx.load(target)).loss(reference), 2)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(
        "network",
        "float",
        "min-max",
        "chosen ranges",
        "with the gate",
        "in float",
        "INT8",
        "INT8 in RTX",
        "onnxruntime",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for row in rows:
        rtx = row["int8_share_rtx"]
        table.add_row(
            row["network"],
            f"{row['float']:.3f} {row['metric']}",
            *(f"{row[name]:.2f}" for name in ("loss_minmax", "loss_chosen_ranges", "loss_gated")),
            f"{len(row['float_layers'])} of {row['layers']}",
            f"{row['int8_share']:.1%}",
            "" if rtx is None else f"{rtx:.1%}",
            f"{row['loss_onnxruntime']:.2f}",
        )
    show(table)


if __name__ == "__main__":
    main()
