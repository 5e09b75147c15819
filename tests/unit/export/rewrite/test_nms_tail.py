"""Graphs that end in NonMaxSuppression: what it is given is found, and thinned out alike by the runtime."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph, operators, run_graph
from onnx import helper

from edgedet.export.rewrite import cut_nms_tail, find_nms_tail, find_refusals
from edgedet.runtime.nms import nms

ANCHORS, CLASSES = 40, 3
LIMITS = {"most": np.array([50]), "iou": np.array([0.5], np.float32), "score": np.array([0.3], np.float32)}


def rows(generator, columns=4 + CLASSES):
    """Rows of left, top, right, bottom and class scores."""
    corner = generator.uniform(0, 50, (1, ANCHORS, 2))
    size = generator.uniform(10, 30, (1, ANCHORS, 2))
    scores = generator.uniform(0, 1, (1, ANCHORS, columns - 4))
    return np.concatenate([corner, corner + size, scores], axis=2).astype(np.float32)


def pair_graph(*, transposed=True, center=0, classes=CLASSES, limits=("most", "iou", "score"), tail=()):
    """Boxes and scores, straight into NonMaxSuppression; as tf2onnx and most tutorials write it."""
    nodes = [helper.make_node("Slice", ["rows", "zero", "four", "two"], ["boxes"])]
    nodes.append(helper.make_node("Slice", ["rows", "four", "end", "two"], ["scores"]))
    nodes.append(helper.make_node("Mul", ["boxes", "unit"], ["scaled"]))
    if transposed:
        nodes.append(helper.make_node("Transpose", ["scores"], ["by_class"], perm=[0, 2, 1]))
    else:
        nodes += [
            helper.make_node("Reshape", ["scores", "turned"], ["wrong"]),
            helper.make_node("Relu", ["wrong"], ["by_class"]),
        ]
    names = ["scaled", "by_class", *limits]
    nodes.append(helper.make_node("NonMaxSuppression", names, ["selected"], center_point_box=center))
    nodes += tail
    weights = {
        "zero": np.array([0]),
        "four": np.array([4]),
        "two": np.array([2]),
        "end": np.array([99]),
        "unit": np.ones(1, np.float32),
        "turned": np.array([1, classes, ANCHORS]),
        **LIMITS,
    }
    output = tail[-1].output[0] if tail else "selected"
    return make_graph(nodes, {"rows": (1, ANCHORS, 4 + classes)}, [output], weights)


def rows_graph(*, threshold=0.3):
    """The best class of each row, thresholded, told apart by an offset, thinned out: as Ultralytics' exporter does."""
    nodes = [
        helper.make_node("Transpose", ["rows"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["channels"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Split", ["turned", "parts"], ["boxes", "scores"], axis=2),
        helper.make_node("ReduceMax", ["scores", "last"], ["best"], keepdims=0),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=2, keepdims=0),
        helper.make_node("Gather", ["boxes", "first"], ["box"], axis=0),
        helper.make_node("Gather", ["best", "first"], ["one_score"], axis=0),
        helper.make_node("Gather", ["label", "first"], ["class"], axis=0),
        helper.make_node("Greater", ["one_score", "threshold"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["hits"]),
        helper.make_node("Transpose", ["hits"], ["places"], perm=[1, 0]),
        helper.make_node("GatherND", ["box", "places"], ["hit_box"]),
        helper.make_node("GatherND", ["one_score", "places"], ["hit_score"]),
        helper.make_node("GatherND", ["class", "places"], ["hit_class"]),
        helper.make_node("Cast", ["hit_class"], ["number"], to=1),
        helper.make_node("Unsqueeze", ["number", "one"], ["column"]),
        helper.make_node("Mul", ["column", "far"], ["offset"]),
        helper.make_node("Add", ["hit_box", "offset"], ["moved"]),
        helper.make_node("Unsqueeze", ["moved", "zero"], ["nms_box"]),
        helper.make_node("Unsqueeze", ["hit_score", "both"], ["nms_score"]),
        helper.make_node("NonMaxSuppression", ["nms_box", "nms_score", "most", "iou"], ["selected"]),
        helper.make_node("Gather", ["selected", "two"], ["kept"], axis=1),
        helper.make_node("Gather", ["hit_box", "kept"], ["y"], axis=0),
    ]
    weights = {
        "parts": np.array([4, CLASSES]),
        "last": np.array([2]),
        "first": np.array(0),
        "threshold": np.array(threshold, np.float32),
        "one": np.array([1]),
        "zero": np.array([0]),
        "both": np.array([0, 1]),
        "two": np.array(2),
        "far": np.array(1000, np.float32),
        **LIMITS,
    }
    return make_graph(nodes, {"rows": (1, ANCHORS, 4 + CLASSES)}, ["y", "label"], weights)


@pytest.mark.parametrize("transposed", [True, False], ids=["classes last", "classes first"])
def test_boxes_and_scores_are_found_and_thinned_out_alike(transposed):
    model = pair_graph(transposed=transposed)
    feed = {"rows": rows(np.random.default_rng(0))}
    selected = run_graph(model, feed)[0]
    tail = find_nms_tail(model)
    assert (tail.score_threshold, tail.iou_threshold, tail.max_boxes) == (pytest.approx(0.3), 0.5, 50)
    assert tail.limits == "score 0.3, IoU 0.5, 50 boxes a class"
    cut = cut_nms_tail(model, tail)
    assert "NonMaxSuppression" not in operators(cut)
    assert [output.name for output in cut.graph.output] == ["nms_boxes", "nms_scores"]
    boxes, scores = run_graph(cut, feed)
    assert boxes.shape == (1, ANCHORS, 4)
    assert scores.shape == (1, ANCHORS, CLASSES)
    if not transposed:
        return
    anchor, label = np.nonzero(scores[0] > 0.3)
    kept = nms(boxes[0][anchor], scores[0][anchor, label], label, iou=0.5, max_detections=300)
    expected = {(place, kind) for _, kind, place in selected.tolist()}
    assert {(anchor[place], label[place]) for place in kept} == expected


def test_rows_are_found_behind_their_thinning_out():
    model = rows_graph()
    tail = find_nms_tail(model)
    assert (tail.boxes, tail.scores, tail.limits) == ("rows", None, "score 0.3, IoU 0.5, 50 boxes a class")
    assert find_refusals(model)
    cut = cut_nms_tail(model, tail)
    assert [output.name for output in cut.graph.output] == ["rows", "label"]
    assert find_refusals(cut) == ()


def test_centres_are_told_from_corners():
    assert find_nms_tail(pair_graph(center=1)).box_format == "cxcywh"
    assert find_nms_tail(pair_graph(limits=("most",))).limits == "50 boxes a class"


def second_stage():
    return [
        helper.make_node("Cast", ["selected"], ["numbers"], to=1),
        helper.make_node("Transpose", ["numbers"], ["turn"], perm=[1, 0]),
        helper.make_node("MatMul", ["numbers", "turn"], ["y"]),
    ]


def moved_boxes():
    """One class for all boxes, each moved by a number of its own, with no scores of every class to be found."""
    nodes = [
        helper.make_node("Split", ["rows", "parts"], ["boxes", "scores", "offset"], axis=2),
        helper.make_node("Add", ["boxes", "offset"], ["moved"]),
        helper.make_node("Sigmoid", ["scores"], ["sure"]),
        helper.make_node("Transpose", ["sure"], ["by_class"], perm=[0, 2, 1]),
        helper.make_node("NonMaxSuppression", ["moved", "by_class", "most"], ["y"]),
    ]
    return make_graph(nodes, {"rows": (1, ANCHORS, 6)}, ["y"], {"parts": np.array([4, 1, 1]), **LIMITS})


@pytest.mark.parametrize(
    "model",
    [
        make_graph([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3, 8, 8)}, ["y"]),
        pair_graph(tail=second_stage()),
        moved_boxes(),
    ],
    ids=["no NMS", "layers behind it", "boxes moved by class"],
)
def test_what_is_left_as_it_is(model):
    assert find_nms_tail(model) is None
