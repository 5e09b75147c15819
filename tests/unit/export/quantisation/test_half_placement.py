"""Which nodes may be float16: by operator, by surroundings, by weights and by the values on pictures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.half_operators import ARITHMETIC, KEPT, LAYERS, MOVES
from edgedet.export.quantisation.half_placement import HalfPlacement, candidates, place_half
from edgedet.export.quantisation.half_ranges import Magnitudes

FINE = Magnitudes(10.0, 100.0, 1e-6)


def graph_of(body: str) -> GraphIndex:
    """A graph from ONNX's text form; nodes are called after their first output, W.. are 8x8 weights of a half."""
    model = onnx.parser.parse_model('<ir_version: 9, opset_import: ["" : 18]>' + body)
    for node in model.graph.node:
        node.name = node.output[0]
    values = {
        **{f"W{i}": np.full((8, 8), 0.5, np.float32) for i in range(4)},
        "huge": np.full((8, 8), 1e5, np.float32),
        "faint": np.full((8, 8), 1e-7, np.float32),
        "corners": np.full((4, 4), 0.5, np.float32),
        "kernel": np.full((8, 8, 1, 1), 0.5, np.float32),
        "eps": np.array(1e-6, np.float32),
        "one": np.array(1, np.float32),
        "two": np.array(2, np.float32),
        "unlimited": np.array(3e38, np.float32),
        "masked": np.array(-3e38, np.float32),
        "last": np.array([-1], np.int64),
        "spatial": np.array([2, 3], np.int64),
        "flat": np.array([1, 8], np.int64),
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items() if n in used)
    return GraphIndex(prepare(model))


def place(
    body: str, magnitudes: dict[str, Magnitudes] | None = None, keep_float: tuple[str, ...] = ()
) -> HalfPlacement:
    graph = graph_of(body)
    measured = {name: (magnitudes or {}).get(name, FINE) for name in candidates(graph)}
    return place_half(graph, measured, keep_float)


def half_nodes(placement: HalfPlacement) -> set[str]:
    return set(placement.nodes(frozenset(placement.units)))


ROWS = "g (float[1,8] x) => (float[1,8] y) "
MAPS = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) "

CASES = {
    "what follows the last layer": (ROWS + "{ a = MatMul(x, W0) b = Relu(a) c = MatMul(b, W1) y = Sigmoid(c) }", "abc"),
    "moves after the last layer are cast last": (
        ROWS + "{ a = MatMul(x, W0) b = Transpose<perm = [1, 0]>(a) c = Reshape(b, flat) y = Exp(c) }",
        "abc",
    ),
    "softmax": (ROWS + "{ a = MatMul(x, W0) b = Softmax(a) c = Neg(b) y = MatMul(c, W1) }", "acy"),
    "an expectation over a softmax": (ROWS + "{ a = MatMul(x, W0) b = Softmax(a) y = MatMul(b, W1) }", "a"),
    "a norm": (
        """g (float[1,8] x, float[8] s) => (float[1,8] y) {
        a = MatMul(x, W0) b = LayerNormalization(a, s) y = MatMul(b, W1) }""",
        "ay",
    ),
    "a norm written out": (
        ROWS
        + """{ a = MatMul(x, W0) m = ReduceMean(a, last) d = Sub(a, m) s = Mul(d, d) v = ReduceMean(s, last)
        e = Add(v, eps) r = Sqrt(e) n = Div(d, r) g = Mul(n, two) y = MatMul(g, W1) }""",
        "agy",
    ),
    "squeeze and excitation": (
        MAPS
        + """{ a = Conv(x, kernel) m = ReduceMean(a, spatial) e = Conv(m, kernel) s = HardSigmoid(e) u = Mul(a, s)
        y = Conv(u, kernel) }""",
        "amesuy",
    ),
    "weights beyond the range": (ROWS + "{ a = MatMul(x, huge) b = Relu(a) y = MatMul(b, W1) }", "by"),
    "weights that vanish": (ROWS + "{ a = MatMul(x, faint) b = Relu(a) y = MatMul(b, W1) }", "by"),
    "a mask beyond the range": (ROWS + "{ a = MatMul(x, W0) b = Add(a, masked) y = MatMul(b, W1) }", "ay"),
    "a bound beyond the range": (ROWS + "{ a = MatMul(x, W0) b = Clip(a, one, unlimited) y = MatMul(b, W1) }", "aby"),
    "what is computed from constants": (ROWS + "{ a = MatMul(x, W0) t = Mul(W1, two) y = MatMul(a, t) }", "ay"),
    "boxes turned over by a small matrix": (
        """g (float[1,8] x, float[5,4] b) => (float[1,8] y, float[5,4] z) {
        y = MatMul(x, W0) n = Neg(b) z = MatMul(n, corners) }""",
        "y",
    ),
    "islands": (ROWS + "{ a = MatMul(x, W0) b = Exp(a) c = Relu(b) d = Exp(c) y = MatMul(d, W1) }", "ay"),
    "an operator that nobody relies on": (
        ROWS + "{ a = MatMul(x, W0) b = Trilu(a) y = MatMul(b, W1) }",
        "ay",
    ),
    "whole numbers": (
        "g (int64[1,8] x) => (float[1,8] y) { f = Cast<to: int = 1>(x) a = Relu(f) y = MatMul(a, W0) }",
        "ay",
    ),
    "bytes": ("g (uint8[1,8] x) => (float[1,8] y) { f = Cast<to: int = 1>(x) a = Relu(f) y = MatMul(a, W0) }", "fay"),
}


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_what_is_float16(body, expected):
    placement = place(body)
    assert half_nodes(placement) == set(expected)
    outside = {name for name, node in placement.graph.nodes.items() if node.output[0] in placement.graph.floats}
    assert all(placement.kept.get(name, "between") for name in outside - set(expected))


