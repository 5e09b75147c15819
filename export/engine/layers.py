"""The kernels of a built engine and the types that they work on, in the two forms in which TensorRT tells them.

TensorRT-RTX's builder logs a list when its profiling detail is full (`read_listing`), one line a kernel: ``Name: N,
LayerType: T, Inputs: [ { Name: A, ..., Datatype: D, ... }, ... ], Constants: [...], Outputs: [...], TacticName: ...,
Metadata: [ONNX Layer: A][ONNX Layer: B]``. Convolutions and matrix products have layer types of their own; most kernels
between them are ``kgen``, generated code; ``signal`` and ``wait`` order streams and compute nothing.

TensorRT's engine inspector gives JSON (`read_inspection`): ``{"Layers": [...], "Bindings": [...]}``, a layer with
``Name``, ``LayerType`` (``CaskConvolution``, ``Reformat``, ``kgen``, ...), ``Inputs`` and ``Outputs`` and, where there
are any, ``Constants`` or ``Weights`` and ``Bias``, ``TacticName`` and ``Metadata``. A tensor's type stands in words
under ``Format/Datatype`` ("Channel major FP16 format where channel % 8 == 0", or plain "Half"), or under ``Datatype``.

Source: NVIDIA's TensorRT documentation, Engine Inspector; TensorRT Engine Explorer, Apache-2.0, for the words.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LayerPrecision",
    "LayerSummary",
    "int8_share",
    "product_type",
    "read_inspection",
    "read_listing",
    "summarise_layers",
]

_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName: (?P<rest>.*)"
)
_PRODUCT = re.compile(r"conv|gemm|matrixmultiply|matmul|fullyconnected|correlation|runtime_fusion", re.IGNORECASE)
_FUSION = re.compile(r"gemm|conv|fprop|dgrad", re.IGNORECASE)
_IDLE = ("signal", "wait", "NoOp", "TrainStation", "Constant")
_CONVERSION = re.compile(r"QuantizeLinear|Cast")

_WORDS = {
    "float": "Float", "fp32": "Float", "half": "Half", "fp16": "Half", "bfloat16": "BFloat16", "bf16": "BFloat16",
    "fp8": "FP8", "int8": "Int8", "uint8": "UInt8", "int32": "Int32", "int64": "Int64", "bool": "Bool",
}  # fmt: skip
"""What types are called, in lower case -> what they are called here."""


@dataclass(frozen=True)
class LayerPrecision:
    """One kernel and the types that it works on, in TensorRT's words (``Float``, ``Half``, ``Int8``).

    Attributes:
        name: of the kernel.
        type: as TensorRT names it: ``correlation`` or ``CaskConvolution`` for a convolution, ``deconv`` for a
            transposed one, ``gemm`` for a matrix product, ``runtime_fusion`` for one of these with what follows it,
            ``Reformat`` for a change of type or layout, ``kgen`` for other generated code.
        inputs: type of each tensor that it reads.
        constants: type of each weight.
        outputs: type of each tensor that it writes.
        nodes: names of the ONNX nodes that it came from.
        reads, writes: names of the tensors.
        tactic: name of the kernel's code; empty where it is not told.
    """

    name: str
    type: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    tactic: str = ""

    @property
    def is_product(self) -> bool:
        """Whether it is a convolution or a matrix product, where the time goes."""
        # A fusion may be of anything; what its code is called tells.
        return bool(_PRODUCT.search(self.type)) or (self.type == "fusion" and bool(_FUSION.search(self.tactic)))

    @property
    def is_int8(self) -> bool:
        """Whether it multiplies 8-bit integers with each other; weights or activations alone are widened first."""
        return (*self.inputs, *self.constants).count("Int8") >= 2

    @property
    def only_reformats(self) -> bool:
        """Whether it only changes a tensor's type or layout: one that came from nothing but Q/DQ and casts."""
        if self.type == "Reformat":
            return True
        if self.is_product or self.constants or not len(self.inputs) == len(self.outputs) == 1:
            return False
        # Generated code that names no node is what the builder itself put in.
        return all(map(_CONVERSION.search, self.nodes)) if self.nodes else self.type == "kgen"


@dataclass(frozen=True)
class LayerSummary:
    """What the builder made of a network.

    Attributes:
        kernels: number of kernels.
        products: how many of them are convolutions or matrix products, where the time goes.
        int8_share, half_share, float_share: which part of the products works on 8-bit integers, 16-bit and 32-bit
            floats, 0..1 each.
        reformats: kernels that only change a tensor's type or layout: what broke a fusion.
        breaks: for each of these, between which nodes it stands, in words.
    """

    kernels: int
    products: int
    int8_share: float
    half_share: float
    float_share: float
    reformats: tuple[str, ...]
    breaks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON object."""
        return {
            "kernels": self.kernels,
            "products": self.products,
            "int8_share": round(self.int8_share, 4),
            "half_share": round(self.half_share, 4),
            "float_share": round(self.float_share, 4),
            "reformats": list(self.reformats),
            "breaks": list(self.breaks),
        }


def read_listing(listing: str) -> tuple[LayerPrecision, ...]:
    """Return every kernel of TensorRT-RTX's list that computes, in the order in which they run."""
    found = (match for line in listing.splitlines() if (match := _LINE.fullmatch(line.strip())))
    return tuple(
        LayerPrecision(
            name=line["name"],
            type=line["type"],
            inputs=_types(line["inputs"]),
            constants=_types(line["constants"]),
            outputs=_types(line["outputs"]),
            nodes=_nodes(line["rest"]),
            reads=_names(line["inputs"]),
            writes=_names(line["outputs"]),
            tactic=line["rest"].partition(",")[0],
        )
        for line in found
        if line["type"] not in _IDLE
    )


