"""The builder's list of kernels, as TensorRT-RTX 1.7 writes it."""

from __future__ import annotations

import re

import pytest

from edgedet.export.engine.layers import LayerPrecision, int8_share, read_listing

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
        LayerPrecision("__myl_MulMinMaxRounCast_myl0_0", "kgen", ("Float",), (), ("Int8",), ("x0_Q",)),
        LayerPrecision("conv0_myl0_2", "correlation", ("Int8",), ("Int8", "Float"), ("Half",), ("conv0", "x0_DQ")),
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
