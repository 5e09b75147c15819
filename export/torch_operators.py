"""ONNX forms of the torch operators that torch's exporters lack, or take apart in a way that TensorRT refuses.

| operator | form | given to |
|---|---|---|
| max_unpool2d | MaxUnpool; torch counts places within a plane, ONNX through the whole tensor | both exporters |
| _upsample_bilinear2d_aa, _upsample_bicubic2d_aa | Resize with antialias; cubic's a is -0.5 | the TorchScript one |

What TensorRT refuses of these forms is rewritten afterwards (see ``export/rewrite``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from edgedet.optional import require

__all__ = ["torchscript_symbolics", "translations"]

_ANTIALIAS_OPSET = 18


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return torch operator -> function that builds its ONNX form, for torch's dynamo exporter."""
    torch = require("torch", extra="torch", purpose="torch's ONNX exporter")
    require("onnxscript", extra="torch", purpose="torch's ONNX exporter")
    return {torch.ops.aten.max_unpool2d.default: _max_unpool2d}


@contextlib.contextmanager
def torchscript_symbolics(opset: int) -> Iterator[None]:
    """Let torch's TorchScript exporter write operators that it lacks, while this lasts.

    Args:
        opset: operator set to be written; antialiasing needs 18.
    """
    torch = require("torch", extra="torch", purpose="torch's ONNX exporter")
    # Sizes arrive as numbers this way; the exporter says so itself where they are computed.
    unpooling = torch.onnx.symbolic_helper.parse_args("v", "v", "is")
    resizing = torch.onnx.symbolic_helper.parse_args("v", "is", "b", "v")
    forms: dict[str, tuple[Callable[..., Any], int]] = {"aten::max_unpool2d": (unpooling(_max_unpool2d_symbolic), 11)}
    if opset >= _ANTIALIAS_OPSET:
        forms["aten::_upsample_bilinear2d_aa"] = (resizing(_antialiased("linear")), _ANTIALIAS_OPSET)
        forms["aten::_upsample_bicubic2d_aa"] = (resizing(_antialiased("cubic")), _ANTIALIAS_OPSET)
    for name, (form, since) in forms.items():
        torch.onnx.register_custom_op_symbolic(name, form, since)
    try:
        yield
    finally:
        for name, (_, since) in forms.items():
            torch.onnx.unregister_custom_op_symbolic(name, since)


def _max_unpool2d(values: Any, places: Any, output_size: Any) -> Any:
    from onnxscript import opset18 as op

    rows, columns = output_size
    batch_and_channels = op.Shape(values, start=0, end=2)
    planes = op.ReduceProd(batch_and_channels, keepdims=0)
    step = op.Constant(value_int=rows * columns)
    first = op.Range(op.Constant(value_int=0), op.Mul(planes, step), step)
    firsts = op.Reshape(first, op.Concat(batch_and_channels, op.Constant(value_ints=[1, 1]), axis=0))
    shape = op.Concat(batch_and_channels, op.Constant(value_ints=[rows, columns]), axis=0)
    # The kernel plays no part once the output's shape is given.
    return op.MaxUnpool(values, op.Add(places, firsts), shape, kernel_shape=[1, 1], strides=[1, 1])


def _max_unpool2d_symbolic(g: Any, values: Any, places: Any, output_size: list[int]) -> Any:
    rows, columns = output_size
    batch_and_channels = _batch_and_channels(g, values)
    planes = g.op("ReduceProd", batch_and_channels, keepdims_i=0)
    step = _integers(g, rows * columns)
    first = g.op("Range", _integers(g, 0), g.op("Mul", planes, step), step)
    firsts = g.op("Reshape", first, g.op("Concat", batch_and_channels, _integers(g, [1, 1]), axis_i=0))
    shape = g.op("Concat", batch_and_channels, _integers(g, [rows, columns]), axis_i=0)
    places = g.op("Add", places, firsts)
    return g.op("MaxUnpool", values, places, shape, kernel_shape_i=[1, 1], strides_i=[1, 1])


def _antialiased(mode: str) -> Callable[..., Any]:
    def symbolic(g: Any, values: Any, output_size: list[int], align_corners: bool, scales: Any = None) -> Any:
        nothing = g.op("Constant", value_t=_torch().tensor([], dtype=_torch().float32))
        return g.op(
            "Resize",
            values,
            nothing,
            nothing,
            g.op("Concat", _batch_and_channels(g, values), _integers(g, output_size), axis_i=0),
            mode_s=mode,
            antialias_i=1,
            exclude_outside_i=1,
            cubic_coeff_a_f=-0.5,
            coordinate_transformation_mode_s="align_corners" if align_corners else "half_pixel",
        )

    return symbolic


def _batch_and_channels(g: Any, values: Any) -> Any:
    zero, two = _integers(g, [0]), _integers(g, [2])
    return g.op("Slice", g.op("Shape", values), zero, two, zero)


def _integers(g: Any, numbers: int | list[int]) -> Any:
    return g.op("Constant", value_t=_torch().tensor(numbers))


def _torch() -> Any:
    return require("torch", extra="torch", purpose="torch's ONNX exporter")
