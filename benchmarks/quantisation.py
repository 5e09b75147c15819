r"""What INT8 costs: edgedet's quantisation with and without its gate, beside other tools on the same pictures.

For each network and tool: points of the metric that are lost; how far the answers are from the float network's (see
`edgedet.export.quantisation.judge.disagreement`), which tells tools apart where 64 pictures leave the metric's last
point to chance; the products (convolutions, matrix products) left in float; and the share of the multiply-accumulates
in INT8, as placed and, where the extra `rtx` is installed, by the TensorRT-RTX builder's own listing. Where a tool
leaves products in float, edgedet is shown with the same ones in float as well. Everybody's network is judged with its
Q/DQ computed as they stand.

    python benchmarks/quantisation.py --calib coco/train/images --data coco/val yolox_nano.onnx picodet.onnx \
        --python nncf=ENVIRONMENT/bin/python --python modelopt=ENVIRONMENT/bin/python

Networks are ONNX files that edgedet exported. Without any, it is the digit detector, calibrated on its own 48 pictures
and scored on them. Tools that are not installed are left out; `quantisers/` has a file for each.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from quantisers.arithmetic import listed_in_int8, placed_in_int8, share
from quantisers.rivals import RIVALS, RivalError, save_feeds
from report import environment, show, write_report
from rich.progress import track
from rich.table import Table

import edgedet
from edgedet.export.onnx_file import load_onnx
from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.feeding import detector_on
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.judge import SELECTION, Answer, Judge, disagreement, labelled_judge
from edgedet.export.quantisation.quantise import quantise
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import read_image
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

ROOT = Path(__file__).resolve().parent.parent
MAX_DROP = 1.0
EVERYTHING = 100.0
"""Points that may be lost where no layer is to return to float."""


def main() -> None:
    """Quantise every network in every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, help="ONNX files that edgedet exported")
    parser.add_argument("--calib", type=Path, default=ROOT / "examples/digits/images", help="calibration pictures")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/digits", help="labelled pictures")
    parser.add_argument("--count", type=int, default=32, help="calibration pictures")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PACKAGE=PYTHON", help="interpreter that has a tool"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    arguments = parser.parse_args()
    interpreters = dict(text.split("=", 1) for text in arguments.python)
    with tempfile.TemporaryDirectory() as name:
        networks = arguments.networks or [_digits(Path(name))]
        rows = [
            _measure(path, arguments, interpreters, Path(name)) for path in track(networks, "networks", transient=True)
        ]
    _print(rows)
    write_report(arguments.json, {"environment": environment(2), "networks": rows})


def _digits(folder: Path) -> Path:
    edgedet.export_model(ROOT / "examples/models/digits.pt", folder / "digits.onnx")
    return folder / "digits.onnx"


@dataclass(frozen=True, eq=False)
class _Examination:
    """The float network's answers and metric on the labelled pictures."""

    judge: Judge
    labels: list[Any]
    answers: list[Answer]
    value: float
    folder: Path

    @classmethod
    def of(cls, model: onnx.ModelProto, judge: Judge, folder: Path) -> _Examination:
        labels = []
        for path, sized in judge.labels:
            height, width = read_image(path).shape[:2]
            labels.append(sized(width, height))
        answers = _answers(judge, model)
        return cls(judge, labels, answers, _score(judge, labels, answers), folder)

    def __call__(self, model: onnx.ModelProto) -> dict[str, Any]:
        """Return everything about a quantised network."""
        answers = _answers(self.judge, model)
        placed = placed_in_int8(model)
        rtx = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
        listed = listed_in_int8(model, self.folder) if rtx else None
        taken = listed if isinstance(listed, dict) else placed
        return {
            "loss": round(100 * (self.value - _score(self.judge, self.labels, answers)), 2),
            "disagreement": round(disagreement(self.answers, answers), 4),
            "in_float": [node for node, is_int8 in taken.items() if not is_int8],
            "products": len(placed),
            "share": share(model, placed),
            "share_rtx": share(model, listed) if isinstance(listed, dict) else listed,
        }


