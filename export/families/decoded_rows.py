"""Decoded YOLO boxes with objectness in one tensor, (B, A, 5+C): what YOLOv5 and YOLOv7 export by default."""

from __future__ import annotations

from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import is_rows, rows_per_cell, usual_class_names
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.dense_boxes import DenseBoxes

__all__ = ["decoded_rows", "read_decoded_rows"]

_PYRAMIDS = ((8, 16, 32), (8, 16, 32, 64), (16, 32))


def decoded_rows(network: OnnxNetwork, per_cell: tuple[int, ...]) -> TensorSpec | None:
    """Find the output whose rows are that many boxes for each cell of a YOLO pyramid.

    A dynamic number of rows, or a dynamic picture size, fits any. Rows to which nothing but an activation was applied
    are not decoded.
    """
    for output in network.outputs:
        if not is_rows(output, 6) or network.computed_before(output.name) <= {"Sigmoid", "Softmax"}:
            continue
        if output.shape[1] == -1 or -1 in network.size:
            return output
        if any(rows_per_cell(output, network.size, strides) in per_cell for strides in _PYRAMIDS):
            return output
    return None


def read_decoded_rows(
    network: OnnxNetwork, request: ExportRequest, rows: TensorSpec, convention: InputSpec
) -> LoadedModel:
    """Read a network by its tensor of decoded boxes; raw grids beside it are left aside, mask prototypes make masks."""
    prototypes = [value for value in network.outputs if _is_prototypes(value, network.size)]
    masks = prototypes[0].shape[1] if prototypes else 0
    head = head_with_fragment(
        request, DenseBoxes, layout="anchors_first", box_format="cxcywh", objectness=True, mask_coefficients=masks
    )
    return LoadedModel(
        network=network.model,
        head=head,
        input=picture_input(network, convention),
        class_names=usual_class_names(rows.shape[2] - 5 - masks),
        output_names=(rows.name, *(value.name for value in prototypes[:1])),
        task="instance" if masks else "detect",
    )


def _is_prototypes(output: TensorSpec, size: tuple[int, int]) -> bool:
    return len(output.shape) == 4 and output.shape[2:] == (size[1] // 4, size[0] // 4)
