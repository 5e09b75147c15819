"""Ultralytics: YOLOv3u, v5u, v8, v9, v10, 11, 12 and 26, to detect and to segment; ``.pt`` and their own ``.onnx``.

A network with two heads (v10, 26) is exported with its one-to-many head, whose dense boxes go through NMS at run time:
that is Ultralytics' own default, scores slightly higher, quantises without a TopK in the graph, and avoids the crash of
TensorRT 10.3 on INT8 engines of YOLO26 with its end-to-end head. ``--family ultralytics:end-to-end`` takes the other.

Source: https://docs.ultralytics.com (tensor layouts and ONNX metadata as their exporter writes them).
"""

from __future__ import annotations

import ast
from typing import Any, ClassVar, Literal

import onnx

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.ultralytics_checkpoint import (
    UltralyticsCheckpoint,
    is_ultralytics_pickle,
    load_ultralytics,
)
from edgedet.export.onnx_file import graph_inputs, graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.rewrite import NMS_KEY, NMS_OUTPUTS
from edgedet.export.source import Source
from edgedet.model_spec import DType, InputSpec, Task, TensorSpec
from edgedet.runtime.heads import DenseBoxes, EndToEnd, Head

__all__ = ["Ultralytics"]

_TASKS: dict[str, Task] = {"detect": "detect", "segment": "instance"}
_HEADS = {"Detect", "v10Detect", "Segment", "Segment26"}
_VARIANTS = (None, "one-to-many", "end-to-end")
_DTYPES: dict[str, DType] = {"float32": "float32", "float16": "float16"}


class Ultralytics(Family):
    """Networks that the ultralytics package trained, as checkpoint or as the ONNX file that it wrote."""

    name: ClassVar[str] = "ultralytics"
    takes: ClassVar[str] = "YOLOv3u to YOLO26 .pt (one-to-many head, or ultralytics:end-to-end) and their own .onnx"
    extra: ClassVar[str | None] = "ultralytics"

    def recognises(self, source: Source) -> bool:
        """Tell whether the pickle names Ultralytics' classes, or the ONNX file carries their metadata."""
        if source.kind == "checkpoint":
            return is_ultralytics_pickle(source.path)
        if source.kind != "onnx" or source.onnx_model.graph.output[0].name == NMS_OUTPUTS[0]:
            return False
        return {"names", "stride", "task"} <= _metadata(source.onnx_model).keys()

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read the checkpoint or the ONNX file.

        Raises:
            SpecError: for another task, a size that the stride does not divide, or an unknown variant.
            ModelFileError, UntrustedFileError, MissingDependencyError: see ``load_ultralytics``.
        """
        if request.variant not in _VARIANTS:
            raise SpecError(
                "--family ultralytics, ultralytics:one-to-many or ultralytics:end-to-end",
                repr(request.family),
                "Choose one of them",
            )
        if source.kind == "onnx":
            return _from_onnx(source, request)
        if source.kind == "checkpoint":
            return _from_checkpoint(load_ultralytics(source.path, trust=request.trust), request)
        raise ModelFileError(
            "a .pt or .onnx file of Ultralytics", f"'{source.path}', a {source.kind} source", "Name another --family"
        )


def _from_checkpoint(found: UltralyticsCheckpoint, request: ExportRequest) -> LoadedModel:
    head_module = found.module.model[-1]
    kind = type(head_module).__name__
    if kind not in _HEADS:
        raise SpecError(f"one of the heads {', '.join(sorted(_HEADS))}", kind, "Export another model")
    size = _size(request.size or found.size, found.stride)
    two_heads = getattr(head_module, "one2one_cv2", None) is not None
    end_to_end = request.variant == "end-to-end"
    if end_to_end and not two_heads:
        raise SpecError(
            "a network with an end-to-end head (v10, 26)", "one without", "Leave out ':end-to-end' in --family"
        )
    _prepare(found.module, size, two_heads=two_heads, end_to_end=end_to_end)
    masks = int(head_module.nm) if found.task == "segment" else 0
    notes: tuple[str, ...] = ()
    if two_heads and request.variant is None:
        notes = ("Exported with the one-to-many head and NMS (--family ultralytics:end-to-end takes the other one)",)
    return LoadedModel(
        network=found.module,
        head=_head(end_to_end, masks),
        input=_input_spec(size, found.stride),
        class_names=found.class_names,
        task=_task(found.task),
        output_names=("output0", "output1") if masks else ("output0",),
        notes=notes,
    )


def _prepare(module: Any, size: tuple[int, int], *, two_heads: bool, end_to_end: bool) -> None:
    """Fuse batch norms and set the head to answer with the tensors that the spec describes."""
    import torch

    head = module.model[-1]
    if two_heads:
        head.end2end = end_to_end
        if not end_to_end:
            # Releases before 8.4 throw the one-to-many branch away when they fuse.
            head.fuse = lambda: None
    module.fuse(verbose=False)
    head.export, head.format, head.dynamic = True, "onnx", False
    for layer in module.modules():
        # Splits instead of chunks: fewer shape operators in the graph, the same numbers.
        if hasattr(layer, "forward_split"):
            layer.forward = layer.forward_split
    with torch.no_grad():
        module(torch.zeros(1, 3, size[1], size[0]))
    # The run above left the cell centres of this size in the head; they hold for any batch.
    head.shape = _AnyShape()


class _AnyShape:
    """Equal to every shape, so that the head keeps its cell centres."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _from_onnx(source: Source, request: ExportRequest) -> LoadedModel:
    model, metadata = source.onnx_model, _metadata(source.onnx_model)
    if request.variant is not None:
        raise SpecError(
            "a .pt file for a choice of heads",
            f"the ready ONNX file '{source.path}'",
            "Pass --family ultralytics",
        )
    names = _literal(metadata, "names", source)
    class_names = tuple(str(names[key]) for key in sorted(names)) if isinstance(names, dict) else tuple(map(str, names))
    task, stride = metadata.get("task", "detect"), int(float(metadata.get("stride", "32")))
    outputs, image = graph_outputs(model), graph_inputs(model)[0]
    nms_was_cut = NMS_KEY in metadata
    masks = _mask_coefficients(outputs, source) if task == "segment" else 0
    end_to_end = not nms_was_cut and _is_end_to_end(metadata, source, outputs[0], len(class_names), masks)
    return LoadedModel(
        network=model,
        # Ahead of NMS in the graph their exporter decodes to corners.
        head=_head(end_to_end, masks, "xyxy" if nms_was_cut else "cxcywh"),
        input=_input_spec(
            _size(request.size or _onnx_size(metadata, image, source), stride), stride, _dtype(image, source)
        ),
        class_names=class_names,
        task=_task(task),
        output_names=tuple(output.name for output in outputs[: 2 if masks else 1]),
    )


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _literal(metadata: dict[str, str], key: str, source: Source) -> Any:
    try:
        return ast.literal_eval(metadata[key])
    except (KeyError, ValueError, SyntaxError) as error:
        raise ModelFileError(
            f"Ultralytics' metadata entry {key!r}",
            f"{metadata.get(key)!r} in '{source.path}'",
            "Export it again with ultralytics",
        ) from error


