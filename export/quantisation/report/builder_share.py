"""Which arithmetic TensorRT-RTX's builder puts into INT8 kernels, by its own listing; it needs no GPU for that."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import build_engine
from edgedet.export.graph import GraphIndex
from edgedet.export.onnx_file import write_onnx
from edgedet.export.quantisation.graph import prepare
from edgedet.export.quantisation.placement import find_layers

__all__ = ["BuilderShare", "build_and_count"]

TARGET = "sm_86"
"""A GPU with INT8 tensor cores that the builder knows; compute capability as in `EngineOptions`."""


@dataclass(frozen=True)
class BuilderShare:
    """What the builder made of a quantised network.

    Attributes:
        version: of TensorRT-RTX.
        target: the GPU that it built for.
        kernels: convolutions and matrix products in the engine.
        int8_kernels: those of them that multiply 8-bit integers.
        share: multiply-accumulates of the layers in the latter, 0..1 of those in all layers.
    """

    version: str
    target: str
    kernels: int
    int8_kernels: int
    share: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {**asdict(self), "share": round(self.share, 4)}


def build_and_count(model: onnx.ModelProto, float_model: onnx.ModelProto) -> BuilderShare:
    """Build an engine from a quantised network and read the builder's list of kernels.

    Args:
        model: the quantised network with its ModelSpec.
        float_model: the network before, whose layers have the same names.

    Raises:
        MissingDependencyError: if TensorRT-RTX is not installed (extra ``rtx``).
        EngineError: if it refuses the network.
        SpecError: if a dynamic input has no known shapes.
    """
    with tempfile.TemporaryDirectory(prefix="edgedet-builder-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        built = build_engine(path, EngineOptions("rtx", targets=(TARGET,)))
    products = [kernel for kernel in built.layers if kernel.is_product]
    in_int8 = [kernel for kernel in products if kernel.is_int8]
    arithmetic = {layer.node: layer.multiply_accumulates for layer in find_layers(GraphIndex(prepare(float_model)))}
    covered = {node for kernel in in_int8 for node in kernel.nodes}
    spent = sum(amount for node, amount in arithmetic.items() if node in covered)
    return BuilderShare(built.version, TARGET, len(products), len(in_int8), spent / max(sum(arithmetic.values()), 1))
