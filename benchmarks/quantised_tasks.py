"""What lower precision costs each kind of network: every example of `examples/models`, or ONNX files of one's own.

For each network and each way (INT8 for TensorRT, INT8 for the CPU, FP16): points of the task's metric that are lost
with every layer in it, and behind the accuracy gate; the layers that stay in float; the share of the
multiply-accumulates in lower precision; and for TensorRT, where the extra `rtx` is installed, whether its RTX builder
takes the network, and the share in INT8 by its own listing.

    python benchmarks/quantised_tasks.py                                 every example
    python benchmarks/quantised_tasks.py fcn mask_rcnn                   these
    python benchmarks/quantised_tasks.py deeplab.onnx --calib DIR --data LABELLED

Examples are calibrated on the pictures of `examples/digits` or `examples/scenes` and scored on freshly drawn ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from quantisers.arithmetic import listed_in_int8, share
from report import environment, show, write_report
from rich.progress import track
from rich.table import Table

import edgedet
from edgedet.errors import EdgedetError
from edgedet.export.onnx_file import load_onnx
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
WAYS: dict[str, dict[str, Any]] = {
    "INT8": {"precision": "int8"},
    "INT8, CPU": {"precision": "int8", "target": "cpu"},
    "FP16": {"precision": "float16"},
}
"""Name -> fields of the request."""

SLOW = ("rcnn", "rcnn_svm")
"""Networks that look at hundreds of crops of a picture."""


@dataclass(frozen=True)
class Case:
    """A network, its calibration pictures and its labelled ones."""

    name: str
    network: Path
    calib: Path
    data: Path
    calib_count: int


def main() -> None:
    """Bring every network to every precision and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names of examples, or ONNX files that edgedet exported")
    parser.add_argument("--calib", type=Path, help="calibration pictures of ONNX files")
    parser.add_argument("--data", type=Path, help="labelled pictures for ONNX files")
    parser.add_argument("--count", type=int, default=64, help="pictures to score on; a quarter of them for R-CNN")
    parser.add_argument("--calib-count", type=int, default=24, help="calibration pictures; half of them for R-CNN")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which precisions")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        chosen = arguments.networks or sorted(path.stem for path in (EXAMPLES / "models").glob("*.pt"))
        cases = [_case(text, arguments, Path(name)) for text in chosen]
        pairs = [(case, way) for case in cases for way in arguments.ways]
        rows = [_measure(case, way, Path(name)) for case, way in track(pairs, "networks", transient=True)]
    _print(rows)
    write_report(arguments.json, {"environment": environment(2), "rows": rows})


def _case(text: str, arguments: argparse.Namespace, folder: Path) -> Case:
    if text.endswith(".onnx"):
        if arguments.calib is None or arguments.data is None:
            raise SystemExit(f"'{text}' needs --calib and --data")
        return Case(Path(text).stem, Path(text), arguments.calib, arguments.data, arguments.calib_count)
    network = folder / f"{text}.onnx"
    edgedet.export_model(EXAMPLES / "models" / f"{text}.pt", network)
    count, calib_count = arguments.count, arguments.calib_count
    if text in SLOW:
        count, calib_count = -(-count // 4), max(calib_count // 2, 8)
    calib, data = _pictures(text, count, calib_count, folder)
    return Case(text, network, calib, data, calib_count)


def _pictures(name: str, count: int, calib_count: int, folder: Path) -> tuple[Path, Path]:
    """Return the calibration pictures for an example, and a folder with fresh ones and their labels."""
    digits = str(EXAMPLES / "digits")
    if digits not in sys.path:
        sys.path.insert(0, digits)
    from dataset import make_pictures, write_dataset
    from labelled_sets import LABELLED_SETS, SINGLE_DIGIT
    from networks import recipe

    kind = recipe(name).pictures
    data, calib = folder / f"{kind}-{count}", folder / f"{kind}-calibration"
    if not data.exists():
        LABELLED_SETS[kind](data, count)
    if kind != "single_digits":
        return EXAMPLES / kind / "images", data
    if not calib.exists():
        write_dataset(make_pictures(SINGLE_DIGIT, "held_out", 0, calib_count), "held_out", calib)
    return calib / "images", data


def _measure(case: Case, way: str, folder: Path) -> dict[str, Any]:
    model = load_onnx(case.network)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    row: dict[str, Any] = {"network": case.name, "task": spec.task, "way": way}
    fields = WAYS[way]
    request = QuantisationRequest(calib=case.calib, data=case.data, calib_count=case.calib_count, **fields)
    try:
        outcome = quantise(model, spec, request)
    except EdgedetError as error:
        return {**row, "failed": str(error)}
    return {
        **row,
        "metric": outcome.metric,
        "float": round(outcome.reference.value, 4),
        "pictures": outcome.reference.scores.images,
        "loss_every_layer": round(outcome.loss_before, 2),
        "loss_gated": round(outcome.loss, 2),
        "holds": outcome.holds,
        "in_float": len(outcome.float_layers),
        "layers": outcome.layers,
        "share": round(outcome.float16_share if request.precision == "float16" else outcome.int8_share, 4),
        "rtx": _in_rtx(outcome.model, folder) if request.target == "tensorrt" else None,
        "float_scores": outcome.reference.scores.to_json(),
        "scores": outcome.verdict.scores.to_json(),
    }


def _in_rtx(model: onnx.ModelProto, folder: Path) -> float | str | None:
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        return None
    listed = listed_in_int8(model, folder)
    return listed if isinstance(listed, str) else share(model, listed)


def _print(rows: list[dict[str, Any]]) -> None:
    heads = ("network", "way", "pictures", "float", "every layer", "gated", "in float", "share", "by RTX")
    table = Table(*heads, box=None, header_style="bold")
    for row in rows:
        cells = (row["failed"][:60],) if "failed" in row else _cells(row)
        table.add_row(row["network"], row["way"], *cells)
    show(table)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    rtx = row["rtx"]
    return (
        str(row["pictures"]),
        f"{row['float']:.3f} {row['metric']}",
        f"{row['loss_every_layer']:.2f}",
        f"{row['loss_gated']:.2f}" + ("" if row["holds"] else " (fails)"),
        f"{row['in_float']} of {row['layers']}",
        f"{row['share']:.1%}",
        ""
        if rtx is None
        else "refused"
        if isinstance(rtx, str)
        else "builds"
        if row["way"] == "FP16"
        else f"{rtx:.1%}",
    )


if __name__ == "__main__":
    main()
