"""The outputs of transformer detectors: logits and boxes of a few hundred queries."""

from __future__ import annotations

from edgedet.export.families.onnx_network import OnnxNetwork
from edgedet.model_spec import TensorSpec

__all__ = ["query_outputs"]

_MOST_QUERIES = 1000


def query_outputs(network: OnnxNetwork) -> tuple[TensorSpec, TensorSpec] | None:
    """Find logits (B, Q, C) and boxes (B, Q, 4) among the outputs; None where there is no such pair.

    Of several candidates those named after logits (or classes) and boxes are taken; what else the network returns
    (hidden states, auxiliary outputs) is left aside.
    """
    tensors = [output for output in network.outputs if len(output.shape) == 3 and output.shape[1] <= _MOST_QUERIES]
    boxes = _one(tensors, 4, ("box",))
    if boxes is None:
        return None
    others = [output for output in tensors if output is not boxes and output.shape[1] == boxes.shape[1]]
    logits = others[0] if len(others) == 1 else _one(others, None, ("logit", "class", "cls", "score"))
    return None if logits is None or logits.shape[2] < 1 else (logits, boxes)


def _one(tensors: list[TensorSpec], columns: int | None, words: tuple[str, ...]) -> TensorSpec | None:
    fitting = [value for value in tensors if columns is None or value.shape[2] == columns]
    if len(fitting) == 1:
        return fitting[0]
    named = [value for value in fitting if any(word in value.name.lower() for word in words)]
    return named[0] if named else None
