"""The plots of the report as SVG for the inside of a page: text stays text, and colours are the page's variables.

matplotlib (extra ``report``) writes every colour as a number; those that `_INK` lists are replaced by CSS variables, so
that one drawing serves a light page and a dark one.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedet.export.quantisation.gate import Trial
from edgedet.export.quantisation.report.figures import FigurePair
from edgedet.optional import require

__all__ = ["load_matplotlib", "plot_classes", "plot_methods", "plot_trials"]

MOST_CLASSES = 20

_INK: Mapping[str, str] = {
    "ink": "#010203",
    "muted": "#020304",
    "grid": "#030405",
    "float": "#040506",
    "quantised": "#050607",
    "limit": "#060708",
    "page": "#070809",
}
"""CSS variable -> the colour that stands for it while matplotlib draws."""

_VARIABLES = {colour: f"var(--{variable})" for variable, colour in _INK.items()}

_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called "a$b$c"
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK["ink"],
    "axes.labelcolor": _INK["muted"],
    "axes.edgecolor": _INK["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _INK["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": _INK["grid"],
    "ytick.color": _INK["grid"],
    "xtick.labelcolor": _INK["muted"],
    "ytick.labelcolor": _INK["ink"],
    "legend.frameon": False,
}

_WIDTH = 5.6
"""Inches; a page scales the drawing to its own width."""


def load_matplotlib() -> Any:
    """Import matplotlib.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    require("matplotlib.figure", extra="report", purpose="the plots of the HTML report")
    return require("matplotlib", extra="report", purpose="the plots of the HTML report")


def plot_trials(trials: Sequence[Trial], limit: float, kind: str) -> str:
    """Draw what was lost against how many layers were in float, with the share of the arithmetic that was not.

    Args:
        trials: what the accuracy gate tried; two or more.
        limit: points that may be lost.
        kind: what a quantised layer computes in (``INT8``, ``FP16``).
    """
    known = sorted((trial for trial in trials if math.isfinite(trial.loss)), key=lambda trial: trial.returned)

    def draw(axes: Any) -> None:
        counts, losses = [trial.returned for trial in known], [trial.loss for trial in known]
        axes.axhline(limit, color=_INK["limit"], linewidth=1.4, linestyle=(0, (4, 3)))
        axes.annotate(
            f"limit {limit:g}", (1, limit), (0, 4), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", color=_INK["limit"],
        )  # fmt: skip
        axes.plot(counts, losses, color=_INK["quantised"], linewidth=1.6)
        for passed, marker in ((True, "o"), (False, "X")):
            points = [(x, y) for x, y in zip(counts, losses, strict=True) if (y <= limit) is passed]
            axes.plot(
                [x for x, _ in points], [y for _, y in points], marker, color=_INK["quantised"],
                markeredgecolor=_INK["page"], markersize=8, label="within the limit" if passed else "over the limit",
            )  # fmt: skip
        if max(losses, default=0.0) > 10 * max(limit, 0.1):
            axes.set_yscale("symlog", linthresh=max(limit, 0.1))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.margins(x=0.08, y=0.16)
        axes.set_xticks(*_spaced_ticks(known, kind))
        axes.set_xlabel(f"Layers returned to float, arithmetic left in {kind}")
        axes.set_ylabel("Points lost")
        _legend(axes)

    return _svg("trials", 3.1, draw)


def plot_classes(losses: Sequence[FigurePair], metric: str) -> str:
    """Draw the classes that changed most: float and quantised figure of each, joined by a line.

    Args:
        losses: the classes, in any order; those without both figures are left out.
        metric: name of the figure.
    """
    known = sorted((item for item in losses if item.loss is not None), key=lambda item: -abs(item.loss or 0.0))
    shown = sorted(known[:MOST_CLASSES], key=lambda item: item.loss or 0.0)

    def draw(axes: Any) -> None:
        rows = range(len(shown))
        before, after = [item.float_value for item in shown], [item.quantised_value for item in shown]
        axes.hlines(rows, before, after, color=_INK["muted"], linewidth=1.6)
        axes.plot(before, rows, "o", color=_INK["float"], markersize=7, label="float")
        axes.plot(
            after, rows, "D", color=_INK["quantised"], markeredgecolor=_INK["page"], markersize=6.5, label="quantised"
        )
        axes.set_yticks(rows, labels=[_shortened(item.name) for item in shown])
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(metric)
        _legend(axes)

    return _svg("classes", 1.2 + 0.28 * max(len(shown), 2), draw)


def plot_methods(methods: Mapping[str, float], chosen: str) -> str:
    """Draw how far each way to choose ranges moves the answers, with every layer quantised.

    Args:
        methods: name -> disagreement with the float network, 0..1.
        chosen: the one that was taken.
    """
    ordered = sorted(methods, key=lambda name: -methods[name])

    def draw(axes: Any) -> None:
        colours = [_INK["quantised"] if name == chosen else _INK["muted"] for name in ordered]
        bars = axes.barh(range(len(ordered)), [methods[name] for name in ordered], color=colours, height=0.62)
        axes.bar_label(
            bars, [f"{methods[name]:.3f}" + (", taken" if name == chosen else "") for name in ordered], padding=5
        )
        axes.set_yticks(range(len(ordered)), labels=ordered)
        axes.grid(visible=False)
        axes.spines.bottom.set_visible(False)
        axes.set_xticks([])
        axes.set_xlim(0, max(max(methods.values()) * 1.25, 1e-3))
        axes.set_xlabel("Disagreement with the float network")

    return _svg("methods", 0.9 + 0.34 * len(ordered), draw)


def _legend(axes: Any) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _spaced_ticks(trials: Sequence[Trial], kind: str) -> tuple[list[int], list[str]]:
    """Return ticks at the counts that were tried, as far as their labels have room."""
    first, last = trials[0].returned, trials[-1].returned
    room = max((last - first) / 7, 1)
    ticks: list[Trial] = []
    # The ends, which say most, then whatever fits between.
    for trial in (trials[0], trials[-1], *trials[1:-1]):
        if all(abs(trial.returned - other.returned) >= room for other in ticks):
            ticks.append(trial)
    return [trial.returned for trial in ticks], [f"{trial.returned}\n{_percent(trial.share)}" for trial in ticks]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share > 0.9995 or share < 0.9 else f"{share:.1%}"


def _shortened(name: str, room: int = 24) -> str:
    return name if len(name) <= room else name[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _svg(name: str, height: float, draw: Callable[[Any], None]) -> str:
    matplotlib = load_matplotlib()
    out = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names in scripts that matplotlib's own font lacks are drawn by the browser's.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = matplotlib.figure.Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(out.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    """Keep the drawing alone: no prologue, no metadata, ids of its own, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib numbers its groups anew in every drawing; nothing refers to these.
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    head, _, rest = svg.partition(">")
    svg = re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest
    # Within tags only: what stands between them may be a class's name.
    return re.sub(r"<[^<>]*>", lambda tag: _own(tag[0], name), svg).strip()


def _own(tag: str, name: str) -> str:
    """Return a tag with ids that no other drawing on the page has, and with variables for colours."""
    tag = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(r"(?<=fill: |roke: )#[0-9a-f]{6}", lambda colour: _VARIABLES.get(colour[0], colour[0]), tag)
