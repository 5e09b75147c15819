"""What ``edgedet sensitivity`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgedet.export.quantisation.sensitivity_report import SensitivityReport

__all__ = ["print_sensitivity"]


def print_sensitivity(report: SensitivityReport, console: Console, limit: int | None = None) -> None:
    """Print layers with what each costs alone and what it takes, the most harmful first."""
    scored, integers = bool(report.metric), report.int8_run_ms is not None
    names = ["Apart", *(["Points lost"] if scored else []), "Share", "Float, ms"]
    names += ["INT8, ms"] if integers else []
    table = Table("Layer", "Operator", *names, box=None, pad_edge=False, header_style="bold")
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for cost in report.layers[:limit]:
        row = [f"{cost.disagreement:.4f}", *([_figure(cost.loss, 2)] if scored else []), f"{cost.share:.2%}"]
        row += [_figure(cost.float_ms, 3), *([_figure(cost.int8_ms, 3)] if integers else [])]
        table.add_row(escape(cost.layer.node), cost.layer.operator, *row)
    console.print(table)
    console.print()
    for text in _sensitivity_notes(report):
        console.print(escape(text), soft_wrap=True)


def _sensitivity_notes(report: SensitivityReport) -> Iterator[str]:
    yield (
        f"Ranges by {report.method} from {report.pictures} pictures, for {report.target}; answers compared on "
        f"{report.compared} of them"
    )
    if report.reference is not None:
        yield f"The float network reaches {report.metric} {report.reference:.4f} on the labels"
    whole = f"A whole run takes {report.float_run_ms:.1f} ms in float32"
    if report.int8_run_ms is None:
        yield (
            f"{whole} on one thread of this CPU; these times do not carry over to TensorRT on a GPU, where the share "
            "of the arithmetic is the better guide"
        )
    else:
        yield f"{whole} and {report.int8_run_ms:.1f} ms with every layer in INT8, on one thread of this CPU"
    for layer in report.float_layers:
        yield f"Always in float: {layer.node} ({layer.operator}), {layer.reason}"
    yield from (f"Note: {text}" for text in report.notes)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
