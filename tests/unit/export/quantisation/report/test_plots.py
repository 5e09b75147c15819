"""The plots are SVG that can stand in a page: well formed, in the page's colours, with text as text."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from edgedet.export.quantisation.gate import Trial
from edgedet.export.quantisation.report.figures import ClassLoss
from edgedet.export.quantisation.report.plots import MOST_CLASSES, plot_classes, plot_methods, plot_trials

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def trial(returned: int, loss: float, share: float) -> Trial:
    return Trial(returned, cast(Any, SimpleNamespace(value=0.5 - loss / 100)), loss, share)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


LOSSES = {0: (35.0, 1.0), 1: (7.0, 0.997), 4: (0.3, 0.9), 2: (2.0, 0.95), 3: (float("nan"), 0.9)}
TRIALS = [trial(returned, *rest) for returned, rest in LOSSES.items()]
PLOTS = {
    "trials": plot_trials(TRIALS, 1.0, "INT8"),
    "classes": plot_classes([ClassLoss("cat", 0.5, 0.25), ClassLoss("dog", None, 0.5)], "AP"),
    "methods": plot_methods({"minmax": 0.9, "mse": 0.1}, "mse"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_can_stand_in_a_page(name: str) -> None:
    root = ElementTree.fromstring(PLOTS[name])
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) and all(text.startswith(f"{name}-") for text in ids if text)
    links = [element.get(LINK) or "" for element in root.iter() if element.get(LINK)]
    links += re.findall(r"url\((#[^)]*)\)", PLOTS[name])
    assert links and {link.removeprefix("#") for link in links} <= set(ids)
    assert "metadata" not in PLOTS[name]
    assert not re.search(r"(?:fill|stroke): ?#", PLOTS[name]), "every colour is the page's"
    assert "var(--quantised)" in PLOTS[name] and "var(--ink)" in PLOTS[name]
    assert root.get("width") is None and root.get("viewBox")


def test_the_trials_show_layers_and_arithmetic() -> None:
    shown = texts(PLOTS["trials"])
    assert {"limit 1", "Points lost", "within the limit", "over the limit"} <= set(shown)
    assert "99.7%" in " ".join(shown) and "Layers returned to float, arithmetic left in INT8" in shown


def test_the_classes_that_changed_most_are_shown() -> None:
    many = [ClassLoss(f"class{index}", 0.9, 0.9 - index / 100) for index in range(40)]
    shown = set(texts(plot_classes(many, "AP")))
    assert {f"class{index}" for index in range(40)} & shown == {f"class{index}" for index in range(20, 40)}
    assert MOST_CLASSES == 20
    assert "dog" not in texts(PLOTS["classes"])


@pytest.mark.parametrize("name", ["a$b^$c", "<b>&amp;", "\u72ac", "{x}", "fill: #010203", ' id="x'])
def test_names_are_text_whatever_they_hold(name: str) -> None:
    assert name in texts(plot_classes([ClassLoss(name, 0.5, 0.25)], "AP"))


def test_the_method_that_was_taken_is_marked() -> None:
    assert {"0.900", "0.100, taken"} <= set(texts(PLOTS["methods"]))
    assert "0.000, taken" in texts(plot_methods({"minmax": 0.0, "mse": 0.0}, "mse"))
