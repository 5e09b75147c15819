"""What ``edgedet export --int8`` and ``edgedet sensitivity`` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgedet.export.quantisation.outcome import QuantisationOutcome
    from edgedet.export.quantisation.sensitivity import LayerHarm

__all__ = ["print_outcome", "print_ranking"]

SHOWN = 12

_AGAINST = {"labels": "the labels", "float": "the float network's own answers"}


def print_outcome(outcome: QuantisationOutcome, console: Console) -> None:
    """Print what quantisation cost, how ranges were chosen, and what stays in float."""
    table = Table("", outcome.metric, "Lost, points", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("float", f"{outcome.reference.value:.4f}", "")
    if len(outcome.trials) > 1:
        first = outcome.trials[0]
        table.add_row("every layer quantised", f"{first.verdict.value:.4f}", f"{first.loss:.2f}")
    style = "bold" if outcome.holds else "bold red"
    table.add_row(outcome.request.precision, f"{outcome.verdict.value:.4f}", f"{outcome.loss:.2f}", style=style)
    console.print(table)
    console.print(
        f"Against {_AGAINST[outcome.against]}; at most {outcome.request.max_drop:g} points may be lost", soft_wrap=True
    )
    console.print(_shares(outcome), soft_wrap=True)
    for text in outcome.skipped:
        console.print(f"Skipped: {escape(text)}", soft_wrap=True)
    if outcome.float_layers:
        console.print()
        console.print(_float_layers(outcome))


def print_ranking(ranking: Sequence[LayerHarm], console: Console, limit: int | None = None) -> None:
    """Print layers with what each costs alone, the most harmful first."""
    total = max(sum(found.layer.multiply_accumulates for found in ranking), 1)
    table = Table("Layer", "Operator", "Share", "Disagreement", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for found in ranking[:limit]:
        share = found.layer.multiply_accumulates / total
        table.add_row(escape(found.layer.node), found.layer.operator, f"{share:.2%}", f"{found.harm:.4f}")
    console.print(table)


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
