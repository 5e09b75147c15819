"""A graph cut before its Resize and ArgMax answers as the whole one does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgedet.export.families.enlarging_tail import find_tail
from edgedet.export.families.segmentation import Segmentation
from edgedet.export.request import ExportRequest
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import ClassMapHead, ClassScores
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

SIZE = (96, 64)
NAMES = tuple("abcdef")


def segmenter(new, mode: str, *, softmax=False, twice=False, resize="linear", to=SIZE):
    """Scores at stride 8, enlarged to the input's size (width, height), ArgMax."""
    graph = new(SIZE)
    tensor = graph.map(len(NAMES), 8)
    for _ in range(2 if twice else 1):
        sizes = graph.constant([1, len(NAMES), to[1], to[0]])
        tensor = graph.node("Resize", [tensor, "", "", sizes], mode=resize, coordinate_transformation_mode=mode)
    if softmax:
        tensor = graph.node("Softmax", [tensor], axis=1)
    graph.output(graph.node("ArgMax", [tensor], axis=1, keepdims=0), "ids", TensorProto.INT64)
    return graph


def load(source, fragment=None):
    request = ExportRequest(source.path, family="segmentation:unit", fragment=fragment or {})
    return Segmentation().load(source, request)


@pytest.mark.parametrize(("softmax", "twice"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("mode", ["align_corners", "half_pixel", "pytorch_half_pixel"])
def test_the_cut_graph_answers_as_the_whole_one(new_graph, write_onnx, mode, softmax, twice):
    source = write_onnx(segmenter(new_graph, mode, softmax=softmax, twice=twice))
    loaded = load(source)
    assert loaded.head == ClassScores(align_corners=mode == "align_corners")
    assert "cut off" in loaded.notes[0]
    assert not {"Resize", "ArgMax"} & {node.op_type for node in loaded.network.graph.node}
    tensor = np.random.default_rng(0).random((1, 3, SIZE[1], SIZE[0]), np.float32) - 0.5
    (whole,) = OnnxRuntimeEngine(source.path).infer(tensor)
    (scores,) = OnnxRuntimeEngine(loaded.network.SerializeToString()).infer(tensor)
    assert scores.shape == (1, len(NAMES), 8, 12)
    found = loaded.head.decode_map([scores[0]], Placement(*SIZE, 0, 0, *SIZE), SIZE, Selection(), NAMES)
    assert np.mean(found.class_id != whole[0]) < 1e-3 and len(np.unique(whole)) > 2


@pytest.mark.parametrize(
    ("mode", "keywords"),
    [("asymmetric", {}), ("half_pixel", {"resize": "cubic"}), ("half_pixel", {"to": (48, 32)})],
)
def test_other_ends_are_kept(new_graph, write_onnx, mode, keywords):
    source = write_onnx(segmenter(new_graph, mode, **keywords))
    assert find_tail(source.onnx_model, "ids", SIZE) is None
    assert isinstance(load(source).head, ClassMapHead)


def test_the_user_can_keep_it(new_graph, write_onnx):
    loaded = load(write_onnx(segmenter(new_graph, "half_pixel")), {"head": {"name": "class_map"}})
    assert isinstance(loaded.head, ClassMapHead)
    assert "ArgMax" in {node.op_type for node in loaded.network.graph.node}