def _answers(judge: Judge, model: onnx.ModelProto) -> list[Answer]:
    # As they stand, whoever wrote them: integer kernels round otherwise.
    engine = OnnxRuntimeEngine(model.SerializeToString(), config={"session.disable_quant_qdq": "1"})
    engine.select_outputs([output.name for output in judge.spec.outputs])
    with detector_on(judge.spec, engine, SELECTION) as detector:
        return [detector(read_image(path)) for path, _ in judge.labels]


def _score(judge: Judge, labels: list[Any], answers: list[Answer]) -> float:
    scores = judge.scoring.score(zip(labels, answers, strict=True), judge.classes, SELECTION.max_detections)
    return judge.scoring.headline(scores)


def _measure(
    path: Path, arguments: argparse.Namespace, interpreters: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    model = load_onnx(path)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    prepared = prepare(model)
    examine = _Examination.of(prepared, labelled_judge(spec, arguments.data), folder)
    tools = [*_ours(model, spec, arguments, examine)]
    place = Path(tempfile.mkdtemp(dir=folder))
    source, feeds = place / "float.onnx", place / "feeds"
    feeds.mkdir()
    onnx.save(prepared, source)
    save_feeds(prepared, spec, find_pictures(arguments.calib, arguments.count).paths, feeds)
    for rival in RIVALS:
        try:
            tools.append({"tool": rival.name, **examine(rival.quantise(source, feeds, place, interpreters))})
        except RivalError as error:
            tools.append({"tool": rival.name, "failed": str(error)})
            continue
        if tools[-1]["in_float"]:
            kept = tuple(glob.escape(node) for node in tools[-1]["in_float"])
            outcome = quantise(model, spec, _request(arguments, EVERYTHING, kept))
            tools.append({"tool": f"edgedet, {rival.name}'s layers", **examine(outcome.model)})
    return {
        "network": path.stem,
        "metric": examine.judge.metric,
        "float": round(examine.value, 4),
        "pictures": len(examine.labels),
        "tools": tools,
    }


def _ours(
    model: onnx.ModelProto, spec: ModelSpec, arguments: argparse.Namespace, examine: _Examination
) -> Iterator[dict[str, Any]]:
    for tool, limit in (("edgedet, every layer", EVERYTHING), ("edgedet", MAX_DROP)):
        outcome = quantise(model, spec, _request(arguments, limit))
        found = {**examine(outcome.model), "method": outcome.method, "holds": outcome.loss <= MAX_DROP}
        yield {"tool": tool, **found}
        if found["holds"]:
            yield from () if tool == "edgedet" else ({"tool": "edgedet", **found},)
            return


def _request(arguments: argparse.Namespace, max_drop: float, keep_float: tuple[str, ...] = ()) -> QuantisationRequest:
    return QuantisationRequest(
        "int8",
        calib=arguments.calib,
        data=arguments.data,
        calib_count=arguments.count,
        max_drop=max_drop,
        keep_float=keep_float,
    )


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table("network", "tool", "lost", "apart", "in float", "INT8", "INT8 in RTX", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["network"], f"float: {row['float']:.3f} {row['metric']}")
        for tool in row["tools"]:
            table.add_row("", tool["tool"], *(_cells(tool) if "failed" not in tool else (tool["failed"][:60],)))
    show(table)


def _cells(tool: dict[str, Any]) -> list[str]:
    rtx = tool["share_rtx"]
    return [
        f"{tool['loss']:.2f}",
        f"{tool['disagreement']:.3f}",
        f"{len(tool['in_float'])} of {tool['products']}",
        f"{tool['share']:.1%}",
        "" if rtx is None else "refused" if isinstance(rtx, str) else f"{rtx:.1%}",
    ]


if __name__ == "__main__":
    main()
