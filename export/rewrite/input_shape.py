"""The shape of the picture input: batch fixed or free, height and width fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgedet.errors import ExportError
from edgedet.model_spec import Layout

__all__ = ["InputShape", "set_input_shape"]


@dataclass(frozen=True)
class InputShape:
    """The shape to give the picture input.

    Attributes:
        batch: pictures per run, or None for any number.
        width, height: size in pixels.
        layout: where those axes stand.
    """

    batch: int | None
    width: int
    height: int
    layout: Layout

    @property
    def axes(self) -> tuple[int | None, int, int, int]:
        """The four axes in order; None is dynamic."""
        if self.layout == "NCHW":
            return self.batch, 3, self.height, self.width
        return self.batch, self.height, self.width, 3


def set_input_shape(model: onnx.ModelProto, name: str, shape: InputShape) -> int:
    """Give input `name` a shape and derive all others anew; return how many axes changed.

    Raises:
        ExportError: if the network does not run with that shape, because another one is baked into its constants.
    """
    value = next(value for value in model.graph.input if value.name == name)
    dims = value.type.tensor_type.shape.dim
    changed = [axis for axis, (dim, wanted) in enumerate(zip(dims, shape.axes, strict=False)) if _axis(dim) != wanted]
    if not changed:
        return 0
    for axis in changed:
        wanted = shape.axes[axis]
        dims[axis].Clear()
        if wanted is None:
            dims[axis].dim_param = "batch"
        else:
            dims[axis].dim_value = wanted
    del model.graph.value_info[:]
    _derive_shapes(model)
    _try(model, shape)
    return len(changed)


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") else None


def _derive_shapes(model: onnx.ModelProto) -> None:
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
        output.CopyFrom(found)


def _try(model: onnx.ModelProto, shape: InputShape) -> None:
    batch = shape.batch
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, _zeros(model))
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise _baked(shape, str(error).strip().splitlines()[0]) from error
    if batch is None and any(len(output) % 2 for output in outputs if output.ndim):
        raise _baked(shape, f"outputs of shape {[output.shape for output in outputs]} for 2 pictures")


def _zeros(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Return what to feed; 2 along free axes shows where a 1 is baked in."""
    weights = {tensor.name for tensor in model.graph.initializer}
    tensors = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in weights}
    return {
        name: np.zeros(
            [_axis(dim) or 2 for dim in tensor.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        )
        for name, tensor in tensors.items()
    }


def _baked(shape: InputShape, found: str) -> ExportError:
    batch = "dynamic" if shape.batch is None else shape.batch
    return ExportError(
        f"a network that takes batch {batch} and {shape.width}x{shape.height} pixels",
        f"one with another shape baked into its constants ({found})",
        "Leave out --batch and --imgsz, or export the original checkpoint with them",
    )
