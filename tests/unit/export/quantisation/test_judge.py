"""A network is judged by what its own engine computes: integer kernels for a CPU, Q/DQ as written for TensorRT."""

from __future__ import annotations

import numpy as np
import pytest
from small_networks import SIZE, residual_network, residual_spec

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.judge import has_unsigned_activations, target_engine
from edgedet.export.quantisation.placement import find_layers, place
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import Range
from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine


def quantised(target):
    model = prepare(residual_network())
    if target == "cpu":
        model = form_for_cpu(model)
    graph = GraphIndex(model)
    placement = place(graph, target, frozenset(layer.node for layer in find_layers(graph, target=target)))
    return insert_qdq(model, graph, placement, dict.fromkeys(placement.activations, Range(-3.0, 3.0)), {})


@pytest.mark.parametrize(("target", "config"), [("cpu", None), ("tensorrt", AS_WRITTEN)])
def test_the_engine_of_the_target_judges(target, config):
    model = quantised(target)
    assert has_unsigned_activations(model) is (target == "cpu")
    picture = np.random.default_rng(0).uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    expected = OnnxRuntimeEngine(model.SerializeToString(), config=config).infer(picture)[0]
    np.testing.assert_array_equal(target_engine(residual_spec(), model).infer(picture)[0], expected)


def test_the_two_ways_to_compute_a_network_for_a_cpu_are_not_the_same():
    model = quantised("cpu")
    picture = np.random.default_rng(0).uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)
    fused, written = (
        OnnxRuntimeEngine(model.SerializeToString(), config=config).infer(picture)[0] for config in (None, AS_WRITTEN)
    )
    assert (fused != written).any()


def test_a_float_network_quantises_nothing():
    assert not has_unsigned_activations(prepare(residual_network()))