def _onnx_size(metadata: dict[str, str], image: TensorSpec, source: Source) -> tuple[int, int]:
    height, width = image.shape[2:]
    if -1 not in (height, width):
        return width, height
    size = _literal(metadata, "imgsz", source) if "imgsz" in metadata else (640, 640)
    return (size, size) if isinstance(size, int) else (int(size[-1]), int(size[0]))


def _dtype(image: TensorSpec, source: Source) -> DType:
    if image.dtype not in _DTYPES:
        raise SpecError("a float32 or float16 input", f"{image.dtype} in '{source.path}'", "Export it again")
    return _DTYPES[image.dtype]


def _mask_coefficients(outputs: tuple[TensorSpec, ...], source: Source) -> int:
    if len(outputs) < 2 or len(outputs[1].shape) != 4 or outputs[1].shape[1] < 1:
        raise SpecError(
            "mask prototypes as the second output", f"{len(outputs)} outputs in '{source.path}'", "Export it again"
        )
    return outputs[1].shape[1]


def _is_end_to_end(metadata: dict[str, str], source: Source, output: TensorSpec, classes: int, masks: int) -> bool:
    """Finished rows or dense boxes: as the metadata says; files older than that entry are told by their shape."""
    dense = len(output.shape) == 3 and output.shape[1] in (4 + classes + masks, -1)
    rows = len(output.shape) == 3 and output.shape[2] in (6 + masks, -1)
    if metadata.get("head", "Detect") not in _HEADS:
        raise SpecError(
            f"a network with one of the heads {', '.join(sorted(_HEADS))}",
            f"{metadata['head']} in '{source.path}'",
            "Export another model",
        )
    said: bool | None = None
    if "end2end" in metadata:
        arguments = _literal(metadata, "args", source) if "args" in metadata else {}
        # NMS inside the graph answers with the same finished rows.
        said = metadata["end2end"] == "True" or arguments.get("nms") is True
    fits = rows if said else dense if said is not None else rows != dense
    if not fits:
        raise SpecError(
            f"dense boxes [batch, {4 + classes + masks}, cells] or finished rows [batch, rows, {6 + masks}], as "
            f"{classes} classes call for",
            f"{output.name} {list(output.shape)} in '{source.path}' (end2end {metadata.get('end2end', 'not given')})",
            "Describe the outputs with --spec",
        )
    return rows if said is None else said


def _head(end_to_end: bool, masks: int, box_format: Literal["cxcywh", "xyxy"] = "cxcywh") -> Head:
    if end_to_end:
        return EndToEnd(packing="rows", mask_coefficients=masks)
    return DenseBoxes(layout="channels_first", box_format=box_format, mask_coefficients=masks)


def _task(task: str) -> Task:
    if task not in _TASKS:
        raise SpecError(
            f"an Ultralytics model to {' or '.join(_TASKS)}", f"one for the task {task!r}", "Export another model"
        )
    return _TASKS[task]


def _size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    if size[0] % stride or size[1] % stride:
        raise SpecError(
            f"an input size that the network's stride of {stride} divides",
            f"{size[0]}x{size[1]}",
            f"Pass --imgsz {-(-size[0] // stride) * stride}x{-(-size[1] // stride) * stride}",
        )
    return size


def _input_spec(size: tuple[int, int], stride: int, dtype: DType = "float32") -> InputSpec:
    return InputSpec(width=size[0], height=size[1], size_multiple=stride, dtype=dtype)