CHAIN = ROWS + "{ a = MatMul(x, W0) b = Relu(a) c = MatMul(b, W1) d = Relu(c) y = MatMul(d, W2) }"


@pytest.mark.parametrize(
    ("magnitudes", "expected"),
    [
        ({}, "abcdy"),
        ({"b": Magnitudes(1e5, 1e6, 1.0)}, "ady"),
        ({"a": Magnitudes(1e-6, 1e-10, 1e-13)}, "cdy"),
        ({"d": Magnitudes(1.0, np.inf, 0.0)}, "abc"),
    ],
)
def test_what_makes_or_reads_values_that_do_not_fit_stays_float32(magnitudes, expected):
    assert half_nodes(place(CHAIN, magnitudes)) == set(expected)


ATTENTION = """g (float[1,8] x) => (float[1,8] y) {
    q = MatMul(x, W0) k = MatMul(x, W1) t = Transpose<perm = [1, 0]>(k)
    p = MatMul(q, t) s = Div(p, two) w = Softmax(s) o = MatMul(w, q) y = MatMul(o, W2)
}"""


@pytest.mark.parametrize(("largest", "expected"), [(5.0, set("qktpsoy")), (50.0, set("qktoy"))])
def test_sharp_attention_is_scored_in_float32(largest, expected):
    body = ATTENTION.replace("o = MatMul(w, q)", "o = Mul(w, q)")
    placement = place(body, {"s": Magnitudes(largest, 100.0, 1e-6)})
    assert half_nodes(placement) == expected


def test_the_user_has_the_last_word():
    placement = place(CHAIN, keep_float=("[cd]",))
    assert half_nodes(placement) == set("aby")
    assert placement.kept["c"] == "asked for with --keep-float"


def test_a_unit_is_a_layer_with_what_follows():
    placement = place(CHAIN.replace("a = MatMul(x, W0)", "n = Neg(x) a = MatMul(n, W0)"))
    assert placement.units == {"a": frozenset("nab"), "c": frozenset("cd"), "y": frozenset("y")}
    assert [layer.multiply_accumulates for layer in placement.layers] == [64, 64, 64]
    assert placement.nodes(frozenset("c")) == set("cd")


def test_the_table_puts_no_operator_in_two_places():
    groups = [LAYERS, ARITHMETIC, MOVES, frozenset(KEPT)]
    assert sum(map(len, groups)) == len(frozenset().union(*groups))
    assert all(onnx.defs.has(name) for group in groups for name in group)
