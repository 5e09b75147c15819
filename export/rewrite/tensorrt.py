"""What TensorRT's ONNX parser refuses: one table of rules, each with the pass that helps and what else to do.

Sources: the support matrix of onnx-tensorrt (docs/operators.md, TensorRT 10.15: opset 9 to 24), and the parser and
builder of TensorRT-RTX 1.7, over which the tests run a small graph of each rule. NonZero and DeformConv are plugins of
TensorRT 10's own library, which RTX and TensorRT without plugins lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from edgedet.export.graph import GraphIndex, attribute
from edgedet.export.rewrite.resize import KNOWN_COORDINATES
from edgedet.export.rewrite.topk import LARGEST_K

__all__ = ["RULES", "Refusal", "Rule", "find_refusals", "is_refused", "summarise"]

Condition = Callable[[GraphIndex, onnx.NodeProto], bool]

_TYPES = (TensorProto.INT16, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.STRING)
_CONTRIB = ("Gelu", "QuantizeLinear", "DequantizeLinear")
_LIST = "answers with a list of unknown length, which not every TensorRT has"
_ANSWER_IS_A_LIST = "Move what needs a list of places behind the network, or write it as a mask (Where, TopK)"


@dataclass(frozen=True)
class Rule:
    """One thing that TensorRT refuses.

    Attributes:
        operators: what it is about.
        refused: tells whether a node of these is refused.
        reason: why, after the operator's name.
        rewrite: the pass that replaces it where it can, and what it needs for that; empty where there is none.
        action: what the user can do where it was not replaced, a sentence without its full stop.
    """

    operators: tuple[str, ...]
    refused: Condition
    reason: str
    action: str
    rewrite: str = ""


@dataclass(frozen=True)
class Refusal:
    """A node that TensorRT will refuse: its name (or first output's), operator, why, and what to do."""

    node: str
    operator: str
    reason: str
    action: str


def _always(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return True


def _is_dilated(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return any(step != 1 for step in attribute(node, "dilations", ()))


def _remembers_places(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return len(node.output) > 1 and bool(node.output[1])


def _is_antialiased(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "antialias", 0))


def _has_other_coordinates(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return attribute(node, "coordinate_transformation_mode", "half_pixel") not in KNOWN_COORDINATES


def _keeps_aspect(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch")


def _reduces(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "reduction", "none") != "none")


def _keeps_too_many(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    count = graph.constant(node.input[1]) if len(node.input) > 1 else None
    return int(attribute(node, "k", 0) if count is None else count.item()) > LARGEST_K


def _casts_to_unknown(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    return attribute(node, "to", 0) in _TYPES


_POOLS = ("AveragePool", "LpPool", "MaxPool")
_BITS = ("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor")
_LISTS = ("Compress", "NonZero", "Unique")
_SEQUENCES = (
    *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
    *("SequenceLength", "SequenceMap", "SplitToSequence", "Optional", "OptionalGetElement", "OptionalHasElement"),
)
_INTEGER_MATRICES = ("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul")
_OTHERS = (
    *("AffineGrid", "Bernoulli", "CenterCropPad", "Col2Im", "DFT", "Det", "ImageDecoder", "MaxRoiPool"),
    *("MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "RegexFullMatch", "SoftmaxCrossEntropyLoss"),
    *("StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
)

RULES: tuple[Rule, ...] = (
    Rule(
        ("MaxUnpool",),
        _always,
        "is not in TensorRT",
        "Pool with a stride equal to the kernel and without padding, and unpool to the size that was pooled",
        "max_unpool: windows without overlap, of known size",
    ),
    Rule(
        ("MaxPool",),
        _remembers_places,
        "answers with places, which TensorRT's does not",
        "Pool with a stride equal to the kernel and without padding, and unpool to the size that was pooled",
        "max_unpool: windows without overlap, of known size",
    ),
    Rule(_POOLS, _is_dilated, "with dilations is not in TensorRT", "Pool with dilation 1, or slice before pooling"),
    Rule(
        ("Resize",),
        _is_antialiased,
        "with antialias is not in TensorRT",
        "Fix the input's size with --imgsz, so that the sizes before and after are known",
        "resize: linear or cubic, sizes known",
    ),
    Rule(
        ("Resize",),
        _has_other_coordinates,
        "with its coordinate transformation is not in TensorRT",
        f"Export it with {', '.join(KNOWN_COORDINATES[:-1])} or {KNOWN_COORDINATES[-1]}",
        "resize: linear or cubic, sizes known",
    ),
    Rule(
        ("Resize",),
        _keeps_aspect,
        "with a keep_aspect_ratio_policy is not in TensorRT",
        "Export it with the sizes that come out",
    ),
    Rule(
        ("ScatterElements", "ScatterND"),
        _reduces,
        "with a reduction is not in TensorRT",
        "Write it as a matrix product with a one-hot matrix, or let the places be constants",
        "scatter: constant places, at most 16 updates of each",
    ),
    Rule(
        ("TopK",),
        _keeps_too_many,
        f"keeps more than TensorRT's {LARGEST_K}",
        f"Export the network with at most {LARGEST_K} candidates (pre_nms_topk, max_det and the like)",
        "topk: only where a Slice or Gather behind it reads fewer",
    ),
    Rule(_LISTS, _always, _LIST, _ANSWER_IS_A_LIST, "constants: of a constant"),
    Rule(
        ("DeformConv",),
        _always,
        "is a plugin, where TensorRT has it at all",
        "Build with TensorRT 10's plugin library, or train with plain convolutions",
    ),
    Rule(_INTEGER_MATRICES, _always, "is not in TensorRT", "Quantise with QuantizeLinear and DequantizeLinear (QDQ)"),
    Rule(
        _SEQUENCES,
        _always,
        "is not in TensorRT, which has no sequences",
        "Use Split and Concat",
        "sequences: parts of a split and tensors put together, picked by constant numbers",
    ),
    Rule(_BITS, _always, "is not in TensorRT", "Use And, Or, Not on booleans", "constants: of a constant"),
    Rule(("Cast",), _casts_to_unknown, "gives a type that TensorRT does not have", "Use int32 or int64"),
    Rule(_OTHERS, _always, "is not in TensorRT", "Move it behind the network", "constants: of a constant"),
)
"""Every rule, in the order in which a node is held against them."""


def is_refused(graph: GraphIndex, node: onnx.NodeProto) -> bool:
    """Tell whether a node of the main graph breaks a rule."""
    return _broken(graph, node) is not None


def find_refusals(model: onnx.ModelProto) -> tuple[Refusal, ...]:
    """Return every node that TensorRT will refuse, those of subgraphs and local functions included, in graph order."""
    graph = GraphIndex(model)
    own = {(function.domain, function.name) for function in model.functions}
    found = []
    for node in _all_nodes(model):
        name = node.name or next(iter(node.output), node.op_type)
        rule = _broken(graph, node)
        if rule is not None:
            found.append(Refusal(name, node.op_type, rule.reason, rule.action))
        elif _is_foreign(node, own):
            reason = f"of the domain {node.domain} is not one of ONNX's operators"
            found.append(Refusal(name, node.op_type, reason, "Build with a plugin for it, or export without it"))
    return tuple(found)


def summarise(refusals: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """Join refusals that differ in the node only; the node of each is then the first one's name and how many follow."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.operator, refusal.reason, refusal.action), []).append(refusal.node)
    return tuple(
        Refusal(names[0] + (f" and {len(names) - 1} more" if names[1:] else ""), *group)
        for group, names in groups.items()
    )


def _broken(graph: GraphIndex, node: onnx.NodeProto) -> Rule | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    return next((rule for rule in RULES if node.op_type in rule.operators and rule.refused(graph, node)), None)


def _is_foreign(node: onnx.NodeProto, own: set[tuple[str, str]]) -> bool:
    if node.domain in ("", "ai.onnx") or (node.domain, node.op_type) in own:
        return False
    return not node.op_type.endswith("_TRT") and node.op_type not in _CONTRIB


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)][::-1]
    while waiting:
        node = waiting.pop()
        yield node
        for entry in node.attribute:
            for graph in (*entry.graphs[::-1], entry.g):
                waiting.extend(graph.node[::-1])
