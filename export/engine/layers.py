"""The kernels of a built engine, from the list that TensorRT-RTX's builder logs when its profiling detail is full.

One line a kernel: ``Name: N, LayerType: T, Inputs: [ { ..., Datatype: D, ... }, ... ], Constants: [...],
Outputs: [...], TacticName: ..., Metadata: [ONNX Layer: A][ONNX Layer: B]``. Convolutions and matrix products have layer
types of their own; most kernels between them are ``kgen``, generated code; ``signal`` and ``wait`` order streams and
compute nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LayerPrecision", "int8_share", "read_listing"]

_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName: (?P<rest>.*)"
)
_PRODUCTS = ("correlation", "deconv", "gemm", "runtime_fusion")


@dataclass(frozen=True)
class LayerPrecision:
    """One kernel and the types that it works on, in TensorRT's words (``Float``, ``Half``, ``Int8``).

    Attributes:
        name: of the kernel.
        type: ``correlation`` for a convolution, ``deconv`` for a transposed one, ``gemm`` for a matrix product,
            ``runtime_fusion`` for one of these with what follows it, ``kgen`` for other generated code.
        inputs: type of each tensor that it reads.
        constants: type of each weight.
        outputs: type of each tensor that it writes.
        nodes: names of the ONNX nodes that it came from.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product, where the time goes."""
        return self.type in _PRODUCTS

    @property
    def is_int8(self) -> bool:
        """Whether it multiplies 8-bit integers with each other; weights or activations alone are widened first."""
        return (*self.inputs, *self.constants).count("Int8") >= 2


def read_listing(listing: str) -> tuple[LayerPrecision, ...]:
    """Return every kernel that computes, in the order in which they run."""
    found = (match for line in listing.splitlines() if (match := _LINE.fullmatch(line.strip())))
    return tuple(
        LayerPrecision(
            name=line["name"],
            type=line["type"],
            inputs=_types(line["inputs"]),
            constants=_types(line["constants"]),
            outputs=_types(line["outputs"]),
            nodes=tuple(dict.fromkeys(re.findall(r"\[ONNX Layer: (.*?)\]", line["rest"]))),
        )
        for line in found
        if line["type"] not in ("signal", "wait")
    )


def int8_share(layers: Iterable[LayerPrecision]) -> float:
    """Return which part of the convolutions and matrix products multiplies 8-bit integers, 0 to 1."""
    products = [layer for layer in layers if layer.is_product]
    return sum(layer.is_int8 for layer in products) / len(products) if products else 0.0


def _types(tensors: str) -> tuple[str, ...]:
    return tuple(re.findall(r"Datatype: (\w+)", tensors))
