"""Scales and zero points for ONNX Runtime's CPU provider: what is moved and not computed keeps those of its source."""

from __future__ import annotations

from collections.abc import Mapping

from edgedet.export.quantisation.cpu_placement import CpuPlacement
from edgedet.export.quantisation.ranges import Quantiser, Range, quantiser

__all__ = ["gate_quantiser", "settle"]

WIDEST = 2.0
"""An input of a Concat takes the result's scale while that is at most so many times as coarse: one bit is lost."""


def settle(placement: CpuPlacement, ranges: Mapping[str, Range]) -> dict[str, Quantiser]:
    """Return how each tensor of a placement is quantised.

    Tensors that are moved, not computed, share the range that holds all of them. So do the inputs of a Concat and its
    result where none of them loses more than a bit by it; another input goes through a table. What a rectifier makes
    keeps a range without negative values all the same: else the convolution before it would have to run in float.
    """
    spans = {name: ranges[name] for name in placement.tensors}
    rectified = {name for name in placement.tensors if name not in placement.moved and spans[name].low >= 0.0}
    for name, source in placement.moved.items():
        if source in rectified:
            rectified.add(name)
            spans[name] = Range(0.0, spans[name].high)
    groups = {name: _Group((name,), span, span) for name, span in spans.items()}
    for name, source in placement.moved.items():
        _join(groups, groups[name], groups[source])
    for made, *read in placement.joined:
        for name in read:
            if groups[name].joins(groups[made]):
                _join(groups, groups[name], groups[made])
    found = {name: quantiser(groups[name].span, "asymmetric") for name in placement.tensors}
    return found | {gate.source: gate_quantiser(ranges[gate.source]) for gate in placement.gates}


def gate_quantiser(span: Range) -> Quantiser:
    """Return how the input of a hard swish is quantised: from -3, below which it answers 0, in whole parts of 3."""
    steps = max(1, int(3.0 * 255.0 / (max(span.high, 0.0) + 3.0)))
    return Quantiser(3.0 / steps, steps, "asymmetric")


class _Group:
    """Tensors of one scale: the range that holds all of them, and the narrowest one among them."""

    def __init__(self, names: tuple[str, ...], span: Range, narrowest: Range) -> None:
        self.names, self.span, self.narrowest = names, span, narrowest

    def with_(self, other: _Group) -> _Group:
        narrowest = min(self.narrowest, other.narrowest, key=_width)
        return _Group((*self.names, *other.names), _hull(self.span, other.span), narrowest)

    def joins(self, other: _Group) -> bool:
        both = self.with_(other)
        same_side = (self.span.low < 0.0) == (other.span.low < 0.0)
        return same_side and _width(both.span) <= WIDEST * _width(both.narrowest)


def _join(groups: dict[str, _Group], one: _Group, other: _Group) -> None:
    if one is not other:
        both = one.with_(other)
        groups.update(dict.fromkeys(both.names, both))


def _hull(one: Range, other: Range) -> Range:
    return Range(min(one.low, other.low), max(one.high, other.high))


def _width(span: Range) -> float:
    return span.high - span.low
