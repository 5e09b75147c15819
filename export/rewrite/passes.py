"""The passes that replace what TensorRT refuses, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from edgedet.export.rewrite.constants import fold_constants
from edgedet.export.rewrite.max_unpool import rewrite_max_unpool
from edgedet.export.rewrite.resize import rewrite_resize
from edgedet.export.rewrite.scatter import rewrite_scatter
from edgedet.export.rewrite.sequences import rewrite_sequences
from edgedet.export.rewrite.tensorrt import RULES, is_refused
from edgedet.export.rewrite.topk import rewrite_topk

__all__ = ["PASSES", "Pass", "run_passes"]


@dataclass(frozen=True)
class Pass:
    """A pass: its name, the operators without which it has nothing to do, and what it does to a model in place.

    ``run`` returns how many places it touched, and ``done`` says so.
    """

    name: str
    operators: frozenset[str]
    run: Callable[[onnx.ModelProto], int]
    done: str


PASSES: tuple[Pass, ...] = (
    Pass(
        "constants",
        frozenset(name for rule in RULES if rule.rewrite.startswith("constants") for name in rule.operators),
        lambda model: fold_constants(model, is_refused),
        "{} constant nodes folded",
    ),
    Pass("max_unpool", frozenset({"MaxPool"}), rewrite_max_unpool, "{} nodes freed of remembered places"),
    Pass(
        "resize",
        frozenset({"Resize"}),
        lambda model: rewrite_resize(model, is_refused),
        "{} Resize written as matrix products",
    ),
    Pass("scatter", frozenset({"ScatterElements", "ScatterND"}), rewrite_scatter, "{} scatters written as Gather"),
    Pass(
        "sequences",
        frozenset({"SequenceAt", "ConcatFromSequence"}),
        rewrite_sequences,
        "{} members of sequences read without them",
    ),
    Pass("topk", frozenset({"TopK"}), rewrite_topk, "{} TopK set to what is read"),
)
"""Every pass."""


def run_passes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Run every pass that finds its operators, in place, and return what each did in a few words."""
    touched = ((entry, entry.run(model)) for entry in PASSES if entry.operators & _operators(model))
    done = tuple(entry.done.format(count) for entry, count in touched if count)
    if done:
        _complete_outputs(model)
    return done


def _complete_outputs(model: onnx.ModelProto) -> None:
    """Write the shapes of outputs that could not be told before: ONNX does not infer MaxUnpool's."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
        axes = output.type.tensor_type.shape.dim
        if not axes or any(not axis.WhichOneof("value") for axis in axes):
            output.CopyFrom(found)


def _operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}
