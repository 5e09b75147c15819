"""A detector's graph that ends in NonMaxSuppression: what it thins out is found, and the rest cut off.

    boxes (B, A, 4), scores (B, C, A) -> NonMaxSuppression -> Gather ... -> finished detections
    rows (B, A, 4 + C) -> Slice, ReduceMax, NonZero, class offsets -> NonMaxSuppression -> Gather ... -> finished rows

The runtime does it instead: with the user's thresholds, class by class, and without an operator whose number of answers
depends on the picture. Not cut: proposals that later layers work on (Faster R-CNN), and whatever is put together from
several tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import onnx
from onnx import helper

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.graph import drop_unread

__all__ = ["NMS_KEY", "NMS_OUTPUTS", "NmsTail", "cut_nms_tail", "find_nms_tail"]

NMS_KEY = "edgedet.nms"
"""The metadata property that says what was cut off: a JSON object with the fields of `NmsTail`."""

NMS_OUTPUTS = ("nms_boxes", "nms_scores")
"""What boxes and scores are called where they are two tensors."""

_MOVES = {
    *("Cast", "Compress", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice"),
    *("Split", "Squeeze", "Transpose", "Unsqueeze"),
}
_ARITHMETIC = {"Add", "Clip", "Concat", "Div", "Max", "Min", "Mul", "Sub", "Where"}
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "RoiAlign", "MaxRoiPool"}
_SAME_NUMBERS = ("Cast", "Identity")


@dataclass(frozen=True)
class NmsTail:
    """What NonMaxSuppression is given, and its own limits.

    Attributes:
        boxes: tensor (B, A, 4), or rows (B, A, 4 + C ...) or (B, 4 + C ..., A) that hold the scores too.
        scores: tensor (B, A, C) or (B, C, A); None where the rows hold them.
        classes_last: whether the classes are the last axis of `scores`.
        box_format: ``corners`` (two opposite ones; the operator does not mind their order) or ``cxcywh``.
        score_threshold, iou_threshold, max_boxes: the limits (the last one a class), None where the graph computes them
            or has none.
    """

    boxes: str
    scores: str | None
    classes_last: bool
    box_format: Literal["corners", "cxcywh"]
    score_threshold: float | None
    iou_threshold: float | None
    max_boxes: int | None

    @property
    def limits(self) -> str:
        """The limits in words."""
        said = [
            f"score {self.score_threshold:.3g}" if self.score_threshold is not None else "",
            f"IoU {self.iou_threshold:.3g}" if self.iou_threshold is not None else "",
            f"{self.max_boxes} boxes a class" if self.max_boxes is not None else "",
        ]
        return ", ".join(part for part in said if part) or "none that are constants"


def find_nms_tail(model: onnx.ModelProto) -> NmsTail | None:
    """Find the tail of a model; None where there is none that can be cut off."""
    nodes = _suppressions(model)
    if not nodes:
        return None
    graph = GraphIndex(model)
    if any(node.op_type in _LAYERS for node in _behind(graph, nodes)):
        return None
    pair, classes = _pair(graph, nodes[0]) if len(nodes) == 1 else (None, 0)
    # One class for all may be the best one of each row, and its boxes moved so that those of other classes are far.
    if pair is not None and classes > 1:
        return pair
    joined = {_rows(graph, node) for node in nodes}
    rows = joined.pop() if len(joined) == 1 else None
    return pair if rows is None else _tail(graph, nodes[0], rows, None, classes_last=True)


def cut_nms_tail(model: onnx.ModelProto, tail: NmsTail) -> onnx.ModelProto:
    """Return a copy that answers with what NonMaxSuppression was given, and with outputs that do not depend on it.

    Boxes (B, A, 4) and scores (B, A, C) are called as `NMS_OUTPUTS` says; rows keep their name.
    """
    graph = GraphIndex(model)
    thinned = {name for node in _behind(graph, _suppressions(model)) for name in node.output}
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    kept = [value for value in model.graph.output if value.name not in thinned and value.name != tail.boxes]
    if tail.scores is None:
        outputs = [_value(graph, tail.boxes, tail.boxes)]
    else:
        boxes, scores = NMS_OUTPUTS
        order = [0, 1, 2] if tail.classes_last else [0, 2, 1]
        cut.graph.node.append(helper.make_node("Identity", [tail.boxes], [boxes]))
        cut.graph.node.append(helper.make_node("Transpose", [tail.scores], [scores], perm=order))
        outputs = [_value(graph, tail.boxes, boxes), _value(graph, tail.scores, scores, order)]
    del cut.graph.output[:]
    cut.graph.output.extend([*outputs, *kept])
    drop_unread(cut)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(cut, {**properties, NMS_KEY: json.dumps(asdict(tail))})
    return cut


def _suppressions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]


def _behind(graph: GraphIndex, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes and all that depends on them."""
    waiting, found = list(nodes), {id(node): node for node in nodes}
    while waiting:
        for name in waiting.pop().output:
            new = [reader for reader in graph.read_by(name) if id(reader) not in found]
            found |= {id(reader): reader for reader in new}
            waiting += new
    return list(found.values())