def read_inspection(text: str) -> tuple[LayerPrecision, ...]:
    """Return every kernel of the engine inspector's JSON that computes, in the order in which they run.

    Nothing where it has no more than names, as for an engine that was built with less profiling detail.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, TypeError, KeyError):
        return ()
    found = (layer for layer in layers if isinstance(layer, dict) and layer.get("LayerType") not in (None, *_IDLE))
    return tuple(_inspected(layer) for layer in found)


def int8_share(layers: Iterable[LayerPrecision]) -> float:
    """Return which part of the convolutions and matrix products multiplies 8-bit integers, 0 to 1."""
    products = [layer for layer in layers if layer.is_product]
    return sum(layer.is_int8 for layer in products) / len(products) if products else 0.0


def product_type(layer: LayerPrecision) -> str:
    """Return what a convolution or matrix product works on: ``int8``, ``half`` (BFloat16 too) or ``float``."""
    if layer.is_int8:
        return "int8"
    return "half" if {*layer.inputs, *layer.constants} & {"Half", "BFloat16"} else "float"


def summarise_layers(layers: Sequence[LayerPrecision]) -> LayerSummary:
    """Count a builder's kernels by the types that they work on, and say where a fusion was broken."""
    products = [layer for layer in layers if layer.is_product]
    kinds = Counter(map(product_type, products))
    count = max(len(products), 1)
    reformats = [layer for layer in layers if layer.only_reformats]
    return LayerSummary(
        kernels=len(layers),
        products=len(products),
        int8_share=int8_share(layers),
        half_share=kinds["half"] / count,
        float_share=kinds["float"] / count,
        reformats=tuple(layer.name for layer in reformats),
        breaks=tuple(_place(layer, layers) for layer in reformats),
    )


def _place(reformat: LayerPrecision, layers: Sequence[LayerPrecision]) -> str:
    """Say what a change of type or layout is, and between which nodes it stands."""
    before = [layer for layer in layers if set(layer.writes) & set(reformat.reads)]
    after = [layer for layer in layers if set(layer.reads) & set(reformat.writes)]
    source = f"'{(before[-1].nodes or (before[-1].name,))[-1]}'" if before else "the network's input"
    sink = f"'{(after[0].nodes or (after[0].name,))[0]}'" if after else "the network's output"
    first, last = (types[0] if types else "?" for types in (reformat.inputs, reformat.outputs))
    what = f"{first} to {last}" if first != last else f"layout of {first}"
    return f"{what} between {source} and {sink}"


def _types(tensors: str) -> tuple[str, ...]:
    return tuple(re.findall(r"Datatype: (\w+)", tensors))


def _names(tensors: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{ Name: (.*?), Dimensions", tensors))


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"\[ONNX Layer: (.*?)\]", metadata)))


def _inspected(layer: Mapping[str, Any]) -> LayerPrecision:
    inputs, outputs = layer.get("Inputs") or [], layer.get("Outputs") or []
    constants = [_type_of(tensor) for tensor in layer.get("Constants") or []]
    constants += [_word(layer[name]["Type"]) for name in ("Weights", "Bias") if _has_values(layer.get(name))]
    return LayerPrecision(
        name=str(layer.get("Name", "")),
        type=str(layer["LayerType"]),
        inputs=tuple(map(_type_of, inputs)),
        constants=tuple(constants),
        outputs=tuple(map(_type_of, outputs)),
        nodes=_nodes(str(layer.get("Metadata", ""))),
        reads=tuple(str(tensor.get("Name", "")) for tensor in inputs),
        writes=tuple(str(tensor.get("Name", "")) for tensor in outputs),
        tactic=str(layer.get("TacticName", "")),
    )


def _has_values(parameter: object) -> bool:
    # A convolution whose weights are computed has the entry all the same, with a count of 0.
    return isinstance(parameter, dict) and bool(parameter.get("Count")) and "Type" in parameter


def _type_of(tensor: Mapping[str, Any]) -> str:
    return _word(str(tensor.get("Datatype") or tensor.get("Format/Datatype") or ""))


def _word(description: str) -> str:
    """Return the type that is named in a description; the description itself where none is."""
    found = (_WORDS.get(word.lower()) for word in re.findall(r"\w+", description))
    return next((word for word in found if word is not None), description)
