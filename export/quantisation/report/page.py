"""The HTML page about a quantised network: one file that needs no network and nothing beside it."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgedet
from edgedet.atomic_file import atomic_file
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.placement import SCHEMES
from edgedet.export.quantisation.ranges import quantiser
from edgedet.export.quantisation.report.figures import class_losses, class_metric, figure_pairs, output_differences
from edgedet.export.quantisation.report.measure import Measurements
from edgedet.export.quantisation.report.picture_pairs import PicturePair
from edgedet.export.quantisation.report.plots import load_matplotlib, plot_classes, plot_methods, plot_trials
from edgedet.export.report import ExportReport
from edgedet.optional import require

__all__ = ["check_page_packages", "render_page", "write_page"]

TEMPLATE = "page.html.j2"

SMALLEST = 0.005
"""Points that round to none."""

NONE = "\N{EN DASH}"
"""Stands where there is no figure."""

PRECISIONS = {"int8": "INT8", "float16": "FP16", "int8+float16": "INT8+FP16"}
TASKS = {
    "detect": "Object detection",
    "instance": "Instance segmentation",
    "semantic": "Semantic segmentation",
    "panoptic": "Panoptic segmentation",
    "localize": "Localisation",
}
TARGETS = {"tensorrt": "TensorRT", "cpu": "CPUs (ONNX Runtime)"}


def check_page_packages() -> None:
    """Make sure, before the long work begins, that a page can be made.

    Raises:
        MissingDependencyError: if matplotlib or Jinja is not installed.
    """
    load_matplotlib()
    _jinja()


def write_page(report: ExportReport, path: Path) -> None:
    """Write the page, under a temporary name first.

    Raises:
        MissingDependencyError: if matplotlib or Jinja is not installed.
        SinkError: if the file cannot be written.
    """
    page = render_page(report)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_page(report: ExportReport) -> str:
    """Return the page about an export in lower precision as HTML.

    Raises:
        MissingDependencyError: if matplotlib or Jinja is not installed.
    """
    outcome, measured = report.outcome, report.measurements
    assert outcome is not None and measured is not None
    jinja = _jinja()
    environment = jinja.Environment(
        loader=jinja.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"points": _points, "figure": _figure, "percent": _percent, "apart": _apart}
    losses = class_losses(outcome)
    kind = "FP16" if outcome.request.precision == "float16" else "INT8"
    page: str = environment.get_template(TEMPLATE).render(
        report=report,
        outcome=outcome,
        request=outcome.request,
        measured=measured,
        task=TASKS[report.spec.task],
        precision=PRECISIONS[outcome.request.precision],
        limit=_counted_points(outcome.request.max_drop),
        target=TARGETS[outcome.request.target],
        kind=kind,
        verdict=_verdict(report, outcome),
        rows=list(_rows(outcome, measured)),
        figures=figure_pairs(outcome),
        losses=losses,
        output_differences=output_differences(outcome),
        ranges=list(_ranges(outcome)),
        pairs=[_drawn(pair) for pair in measured.pictures.shown],
        trials_plot=plot_trials(outcome.trials, outcome.request.max_drop, kind) if len(outcome.trials) > 1 else "",
        class_metric=class_metric(outcome),
        classes_plot=plot_classes(losses, class_metric(outcome)) if losses else "",
        methods_plot=plot_methods(outcome.methods, outcome.method) if len(outcome.methods) > 1 else "",
        version=edgedet.__version__,
        written=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        no_figure=NONE,
    )
    return page


def _jinja() -> Any:
    return require("jinja2", extra="report", purpose="the HTML report")


@dataclass(frozen=True)
class _Verdict:
    """Whether the network is within the limit, and the line that says so."""

    state: str
    text: str


def _verdict(report: ExportReport, outcome: QuantisationOutcome) -> _Verdict:
    limit = _counted_points(outcome.request.max_drop)
    if not math.isfinite(outcome.loss):
        change = f"{outcome.metric} is not a number"
    elif abs(outcome.loss) < SMALLEST:
        change = f"{outcome.metric} did not change"
    else:
        change = f"{outcome.metric} {'fell' if outcome.loss > 0 else 'rose'} by {abs(outcome.loss):.2f} points"
    if outcome.holds:
        return _Verdict("passed", f"Passed: {change}; {limit} may be lost")
    if report.refusal is None:
        return _Verdict("forced", f"Over the limit, written with --force: {change}; {limit} may be lost")
    return _Verdict("refused", f"Refused: {change} at best; {limit} may be lost. No model was written")


def _rows(outcome: QuantisationOutcome, measured: Measurements) -> Iterator[tuple[str, str, str, str]]:
    """Yield the lines of the table at the top: what, float, quantised, change."""
    for pair in figure_pairs(outcome):
        yield pair.name, _figure(pair.float_value), _figure(pair.quantised_value), _change(pair.loss)
    size = f"{measured.size / max(measured.float_size, 1):.2f}x the size"
    yield "File", _megabytes(measured.float_size), _megabytes(measured.size), size
    latency = measured.latency
    speed = f"{latency.speedup:.2f}x as fast"
    yield "Run on a CPU, one thread", f"{latency.float_ms:.1f} ms", f"{latency.quantised_ms:.1f} ms", speed
    if outcome.request.precision != "float16":
        yield "Arithmetic in INT8", NONE, _percent(outcome.int8_share), ""
    if outcome.request.precision != "int8":
        label = "Arithmetic in FP16" if outcome.request.precision == "float16" else "FP16 where not INT8"
        yield label, NONE, _percent(outcome.float16_share), ""
    if measured.builder is not None:
        yield "INT8 by TensorRT-RTX's builder", NONE, _percent(measured.builder.share), ""


def _ranges(outcome: QuantisationOutcome) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield tensor, lowest and highest value, scale and zero point."""
    scheme = SCHEMES[outcome.request.target]
    for name, span in outcome.ranges.items():
        used = quantiser(span, scheme)
        yield name, f"{span.low:.4g}", f"{span.high:.4g}", f"{used.scale:.4g}", used.zero_point


@dataclass(frozen=True)
class _DrawnPair:
    """A picture with both answers drawn on it as data URIs, and in words."""

    name: str
    disagreement: float
    float_picture: str
    quantised_picture: str
    float_words: str
    quantised_words: str


def _drawn(pair: PicturePair) -> _DrawnPair:
    pictures = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in pair.draw()]
    words = pair.describe()
    return _DrawnPair(pair.path.name, pair.disagreement, pictures[0], pictures[1], words[0], words[1])


def _counted_points(count: float) -> str:
    return "1 point" if count == 1 else f"{count:g} points"


def _change(loss: float | None) -> str:
    if loss is None:
        return NONE
    return "no change" if abs(loss) < SMALLEST else f"{-loss:+.2f} points".replace("-", "\N{MINUS SIGN}")


def _points(loss: float | None) -> str:
    if loss is None or not math.isfinite(loss):
        return NONE
    # Adding nothing makes a plain zero of a negative one.
    return f"{round(loss, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _apart(disagreement: float) -> str:
    return f"{disagreement:.3f}" if disagreement >= 0.0005 else "below 0.001"


def _figure(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
