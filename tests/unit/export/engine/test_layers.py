"""What TensorRT tells of an engine's kernels: TensorRT-RTX 1.7 in a list, TensorRT's engine inspector in JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgedet.export.engine.layers import (
    LayerPrecision,
    int8_share,
    product_type,
    read_inspection,
    read_listing,
    summarise_layers,
)

LISTING = re.sub(
    r"\n +",
    " ",
    """
Name: __myl_MulMinMaxRounCast_myl0_0, LayerType: kgen,
    Inputs: [ { Name: images, Dimensions: [1,3,32,32], Strides: [3072,1024,32,1], StrideOrder: [3,2,1,0],
    Datatype: Float, Format: (Linear) Row major linear format }], Constants: [],
    Outputs: [ { Name: c0, Dimensions: [1,4,32,32], Strides: [4096,1,128,4], StrideOrder: [3,0,2,1],
    Datatype: Int8, Format: (NHWC) Channel major format }],
    TacticName: __myl_MulMinMaxRounCast, StreamId: 0, Metadata: [ONNX Layer: x0_Q]
Name: wait_myl0_1, LayerType: wait, Inputs: [], Constants: [], Outputs: [],
    TacticName: , StreamId: 2, EventId: 3, Metadata:
Name: conv0_myl0_2, LayerType: correlation,
    Inputs: [ { Name: c0, Dimensions: [1,4,32,32], Datatype: Int8, Format: (NHWC) }],
    Constants: [ { Name: w, Dimensions: [16,4,3,3], Datatype: Int8, Format: (NHWC) },
    { Name: s, Dimensions: [1,16,1,1], Datatype: Float, Format: (NHWC) }],
    Outputs: [ { Name: y, Dimensions: [1,16,16,16], Datatype: Half, Format: (NHWC) }],
    TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: conv0][ONNX Layer: x0_DQ][ONNX Layer: conv0]

Bindings:
images
""",
)
"""Folded here: the builder writes each kernel on one line."""


def test_kernels_are_read() -> None:
    assert read_listing(LISTING) == (
        LayerPrecision(
            name="__myl_MulMinMaxRounCast_myl0_0",
            type="kgen",
            inputs=("Float",),
            constants=(),
            outputs=("Int8",),
            nodes=("x0_Q",),
            reads=("images",),
            writes=("c0",),
            tactic="__myl_MulMinMaxRounCast",
        ),
        LayerPrecision(
            name="conv0_myl0_2",
            type="correlation",
            inputs=("Int8",),
            constants=("Int8", "Float"),
            outputs=("Half",),
            nodes=("conv0", "x0_DQ"),
            reads=("c0",),
            writes=("y",),
            tactic="__myelin_CASK_STUB",
        ),
    )


def test_nothing_is_made_of_nothing() -> None:
    assert read_listing("") == ()
    assert int8_share(()) == 0


@pytest.mark.parametrize(
    ("type_", "inputs", "constants", "share"),
    [
        ("correlation", ("Int8",), ("Int8", "Float"), 1),
        ("correlation", ("Int8", "Float"), ("Int8",), 1),
        ("gemm", ("Int8", "Int8"), (), 1),
        ("runtime_fusion", ("Int8",), ("Int8",), 1),
        ("deconv", ("Float",), ("Int8",), 0),
        ("gemm", ("Int8",), ("Float",), 0),
        ("correlation", ("Half",), ("Half",), 0),
        ("kgen", ("Int8", "Int8"), (), 0),
    ],
)
def test_only_products_of_integers_count(
    type_: str, inputs: tuple[str, ...], constants: tuple[str, ...], share: float
) -> None:
    assert int8_share([LayerPrecision("n", type_, inputs, constants, ("Float",), ())]) == share


def tensor(name: str, description: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [1, 16, 32, 32], key: description}


LINEAR, NHWC8, C32 = (
    "Row major linear FP32",
    "Channel major FP16 format where channel % 8 == 0",
    "Thirty-two wide channel vectorized row major Int8 format",
)


def layer(type_: str, reads: list[Any], writes: list[Any], *nodes: str, **more: Any) -> dict[str, Any]:
    metadata = "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes)
    return {
        "Name": " + ".join(nodes) or type_,
        "LayerType": type_,
        "Inputs": reads,
        "Outputs": writes,
        "TacticValue": "0x0000000000000000",
        "StreamId": 0,
        "Metadata": metadata,
        **more,
    }


def convolution(reads: Any, writes: Any, node: str, weights: str, **more: Any) -> dict[str, Any]:
    """A layer as NVIDIA's developer guide shows one."""
    return layer(
        "CaskConvolution",
        [reads],
        [writes],
        node,
        f"{node}_relu",
        ParameterType="Convolution",
        Kernel=[3, 3],
        PaddingMode="kEXPLICIT_ROUND_DOWN",
        OutMaps=16,
        Groups=1,
        Weights={"Type": weights, "Count": 2304},
        Bias={"Type": "Float", "Count": 16},
        Activation="RELU",
        TacticName="sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32",
        **more,
    )


