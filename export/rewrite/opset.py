"""The version of the ONNX operator set."""

from __future__ import annotations

import onnx
from onnx import version_converter

from edgedet.errors import ExportError

__all__ = ["convert_opset"]


def convert_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return the model in another version of the standard operator set.

    Raises:
        ExportError: if an operator has no form in that version.
    """
    try:
        return version_converter.convert_version(model, version)
    except Exception as error:  # the converter raises RuntimeError and its C++ siblings alike
        raise ExportError(
            f"a graph that can be written in opset {version}", str(error).strip(), "Choose another --opset"
        ) from error
