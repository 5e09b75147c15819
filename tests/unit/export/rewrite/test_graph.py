"""Nodes in the place of others, and what nothing reads any more dropped."""

from __future__ import annotations

import numpy as np
from graphs import make_graph, operators
from onnx import TensorProto, helper

from edgedet.export.graph import GraphIndex
from edgedet.export.rewrite.graph import NodeBuilder, drop_unread, replace_nodes


def node(operator, *names, **attributes):
    return helper.make_node(operator, names[:-1], [names[-1]], **attributes)


def test_a_node_is_replaced_and_what_only_it_read_is_dropped():
    nodes = [node("Relu", "x", "a"), node("Add", "a", "w", "b"), node("Relu", "b", "y")]
    model = make_graph(nodes, {"x": (1, 2)}, ["y"], {"w": np.ones(2, np.float32)})
    graph = GraphIndex(model)
    builder = NodeBuilder(graph, model.graph.node[1])
    builder.node("Mul", "x", builder.constant([2, 3], np.float32), output="b")
    assert replace_nodes(model, {"b": builder}) == 1
    assert operators(model) == ["Mul", "Relu"]
    assert [weight.name for weight in model.graph.initializer] == ["b_rewritten_0"]


def test_what_a_subgraph_reads_is_kept():
    branch = helper.make_graph(
        [node("Relu", "a", "r")], "branch", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 2])]
    )
    nodes = [node("Neg", "x", "a"), node("Neg", "x", "unread")]
    nodes.append(node("If", "flag", "y", then_branch=branch, else_branch=branch))
    model = make_graph(nodes, {"x": (1, 2)}, ["y"], {"flag": np.array(True)})
    drop_unread(model)
    assert operators(model) == ["Neg", "If"]
