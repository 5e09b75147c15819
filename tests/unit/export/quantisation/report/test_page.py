"""The words of the page: the verdict in one line, and figures that never read as what they are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgedet.export.quantisation.report.page import _apart, _change, _counted_points, _figure, _points, _verdict

NAN = float("nan")


@pytest.mark.parametrize(
    ("loss", "limit", "holds", "refused", "state", "text"),
    [
        (0.42, 1.0, True, False, "passed", "Passed: mAP fell by 0.42 points; 1 point may be lost"),
        (-0.16, 0.5, True, False, "passed", "Passed: mAP rose by 0.16 points; 0.5 points may be lost"),
        (-0.001, 0.0, True, False, "passed", "Passed: mAP did not change; 0 points may be lost"),
        (9.0, 2.0, False, True, "refused",
         "Refused: mAP fell by 9.00 points at best; 2 points may be lost. No model was written"),
        (NAN, 1.0, False, True, "refused",
         "Refused: mAP is not a number at best; 1 point may be lost. No model was written"),
        (9.0, 1.0, False, False, "forced",
         "Over the limit, written with --force: mAP fell by 9.00 points; 1 point may be lost"),
    ],
)  # fmt: skip
def test_the_verdict(loss: float, limit: float, holds: bool, refused: bool, state: str, text: str) -> None:
    outcome = SimpleNamespace(loss=loss, holds=holds, metric="mAP", request=SimpleNamespace(max_drop=limit))
    report = SimpleNamespace(refusal="not written" if refused else None)
    found = _verdict(cast(Any, report), cast(Any, outcome))
    assert (found.state, found.text) == (state, text)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (_points(-0.001), "0.00"),
        (_points(-1.5), "\N{MINUS SIGN}1.50"),
        (_points(NAN), "\N{EN DASH}"),
        (_points(None), "\N{EN DASH}"),
        (_figure(0.12345), "0.1235"),
        (_figure(NAN), "\N{EN DASH}"),
        (_figure(None), "\N{EN DASH}"),
        (_change(0.004), "no change"),
        (_change(1.0), "\N{MINUS SIGN}1.00 points"),
        (_change(-1.0), "+1.00 points"),
        (_change(None), "\N{EN DASH}"),
        (_apart(0.0), "below 0.001"),
        (_apart(0.25), "0.250"),
        (_counted_points(1), "1 point"),
        (_counted_points(1.5), "1.5 points"),
    ],
)
def test_figures_in_words(shown: str, expected: str) -> None:
    assert shown == expected
