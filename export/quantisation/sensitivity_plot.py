"""The plot of ``edgedet sensitivity``: the most harmful layers, and beside each what it could bring in speed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
from edgedet.export.quantisation.sensitivity_report import LayerCost, SensitivityReport
from edgedet.optional import require

__all__ = ["FORMATS", "SHOWN", "check_plot", "write_plot"]

FORMATS = (".svg", ".png", ".pdf")

SHOWN = 24
"""Layers in the plot; further down they hardly differ."""

_HARM, _FLOAT, _INT8, _MUTED = "#b8443a", "#8a94a0", "#2f6fa8", "#4a4f57"

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,  # a layer may be called "a$b$c"
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": "#c9ced6",
    "xtick.color": _MUTED,
    "ytick.color": "#c9ced6",
    "ytick.labelcolor": "#16191d",
    "grid.color": "#e6e9ed",
    "legend.frameon": False,
}


def check_plot(path: Path) -> None:
    """Refuse at once what could not be drawn in the end.

    Raises:
        SinkError: if the suffix names no format that is written.
        MissingDependencyError: if matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise SinkError(f"a plot that ends in {', '.join(FORMATS)}", f"'{path}'", "Name it layers.svg, for example")
    require("matplotlib.figure", extra="report", purpose="the plot of the layers")


def write_plot(report: SensitivityReport, path: Path, most: int = SHOWN) -> None:
    """Draw the most harmful layers and write them in the format that the suffix names.

    Raises:
        SinkError: if the file cannot be written.
        MissingDependencyError: if matplotlib is not installed.
    """
    check_plot(path)
    matplotlib = require("matplotlib", extra="report", purpose="the plot of the layers")
    shown = report.layers[:most][::-1]
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "sensitivity"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        size = (9.0, 1.4 + 0.2 * max(len(shown), 4))
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained", facecolor="white")
        harm, speed = figure.subplots(1, 2, sharey=True, width_ratios=(1.2, 1.0))
        _draw_harm(harm, report, shown)
        _draw_speed(speed, report, shown)
        harm.set_yticks(range(len(shown)), labels=[_shortened(cost.layer.node) for cost in shown])
        harm.set_ylim(-0.7, max(len(shown), 1) - 0.3)
        date = {"Date": None} if path.suffix.lower() == ".svg" else {}
        with atomic_file(path) as temporary:
            figure.savefig(temporary, metadata=date, dpi=150)


def _draw_harm(axes: Any, report: SensitivityReport, shown: Sequence[LayerCost]) -> None:
    bars = axes.barh(range(len(shown)), [cost.disagreement for cost in shown], color=_HARM, height=0.66)
    if report.metric:
        lost = ["" if cost.loss is None else f"{cost.loss:+.2f}" for cost in shown]
        axes.bar_label(bars, lost, padding=4, color=_MUTED)
        axes.margins(x=0.14)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(
        "Disagreement when it alone is quantised" + (f"; points of {report.metric} lost" if report.metric else "")
    )


def _draw_speed(axes: Any, report: SensitivityReport, shown: Sequence[LayerCost]) -> None:
    rows = range(len(shown))
    if report.int8_run_ms is None:
        bars = axes.barh(rows, [cost.float_ms or 0.0 for cost in shown], color=_FLOAT, height=0.66)
        axes.set_xlabel("CPU time in float32, ms; share of the arithmetic")
    else:
        bars = axes.barh(
            [row + 0.19 for row in rows], [cost.float_ms or 0.0 for cost in shown], color=_FLOAT, height=0.36,
            label="float32",
        )  # fmt: skip
        axes.barh(
            [row - 0.19 for row in rows], [cost.int8_ms or 0.0 for cost in shown], color=_INT8, height=0.36,
            label="INT8",
        )  # fmt: skip
        axes.set_xlabel("CPU time, ms; share of the arithmetic")
        axes.legend(loc="lower right")
    axes.bar_label(bars, [f"{cost.share:.1%}" for cost in shown], padding=4, color=_MUTED)
    axes.margins(x=0.16)
    axes.grid(visible=True, axis="x")


def _shortened(name: str, room: int = 34) -> str:
    """Return the end of a long name, which tells layers apart."""
    return name if len(name) <= room else "\N{HORIZONTAL ELLIPSIS}" + name[1 - room :]
