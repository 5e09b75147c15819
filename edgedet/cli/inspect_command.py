"""``edgedet inspect``: what a model file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgedet.export.inspection import Inspection
    from edgedet.model_spec import ModelSpec, ProposalSpec, TensorSpec

__all__ = ["command"]

_LONGEST_LIST = 12


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables")
def command(model: Path, as_json: bool) -> None:
    """Show the spec, tensors, head, precision, size and operators of an ONNX MODEL.

    Works on any ONNX file; where it carries no spec, the families that fit are listed.
    """
    from edgedet.export.inspection import inspect_model

    found = inspect_model(model)
    if as_json:
        click.echo(json.dumps(_to_json(found), indent=2))
    else:
        _print(found)


def _to_json(found: Inspection) -> dict[str, Any]:
    from edgedet.schema import to_json

    value: dict[str, Any] = to_json(found)
    value["path"] = str(found.path)
    value["spec"] = None if found.spec is None else _show_arrays(found.spec.to_json())
    return value


def _show_arrays(value: Any) -> Any:
    """Replace packed arrays by their type and shape: the numbers say nothing to a reader and are long."""
    if isinstance(value, Mapping):
        if set(value) == {"shape", "float32"}:
            return f"float32 {_shape(value['shape'])}"
        return {key: _show_arrays(item) for key, item in value.items()}
    return [_show_arrays(item) for item in value] if isinstance(value, list) else value


def _print(found: Inspection) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    sections = [("File", _file(found))]
    if found.spec is not None:
        sections.append(("Spec", _spec(found.spec)))
        if found.spec.calibration is not None:
            sections.append(("Quantisation", _quantisation(found.spec.calibration)))
    sections += [("Inputs", _tensors(found.inputs)), ("Outputs", _tensors(found.outputs))]
    sections += [("Operators", ((name, str(count)) for name, count in found.operators.items()))]
    if found.tensorrt_refuses:
        sections.append(("TensorRT refuses", _refused(found)))
    names = max(len(name) for name in found.operators) if found.operators else 12
    for title, rows in sections:
        table = Table(
            box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold"
        )
        table.add_column(no_wrap=True, min_width=max(14, names))
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(escape(name), escape(value))
        console.print(table)
        console.print()
    console.print(escape(_next(found)), soft_wrap=True)


def _file(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "Path", f"'{found.path}'"
    yield "Size", f"{found.size / 1e6:.2f} MB"
    yield "SHA-256", found.sha256
    yield "Written by", f"{found.producer}, ONNX IR {found.ir_version}"
    yield "Operator sets", ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    yield "Precision", found.precision
    parameters = ", ".join(f"{count:,} {dtype}" for dtype, count in found.parameters.items())
    yield "Parameters", parameters or "none"
    arithmetic = found.arithmetic
    unknown = f", {len(arithmetic.not_counted)} nodes of unknown shape not counted" if arithmetic.not_counted else ""
    yield "Arithmetic", f"{arithmetic.multiply_accumulates / 1e9:.3f} G multiply-accumulates a picture{unknown}"
    if arithmetic.in_int8:
        share = arithmetic.in_int8 / arithmetic.multiply_accumulates
        layers = f"{arithmetic.nodes_in_int8} of {arithmetic.counted} convolutions and matrix products"
        yield "  in INT8", f"{share:.1%}: {layers}"


def _spec(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    yield "Name", spec.name
    yield "Task", spec.task
    yield "Head", spec.head.name
    for key, value in _show_arrays(dict(spec.head.parameters)).items():
        yield f"  {key}", _short(value)
    image = spec.input
    batch = "any batch" if image.batch is None else f"batch {image.batch}"
    free = f", other multiples of {image.size_multiple} too" if image.dynamic_size else ""
    yield "Input", f"{image.width}x{image.height}{free}, {batch}, {image.layout} {image.channels} {image.dtype}"
    yield "  normalise", f"(pixel - {list(image.mean)}) / {list(image.std)}"
    pad = f", pad {image.pad_value}, {image.pad_position}" if image.resize == "letterbox" else ""
    area = ", areas averaged where it shrinks to less than half" if image.downscale == "area" else ""
    yield "  resize", image.resize + pad + area
    if spec.proposals is not None:
        yield "Proposals", _proposals(spec.proposals)
        for key, value in spec.proposals.parameters.items():
            yield f"  {key}", _short(value)
    yield "Classes", f"{len(spec.class_names)}: {_short(list(spec.class_names))}"
    yield "Family", spec.family or "unknown"
    yield "Precision", spec.precision
    yield "Source SHA-256", spec.source_sha256 or "unknown"


_ENGINES = {"tensorrt": "TensorRT", "cpu": "ONNX Runtime on a CPU"}
_AGAINST = {"labels": "the labels", "float": "the float network's own answers"}


def _quantisation(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what the exporter recorded; entries that it does not write are shown as they are."""
    left = dict(record)

    def take(*names: str) -> list[Any] | None:
        return [left.pop(name) for name in names] if all(name in left for name in names) else None

    if known := take("metric", "against", "float", "quantised", "loss", "max_drop"):
        metric, against, before, after, loss, limit = known
        change = f"{_known(loss, '.2f')} points of {metric}, {_known(before, '.4f')} to {_known(after, '.4f')}"
        yield "Lost", f"{change}; at most {limit:g} were allowed"
        yield "Scored against", _AGAINST.get(against, str(against))
    if known := take("int8_share", "float16_share"):
        in_int8, in_half = known
        if not in_int8:
            yield "Arithmetic", f"{in_half:.1%} in FP16"
        else:
            yield "Arithmetic", f"{in_int8:.1%} in INT8" + (f", {in_half:.1%} of the rest in FP16" if in_half else "")
    if known := take("float_layers"):
        yield "Layers in float", f"{len(known[0])}: {_short(known[0])}" if known[0] else "none"
    if known := take("target"):
        yield "Made for", _ENGINES.get(known[0], str(known[0]))
    if known := take("method", "pictures"):
        yield "Ranges by", f"{known[0]}, from {known[1]} pictures"
    for name, value in left.items():
        yield name, _short(value)


