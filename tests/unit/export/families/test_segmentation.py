"""Segmenters' ONNX files: what is recognised, and how it is read."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from edgedet.class_names import CITYSCAPES, VOC21
from edgedet.errors import SpecError, UnknownHeadError
from edgedet.export.families import choose_family
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.runtime.heads import ClassMapHead, ClassScores


def scores(new, *, channels=21, stride=8, layout="NCHW", size=(96, 64), activate=None, **keywords):
    graph = new(size, **keywords)
    result = graph.map(channels, stride)
    if activate:
        result = graph.node(activate, [result])
    if layout == "NHWC":
        result = graph.node("Transpose", [result], perm=[0, 2, 3, 1])
    graph.output(result, "scores")
    return graph


def ids(new, *, channels=21, stride=1, keepdims=0, cast=None, **keywords):
    graph = new((96, 64), **keywords)
    result = graph.node("ArgMax", [graph.map(channels, stride)], axis=1, keepdims=keepdims)
    if cast is not None:
        result = graph.node("Cast", [result], to=cast)
    graph.output(result, "ids", cast or TensorProto.INT64)
    return graph


def load(source, **options):
    request = ExportRequest(source.path, **options)
    loaded = choose_family(source, request).load(source, request)
    if loaded.class_names is not None:
        outputs = [output for output in graph_outputs(loaded.network) if output.name in loaded.output_names]
        loaded.head.check(outputs, len(loaded.class_names), (loaded.input.width, loaded.input.height))
    return loaded


@pytest.mark.parametrize(
    ("keywords", "head", "names"),
    [
        ({}, ClassScores(), VOC21),
        ({"channels": 19, "stride": 4}, ClassScores(), CITYSCAPES),
        ({"channels": 7, "stride": 1}, ClassScores(), None),
        ({"layout": "NHWC"}, ClassScores(layout="NHWC"), VOC21),
        ({"layout": "NHWC", "channels": 12}, ClassScores(layout="NHWC"), None),
        ({"channels": 1}, ClassScores(), ("background", "object")),
        ({"channels": 1, "activate": "Sigmoid"}, ClassScores(threshold=0.5), ("background", "object")),
        ({"stride": 7}, ClassScores(), VOC21),
    ],
)
def test_scores(new_graph, write_onnx, keywords, head, names):
    loaded = load(write_onnx(scores(new_graph, **keywords)), family="segmentation:imagenet")
    assert (loaded.head, loaded.class_names, loaded.task) == (head, names, "semantic")
    assert bool(loaded.notes) is (names is not None)


@pytest.mark.parametrize(
    "keywords", [{}, {"stride": 4}, {"keepdims": 1}, {"cast": TensorProto.INT32}, {"cast": TensorProto.UINT8}]
)
def test_ids_are_recognised_and_their_classes_counted(new_graph, write_onnx, keywords):
    loaded = load(write_onnx(ids(new_graph, layout="NHWC", dtype="uint8", **keywords)))
    assert isinstance(loaded.head, ClassMapHead) and loaded.class_names == VOC21
    assert (loaded.input.mean, loaded.input.std, loaded.input.layout) == ((0.0,) * 3, (1.0,) * 3, "NHWC")


@pytest.mark.parametrize(
    ("variant", "mean", "std"),
    [
        ("imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("tf", (127.5,) * 3, (127.5,) * 3),
        ("unit", (0.0,) * 3, (255.0,) * 3),
        ("raw", (0.0,) * 3, (1.0,) * 3),
    ],
)
def test_variants_say_how_pictures_are_fed(new_graph, write_onnx, variant, mean, std):
    loaded = load(write_onnx(scores(new_graph)), family=f"segmentation:{variant}")
    assert (loaded.input.mean, loaded.input.std, loaded.input.channels) == (mean, std, "RGB")


def test_without_a_variant_it_is_asked_for(new_graph, write_onnx):
    with pytest.raises(SpecError, match="segmentation:imagenet or segmentation:tf"):
        load(write_onnx(ids(new_graph)))
    fragment = {"input": {"mean": [1, 2, 3], "std": [4, 5, 6]}}
    assert isinstance(load(write_onnx(ids(new_graph)), fragment=fragment).head, ClassMapHead)


def test_scores_alone_are_not_recognised(new_graph, write_onnx):
    with pytest.raises(UnknownHeadError, match="segmentation"):
        load(write_onnx(scores(new_graph)))


def test_of_several_outputs_the_first_that_fits_is_read(new_graph, write_onnx):
    graph = scores(new_graph)
    graph.output(graph.map(21, 16), "aux")
    loaded = load(write_onnx(graph), family="segmentation:imagenet")
    assert loaded.output_names == ("scores",) and "The output 'scores' is read" in loaded.notes[0]


def test_other_outputs_are_refused(new_graph, write_onnx):
    graph = new_graph((96, 64))
    graph.output(graph.fixed(100, 4), "boxes")
    with pytest.raises(SpecError, match="an output of class scores"):
        load(write_onnx(graph), family="segmentation:imagenet")


def test_a_fragment_sets_the_head(new_graph, write_onnx):
    fragment = {"head": {"name": "class_scores", "parameters": {"align_corners": True}}}
    loaded = load(write_onnx(scores(new_graph)), family="segmentation:tf", fragment=fragment)
    assert loaded.head == ClassScores(align_corners=True)


def test_real_deeplab(shared):
    from edgedet.export.source import open_source

    loaded = load(open_source(shared / "models/deeplabv3_mobilenetv2_pascal_513.onnx"))
    assert loaded.head == ClassScores(align_corners=True) and loaded.class_names == VOC21
    assert (loaded.input.dtype, loaded.input.layout, np.sum(loaded.input.mean)) == ("uint8", "NHWC", 0)
