"""Loading a model whose INT8 is meant for another engine: it is said, and it computes what is written."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from small_networks import residual_network, residual_spec, write_pictures

import edgedet
from edgedet.export.graph import GraphIndex
from edgedet.export.onnx_file import stamp_spec, write_onnx
from edgedet.export.quantisation.cpu_form import form_for_cpu
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.placement import find_layers, place
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import Range
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine


@pytest.fixture
def write(tmp_path):
    def written(target):
        model = prepare(residual_network())
        if target == "cpu":
            model = form_for_cpu(model)
        graph = GraphIndex(model)
        placement = place(graph, target, frozenset(layer.node for layer in find_layers(graph, target=target)))
        quantised = insert_qdq(model, graph, placement, dict.fromkeys(placement.activations, Range(-3.0, 3.0)), {})
        stamp_spec(quantised, residual_spec().replace(precision="int8", calibration={"target": target}))
        write_onnx(quantised, tmp_path / f"{target}.onnx")
        return tmp_path / f"{target}.onnx"

    return written


def test_int8_for_tensorrt_is_computed_as_written_and_said_to_be_slow(write, tmp_path, caplog):
    path, (picture,) = write("tensorrt"), write_pictures(tmp_path / "pictures", 1)
    image = read_image(picture)
    with edgedet.load(path) as detector:
        got = detector.infer(detector.preprocess([image]))
    assert "--target cpu" in caplog.text
    assert str(path) in caplog.text
    with Detector(residual_spec(), OnnxRuntimeEngine(path, config=AS_WRITTEN)) as exact:
        expected = exact.infer(exact.preprocess([image]))
    assert len(got.outputs) == 1
    np.testing.assert_array_equal(got.outputs[0], expected.outputs[0])


def test_int8_for_a_cpu_needs_no_word(write, caplog):
    with caplog.at_level(logging.WARNING), edgedet.load(write("cpu")):
        assert not caplog.records