def _known(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _proposals(proposals: ProposalSpec) -> str:
    most = f"{proposals.method}, at most {proposals.count} a picture"
    if proposals.feed == "boxes":
        return f"{most}, as boxes in the input '{proposals.tensor}'"
    context = f" with {proposals.context} pixels of context" if proposals.context else ""
    return f"{most}, warped to crops{context}"


def _refused(found: Inspection) -> Iterator[tuple[str, str]]:
    from edgedet.export.rewrite import summarise

    for refusal in summarise(found.tensorrt_refuses):
        yield refusal.operator, f"{refusal.node} {refusal.reason}: {refusal.action}"


def _tensors(tensors: Sequence[TensorSpec]) -> Iterator[tuple[str, str]]:
    for tensor in tensors:
        yield tensor.name, f"{tensor.dtype} {_shape(tensor.shape)}"


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join("?" if size == -1 else str(size) for size in shape) + "]"


def _short(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value[:_LONGEST_LIST]) + (", ..." if len(value) > _LONGEST_LIST else "")
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        return f"{len(value)} values: {json.dumps(value[:3])[:-1]}, ...]"
    return value if isinstance(value, str) else json.dumps(value)


def _next(found: Inspection) -> str:
    if found.spec is not None:
        return f"Next: edgedet run '{found.path}' --source PICTURE"
    if found.spec_error is not None:
        return f"The spec in the metadata cannot be read: {found.spec_error}"
    export = f"edgedet export '{found.path}' -o OUT.onnx"
    if len(found.recognised_by) == 1:
        return f"No spec in the metadata; the family {found.recognised_by[0]} recognises it\nNext: {export}"
    if found.fits:
        return f"No spec in the metadata; families that fit: {', '.join(found.fits)}\nNext: {export} --family NAME"
    return f"No spec in the metadata, and no family fits\nNext: {export} --spec FILE.json, with a head named in it"