def _rows(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Return the tensor that both boxes and scores are columns of, each moved about and thinned out since."""
    origin = next((name for name in _box_path(graph, node.input[0]) if _last(graph, name) not in (4, None)), None)
    if origin is None or origin not in _score_path(graph, node.input[1]):
        return None
    while (producer := graph.maker_of(origin)) is not None and producer.op_type in ("Transpose", *_SAME_NUMBERS):
        origin = producer.input[0]
    axes = (graph.shape(origin) or ())[1:]
    return origin if len(axes) == 2 and all(size is not None and size > 4 for size in axes) else None


def _last(graph: GraphIndex, name: str) -> int | None:
    shape = graph.shape(name)
    return shape[-1] if shape else None


def _box_path(graph: GraphIndex, name: str) -> Iterator[str]:
    """Walk from boxes to what they were: over moves, and arithmetic with one number a box, up to a wider tensor."""
    while True:
        yield name
        node = graph.maker_of(name)
        if node is None or _last(graph, name) not in (4, None):
            return
        if node.op_type in _MOVES:
            name = node.input[0]
        elif node.op_type in _ARITHMETIC:
            wide = [part for part in node.input if _last(graph, part) == 4 and graph.constant(part) is None]
            if len(wide) != 1:
                return
            name = wide[0]
        else:
            return


def _score_path(graph: GraphIndex, name: str) -> list[str]:
    """Walk from one score a box to the scores of all classes that it is the best of."""
    path = [name]
    while (node := graph.maker_of(path[-1])) is not None:
        if node.op_type in _MOVES or node.op_type in ("ReduceMax", "TopK", "Max"):
            path.append(node.input[0])
        elif node.op_type == "Mul" and (factor := _factor(graph, node)) is not None:
            path.append(factor)
        else:
            break
    return path


def _factor(graph: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Return what is multiplied by a mask of booleans."""
    first, second = map(str, node.input)
    for own, other in ((first, second), (second, first)):
        cast = graph.maker_of(other)
        if cast is not None and cast.op_type == "Cast" and graph.element_type(cast.input[0]) == onnx.TensorProto.BOOL:
            return own
    return None


def _pair(graph: GraphIndex, node: onnx.NodeProto) -> tuple[NmsTail | None, int]:
    """Return the tail whose boxes and scores stand in the graph as they are, and how many classes it has."""
    boxes = _plain(graph, node.input[0])
    scores, classes_last = _plain(graph, node.input[1]), False
    producer = graph.maker_of(scores)
    if producer is not None and producer.op_type == "Transpose" and list(attribute(producer, "perm", ())) == [0, 2, 1]:
        scores, classes_last = _plain(graph, producer.input[0]), True
    box_shape, score_shape = graph.shape(boxes), graph.shape(scores)
    if box_shape is None or score_shape is None or len(box_shape) != 3 or len(score_shape) != 3:
        return None, 0
    anchors, classes = (score_shape[1], score_shape[2]) if classes_last else (score_shape[2], score_shape[1])
    moved = classes == 1 and _is_moved_by_class(graph, boxes)
    if box_shape[1:] != (anchors, 4) or anchors is None or classes is None or moved:
        return None, 0
    return _tail(graph, node, boxes, scores, classes_last=classes_last), classes


def _is_moved_by_class(graph: GraphIndex, boxes: str) -> bool:
    node = graph.maker_of(boxes)
    if node is None or node.op_type != "Add":
        return False
    return any(_last(graph, name) == 1 and graph.constant(name) is None for name in node.input)


def _plain(graph: GraphIndex, name: str) -> str:
    while (node := graph.maker_of(name)) is not None and node.op_type == "Identity":
        name = node.input[0]
    return name


def _tail(graph: GraphIndex, node: onnx.NodeProto, boxes: str, scores: str | None, *, classes_last: bool) -> NmsTail:
    most, iou, score = (_number(graph, node, index) for index in (2, 3, 4))
    return NmsTail(
        boxes=boxes,
        scores=scores,
        classes_last=classes_last,
        box_format="cxcywh" if attribute(node, "center_point_box", 0) else "corners",
        score_threshold=score if score is not None else _threshold_before(graph, node),
        iou_threshold=iou,
        max_boxes=None if most is None or most >= 1 << 31 else int(most),
    )


def _number(graph: GraphIndex, node: onnx.NodeProto, index: int) -> float | None:
    value = graph.constant(node.input[index]) if len(node.input) > index and node.input[index] else None
    return None if value is None else float(value.item())


def _threshold_before(graph: GraphIndex, node: onnx.NodeProto) -> float | None:
    """Return the number that scores were compared with before they came here."""
    for name in _score_path(graph, node.input[1]):
        for reader in graph.read_by(name):
            if reader.op_type in ("Greater", "GreaterOrEqual") and reader.input[0] == name:
                value = graph.constant(reader.input[1])
                if value is not None and value.size == 1:
                    return float(value.item())
    return None


def _value(graph: GraphIndex, source: str, name: str, order: list[int] | None = None) -> onnx.ValueInfoProto:
    shape = graph.shape(source) or ()
    axes = [shape[axis] for axis in order or range(len(shape))]
    return helper.make_tensor_value_info(name, graph.element_type(source), ["batch" if a is None else a for a in axes])
