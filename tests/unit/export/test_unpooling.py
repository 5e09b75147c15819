"""Encoder-decoders with every kind of unpooling: from PyTorch to the same numbers in ONNX Runtime, fit for TensorRT."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from edgedet.cli.export_command import command

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from encoder_decoder import CLASSES, UNPOOLINGS, save_encoder_decoder  # noqa: E402

SIZE = (54, 46)
"""Halved once it is odd: 27 x 23, which pooling and unpooling must remember."""


def exported(tmp_path, unpooling, *flags, **options):
    network = save_encoder_decoder(tmp_path / "source.pt2", unpooling, SIZE, **options)
    arguments = [str(tmp_path / "source.pt2"), "-o", str(tmp_path / "model.onnx"), "--json", *flags]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return network, onnx.load(tmp_path / "model.onnx"), json.loads(result.stdout)


def both_answers(network, model, batch):
    generator = np.random.default_rng(batch)
    pictures = generator.random((batch, 3, SIZE[1], SIZE[0]), dtype=np.float32)
    pictures -= 0.5
    pictures[0, :, :20, :20] = 0.5  # many equal maxima
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return network(torch.from_numpy(pictures)).numpy(), session.run(None, {"images": pictures})[0]


@pytest.mark.parametrize("unpooling", UNPOOLINGS)
def test_scores_are_pytorchs_and_tensorrt_refuses_nothing(tmp_path, unpooling):
    network, model, report = exported(tmp_path, unpooling)
    assert report["spec"]["head"]["name"] == "class_scores"
    for batch in (1, 3):
        expected, got = both_answers(network, model, batch)
        assert got.shape == (batch, CLASSES, SIZE[1], SIZE[0])
        np.testing.assert_allclose(got, expected, atol=1e-5)
    operators = {node.op_type for node in model.graph.node}
    assert report["tensorrt_refuses"] == []
    assert not operators & {"MaxUnpool", "ScatterND", "ScatterElements", "NonZero"}
    assert all(len(node.output) == 1 for node in model.graph.node if node.op_type == "MaxPool")


def test_a_batch_that_is_fixed_leaves_no_unpooling_behind(tmp_path):
    network, model, report = exported(tmp_path, "max_unpooling", "--batch", "1")
    expected, got = both_answers(network, model, 1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert report["tensorrt_refuses"] == []
    assert report["spec"]["outputs"][0]["shape"] == [1, CLASSES, SIZE[1], SIZE[0]]


@pytest.mark.parametrize("unpooling", ["bed_of_nails", "max_unpooling", "bicubic"])
def test_class_maps_are_pytorchs(tmp_path, unpooling):
    network, model, report = exported(tmp_path, unpooling, ids=True)
    assert report["spec"]["head"]["name"] == "class_map"
    expected, got = both_answers(network, model, 2)
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) > 2
