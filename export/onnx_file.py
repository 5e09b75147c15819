"""ONNX files: load with every fault named, describe tensors, write atomically with the ModelSpec inside."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgedet.atomic_file import atomic_file
from edgedet.errors import ModelFileError, SpecError
from edgedet.model_spec import ModelSpec, TensorSpec

__all__ = ["graph_inputs", "graph_outputs", "load_onnx", "pick_tensors", "stamp_spec", "write_onnx"]


def load_onnx(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file with its external data, and run ONNX's own checker.

    Raises:
        ModelFileError: if it cannot be opened, is not ONNX, is truncated, lacks its external data, or breaks the rules
            of ONNX.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelFileError("an ONNX file", f"'{path}' ({error.strerror})", "Correct the path") from error
    except (DecodeError, ValueError) as error:
        raise ModelFileError(
            "an ONNX file", f"'{path}', which cannot be parsed ({error})", "Export or copy it again"
        ) from error
    if not model.graph.output:
        raise ModelFileError(
            "an ONNX file", f"'{path}', in which there is no graph with outputs", "Export or copy it again"
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelFileError(
            f"the weights of '{path.name}' in files beside it",
            str(error).strip().rstrip("."),
            "Copy the external data files into the same folder",
        ) from error
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelFileError(
            "a valid ONNX graph", f"'{path}': {str(error).strip().rstrip('.')}", "Export it again"
        ) from error
    return model


def graph_inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the inputs that a caller must feed (initializers that older files list as inputs are left out)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(_tensor_spec(value) for value in model.graph.input if value.name not in weights)


def graph_outputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the graph's outputs in order; -1 where an axis is dynamic or unknown."""
    return tuple(_tensor_spec(value) for value in model.graph.output)


def pick_tensors(found: tuple[TensorSpec, ...], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Return the tensors of these names, in this order.

    Raises:
        SpecError: if one is not there.
    """
    by_name = {value.name: value for value in found}
    absent = [name for name in names if name not in by_name]
    if absent:
        raise SpecError(f"the outputs {', '.join(names)}", f"only {', '.join(by_name)}", "Correct the output names")
    return tuple(by_name[name] for name in names)


def stamp_spec(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Write the spec into the model's metadata properties, replacing an older one and keeping the others."""
    properties = {entry.key: entry.value for entry in model.metadata_props} | spec.to_metadata()
    onnx.helper.set_model_props(model, properties)


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write the model under a temporary name beside `path`, then rename it.

    Raises:
        SinkError: if the folder does not exist or cannot be written, or the disk is full; `path` is then as it was.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else "unknown"
    return TensorSpec(value.name, shape, str(dtype))
