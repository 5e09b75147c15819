"""A network in pieces answers as the whole one does, and no piece holds more than it may."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from small_networks import SIZE, residual_network

from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.pieces import TappedNetwork, cut_out

EVERYTHING = ("images", "a", "s", "b", "c", "d", "e", "f", "scores")
MAP = 8 * SIZE * SIZE * 4
"""Bytes of most of the tensors."""


def whole(model: onnx.ModelProto, names: tuple[str, ...], image: np.ndarray) -> dict[str, np.ndarray]:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in ("images", "scores")
    )
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = [name for name in names if name != "images"]
    if not wanted:
        return {"images": image}
    return dict(zip(wanted, session.run(wanted, {"images": image}), strict=True)) | (
        {"images": image} if "images" in names else {}
    )


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).random((1, 3, SIZE, SIZE), np.float32)


@pytest.mark.parametrize("limit", [1, MAP, 3 * MAP, 1 << 30])
@pytest.mark.parametrize("names", [EVERYTHING, ("b", "e"), ("images",), ("scores",)])
def test_pieces_hand_over_what_the_whole_network_computes(
    limit: int, names: tuple[str, ...], image: np.ndarray
) -> None:
    model = residual_network()
    expected = whole(model, names, image)
    network = TappedNetwork(model, GraphIndex(model), names, limit)
    found = dict(network.run({"images": image}))
    network.close()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("limit", "pieces"), [(1, 8), (MAP, 8), (2 * MAP, 4), (1 << 30, 1)])
def test_a_piece_ends_where_its_tensors_would_be_too_much(limit: int, pieces: int) -> None:
    model = residual_network()
    network = TappedNetwork(model, GraphIndex(model), EVERYTHING, limit)
    assert len(network._engines) == pieces
    network.close()


def test_what_no_tensor_needs_is_left_out(image: np.ndarray) -> None:
    model = residual_network()
    network = TappedNetwork(model, GraphIndex(model), ["b"])
    assert [value.name for engine in network._engines for value in engine.outputs] == ["b"]
    network.close()


def test_a_part_reads_what_is_made_outside_of_it() -> None:
    model = residual_network()
    graph = GraphIndex(model)
    part = cut_out(model, graph, [graph.nodes[name] for name in ("sum", "branch")], {"f"})
    assert [value.name for value in part.graph.input] == ["d", "c"]
    assert [value.name for value in part.graph.output] == ["f"]
    assert [tensor.name for tensor in part.graph.initializer] == ["always"]