INSPECTION: dict[str, Any] = {
    "Layers": [
        layer(
            "Reformat",
            [tensor("images", LINEAR)],
            [tensor("Reformatted Input Tensor 0 to first", f"{C32}.")],
            ParameterType="Reformat",
            Origin="QDQ",
            TacticName="",
        ),
        convolution(tensor("Reformatted Input Tensor 0 to first", C32), tensor("a", C32), "first", "Int8"),
        layer("Reformat", [tensor("a", C32)], [tensor("b", NHWC8)], ParameterType="Reformat", Origin="QDQ"),
        convolution(tensor("b", NHWC8), tensor("c", NHWC8), "second", "Half"),
        layer("NoOp", [tensor("c", NHWC8)], [tensor("d", NHWC8)]),
        layer("kgen", [tensor("d", "Half")], [tensor("e", "Half")], "sigmoid", "mul"),
        # As newer versions name a tensor's type, and weights beside bias, both as constants.
        layer(
            "gemm",
            [tensor("e", "Float", "Datatype")],
            [tensor("f", "Float", "Datatype")],
            "classify",
            Constants=[tensor("w", "Float", "Datatype")],
        ),
        layer("fusion", [tensor("e", "Int8"), tensor("g", "Int8")], [tensor("h", "Half")], "qk",
              TacticName="sm80_xmma_gemm_i8f16_i8i32_f32_tn_n"),
        layer("fusion", [tensor("h", "Half")], [tensor("y", "Half")], "add", TacticName="pointwise_activation_fusion"),
        layer("TrainStation", [], []),
        layer("Reformat", [tensor("y", NHWC8)], [tensor("out", "Row major linear FP16 format")]),
    ],
    "Bindings": ["images", "out"],
}  # fmt: skip


def test_the_inspector_is_read() -> None:
    layers = read_inspection(json.dumps(INSPECTION))
    assert [found.type for found in layers] == [
        "Reformat", "CaskConvolution", "Reformat", "CaskConvolution", "kgen", "gemm", "fusion", "fusion", "Reformat",
    ]  # fmt: skip
    assert layers[1] == LayerPrecision(
        name="first + first_relu",
        type="CaskConvolution",
        inputs=("Int8",),
        constants=("Int8", "Float"),
        outputs=("Int8",),
        nodes=("first", "first_relu"),
        reads=("Reformatted Input Tensor 0 to first",),
        writes=("a",),
        tactic="sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32",
    )
    products = {found.nodes[0]: product_type(found) for found in layers if found.is_product}
    assert products == {"first": "int8", "second": "half", "classify": "float", "qk": "int8"}


def test_a_summary_says_what_broke_a_fusion() -> None:
    summary = summarise_layers(read_inspection(json.dumps(INSPECTION)))
    assert (summary.kernels, summary.products) == (9, 4)
    assert (summary.int8_share, summary.half_share, summary.float_share) == (0.5, 0.25, 0.25)
    assert summary.breaks == (
        "Float to Int8 between the network's input and 'first'",
        "Int8 to Half between 'first_relu' and 'second'",
        "layout of Half between 'add' and the network's output",
    )
    assert len(summary.reformats) == 3
    assert summary.to_json()["breaks"] == list(summary.breaks)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '{"Bindings": []}',
        # With less profiling detail there are names only.
        '{"Layers": ["Reformatting CopyNode for Input Tensor 0 to first", "first + relu"], "Bindings": ["x", "y"]}',
    ],
)
def test_an_inspector_that_tells_nothing(text: str) -> None:
    assert read_inspection(text) == ()


@pytest.mark.parametrize(
    ("words", "type_"),
    [
        ("Row major linear FP32", "Float"),
        ("Row major linear FP16 format", "Half"),
        ("Channel major INT8 format where channel == 4 and column stride % 32 == 0", "Int8"),
        ("Thirty-two wide channel vectorized row major Int8 format with 3 spatial dimensions", "Int8"),
        ("Row major linear UInt8 format", "UInt8"),
        ("Channel major BFloat16 format where channel % 8 == 0", "BFloat16"),
        ("Row major linear FP8 format", "FP8"),
        ("Row major linear Int64 format", "Int64"),
        ("Row major linear BOOL", "Bool"),
        ("Half", "Half"),
        ("Float", "Float"),
        ("Unknown format", "Unknown format"),
    ],
)
def test_types_in_nvidias_words(words: str, type_: str) -> None:
    (found,) = read_inspection(json.dumps({"Layers": [layer("Pooling", [tensor("x", words)], [])]}))
    assert found.inputs == (type_,)


def test_weights_that_are_computed_are_no_constants() -> None:
    described = layer("CaskConvolution", [tensor("x", C32), tensor("w", C32)], [], Weights={"Type": "Int8", "Count": 0})
    (found,) = read_inspection(json.dumps({"Layers": [described]}))
    assert found.constants == () and found.is_int8
