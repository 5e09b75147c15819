"""What ``edgedet export --int8`` and ``--fp16`` print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgedet.export.quantisation.outcome import QuantisationOutcome
    from edgedet.export.quantisation.report.measure import Measurements

__all__ = ["print_outcome"]

SHOWN = 12

_AGAINST = {"labels": "the labels", "float": "the float network's own answers"}


def print_outcome(outcome: QuantisationOutcome, measured: Measurements | None, console: Console) -> None:
    """Print what quantisation cost and brought, how ranges were chosen, and what stays in float."""
    console.print(_before_and_after(outcome, measured))
    console.print(
        f"Against {_AGAINST[outcome.against]}; at most {outcome.request.max_drop:g} points may be lost", soft_wrap=True
    )
    console.print(_shares(outcome), soft_wrap=True)
    for text in () if measured is None else _measured(measured):
        console.print(escape(text), soft_wrap=True)
    for text in outcome.skipped:
        console.print(f"Skipped: {escape(text)}", soft_wrap=True)
    if outcome.float_layers:
        console.print()
        console.print(_float_layers(outcome))


def _before_and_after(outcome: QuantisationOutcome, measured: Measurements | None) -> Table:
    """Float and quantised network as two rows, with every layer quantised between them where that was not enough."""
    from edgedet.export.quantisation.report.figures import figure_pairs

    pairs = figure_pairs(outcome)[:2]
    names = [*(pair.name for pair in pairs), "Lost, points", "Size", "CPU time of a run"]
    table = Table("", *names, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    unknown = ["", ""]
    costs = (
        (unknown, unknown)
        if measured is None
        else (
            [f"{measured.float_size / 1e6:.2f} MB", f"{measured.latency.float_ms:.1f} ms"],
            [f"{measured.size / 1e6:.2f} MB", f"{measured.latency.quantised_ms:.1f} ms"],
        )
    )
    table.add_row("float", *(_figure(pair.float_value) for pair in pairs), "", *costs[0])
    if len(outcome.trials) > 1:
        first = outcome.trials[0]
        row = [_figure(first.verdict.value), *[""] * (len(pairs) - 1), f"{first.loss:.2f}"]
        table.add_row("every layer quantised", *row)
    style = "bold" if outcome.holds else "bold red"
    row = [*(_figure(pair.quantised_value) for pair in pairs), f"{outcome.loss:.2f}", *costs[1]]
    table.add_row(outcome.request.precision, *row, style=style)
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _measured(measured: Measurements) -> Iterator[str]:
    latency = measured.latency
    yield (f"CPU times: median of {latency.turns} turns of both, {latency.engine}, one thread, {latency.processor}")
    if measured.builder is not None:
        builder = measured.builder
        yield (
            f"TensorRT-RTX {builder.version} builds {builder.share:.1%} of the multiply-accumulates into INT8 kernels "
            f"({builder.int8_kernels} of {builder.kernels}), for {builder.target}"
        )


def _shares(outcome: QuantisationOutcome) -> str:
    """Say how much of the arithmetic is in which type, and what that was decided on."""
    if outcome.request.precision == "float16":
        return (
            f"{outcome.float16_share:.1%} of the multiply-accumulates in FP16; values measured on {outcome.pictures} "
            "pictures"
        )
    rest = " and the rest in FP16" if outcome.float16_share else ""
    return (
        f"{outcome.int8_share:.1%} of the multiply-accumulates in INT8{rest}, for {outcome.request.target}; ranges by "
        f"{outcome.method} from {outcome.pictures} pictures"
    )


def _float_layers(outcome: QuantisationOutcome) -> Table:
    table = Table("In float", "Operator", "Share", "Why", box=None, pad_edge=False, header_style="bold")
    table.columns[2].justify = "right"
    for layer in outcome.float_layers[:SHOWN]:
        table.add_row(escape(layer.node), layer.operator, f"{layer.share:.2%}", escape(layer.reason))
    if len(outcome.float_layers) > SHOWN:
        table.add_row(f"and {len(outcome.float_layers) - SHOWN} more (see --report)")
    return table
