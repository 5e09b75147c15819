"""Segmenters as ONNX files from anywhere: class scores at any stride, or class ids where ArgMax is inside.

A graph that ends in enlarging its scores to the input and ArgMax is cut before both (see ``enlarging_tail.py``).

A file doesn't say how pictures are fed, unless it takes uint8 and so normalises them itself:

    imagenet   RGB less ImageNet's mean over its deviation (torchvision, mmsegmentation, SegFormer)
    tf         RGB, -1..1 (TensorFlow's DeepLab)
    unit       RGB, 0..1
    raw        RGB, 0..255
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import onnx

from edgedet.class_names import CITYSCAPES, VOC21
from edgedet.errors import SpecError
from edgedet.export.families.enlarging_tail import EnlargingTail, cut_tail, find_tail
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.onnx_family import OnnxFamily
from edgedet.export.families.onnx_network import OnnxNetwork, network_of, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads import ClassMapHead, ClassScores, Head

__all__ = ["Segmentation"]

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def _fed(mean: tuple[float, float, float], std: tuple[float, float, float], pad: int) -> InputSpec:
    return InputSpec(512, 512, mean=mean, std=std, pad_value=pad, pad_position="bottom_right")


TRAININGS: Mapping[str, InputSpec] = {
    "imagenet": _fed(*_IMAGENET, 114),
    "tf": _fed((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), 127),
    "unit": _fed((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), 0),
    "raw": _fed((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0),
}
"""Variant -> how pictures are fed."""

_NAMES: Mapping[int, tuple[str, tuple[str, ...]]] = {
    len(VOC21): ("VOC", VOC21),
    len(CITYSCAPES): ("Cityscapes", CITYSCAPES),
    2: ("background and object", ("background", "object")),
}
"""Number of classes -> the set that has as many."""


class Segmentation(OnnxFamily):
    """Semantic segmenters' ONNX files."""

    name: ClassVar[str] = "segmentation"
    takes: ClassVar[str] = (
        ".onnx with class scores [1,C,h,w] or [1,h,w,C], or class ids [1,h,w]; segmentation:imagenet, tf, unit or raw "
        "says how pictures are fed where it doesn't take uint8"
    )
    variants: ClassVar[tuple[str, ...]] = tuple(TRAININGS)
    convention: ClassVar[InputSpec] = TRAININGS["imagenet"]

    def is_certain(self, network: OnnxNetwork) -> bool:
        """One output of whole numbers, laid out over the picture."""
        return len(network.outputs) == 1 and _is_ids(network.outputs[0], network.size)

    def is_possible(self, network: OnnxNetwork) -> bool:
        """Outputs that are laid out over the picture, all on the same grid."""
        grids = {_layout(output, network) and output.shape for output in network.outputs}
        return _find(network) is not None and len(grids) == 1

    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Tell scores from ids by the output's element type; the rest comes from the variant."""
        output = _find(network)
        if output is None:
            raise SpecError(
                "an output of class scores [1,C,h,w] or class ids [1,h,w]",
                ", ".join(f"{value.name} {list(value.shape)}" for value in network.outputs),
                "Export the network without what comes after its scores, or name another --family",
            )
        classes = _classes_before_argmax(network.model, output.name)
        tail = _tail(network, output, request)
        if tail is not None:
            network = network_of(cut_tail(network.model, tail)) or network
            output = network.outputs[0]
        head, channels = _head(network, output, request, tail)
        classes = channels or classes
        label, names = _NAMES.get(classes or 0, ("", None))
        notes = [f"The output {output.name!r} is read, the others are not"] if network.outputs[1:] else []
        if tail is not None:
            notes.append(
                "The graph's own Resize and ArgMax at the end were cut off: the runtime does both, at the picture's "
                "size (--spec with the head class_map keeps them)"
            )
        if names is not None and request.class_names is None:
            notes.append(f"The file names no classes; the {len(names)} of {label} were taken (--names sets others)")
        return LoadedModel(
            network=network.model,
            head=head,
            input=picture_input(network, _training(network, request)),
            class_names=names,
            task="semantic",
            output_names=(output.name,),
            notes=tuple(notes),
        )


def _training(network: OnnxNetwork, request: ExportRequest) -> InputSpec:
    if request.variant is not None:
        return TRAININGS[request.variant]
    if network.image.dtype == "uint8":
        return TRAININGS["tf"]
    given = request.fragment.get("input")
    if isinstance(given, Mapping) and {"mean", "std"} <= set(given):
        return TRAININGS["raw"]
    variants = " or ".join(f"segmentation:{name}" for name in TRAININGS)
    raise SpecError(
        "to know how pictures are fed to this network (the file doesn't show it)",
        "--family segmentation without a variant",
        f"Pass --family {variants}, or --spec with input.mean and input.std",
    )


def _tail(network: OnnxNetwork, output: TensorSpec, request: ExportRequest) -> EnlargingTail | None:
    """Return the tail to be cut off, unless the head for what comes out behind it was asked for."""
    asked = request.fragment.get("head")
    if not _is_ids(output, network.size) or (isinstance(asked, Mapping) and asked.get("name") == ClassMapHead.name):
        return None
    return find_tail(network.model, output.name, network.size)


def _head(
    network: OnnxNetwork, output: TensorSpec, request: ExportRequest, tail: EnlargingTail | None
) -> tuple[Head, int | None]:
    """Return the head, and how many classes there are where its output tells."""
    if tail is not None:
        channels = output.shape[1 if tail.layout == "NCHW" else 3]
        head = head_with_fragment(request, ClassScores, layout=tail.layout, align_corners=tail.align_corners)
        return head, channels if channels > 1 else None
    if _is_ids(output, network.size):
        return head_with_fragment(request, ClassMapHead), None
    layout = _layout(output, network)
    channels = output.shape[1 if layout == "NCHW" else 3]
    parameters: dict[str, Any] = {"layout": layout}
    if channels == 1:
        parameters["threshold"] = 0.5 if "Sigmoid" in network.operators_before(output.name) else 0.0
    classes = 2 if channels == 1 else channels if channels > 0 else None
    return head_with_fragment(request, ClassScores, **parameters), classes


def _find(network: OnnxNetwork) -> TensorSpec | None:
    """Return the class ids, or else the first output that is class scores."""
    ids = [output for output in network.outputs if _is_ids(output, network.size)]
    scores = [output for output in network.outputs if _layout(output, network) is not None]
    return next(iter((*ids, *scores)), None)


def _is_ids(output: TensorSpec, size: tuple[int, int]) -> bool:
    if not output.dtype.startswith(("int", "uint")):
        return False
    if len(output.shape) == 3:
        return _covers(output.shape[1:], size)
    return len(output.shape) == 4 and (
        (output.shape[1] == 1 and _covers(output.shape[2:], size))
        or (output.shape[3] == 1 and _covers(output.shape[1:3], size))
    )


def _layout(output: TensorSpec, network: OnnxNetwork) -> str | None:
    """Tell which axes of an output lie over the picture; the picture's own layout decides where both could be."""
    if len(output.shape) != 4 or not output.dtype.startswith("float"):
        return None
    fitting = [
        layout
        for layout, grid in (("NCHW", output.shape[2:]), ("NHWC", output.shape[1:3]))
        if _covers(grid, network.size)
    ]
    return network.layout if network.layout in fitting else next(iter(fitting), None)


def _covers(grid: Sequence[int], size: tuple[int, int]) -> bool:
    """Tell whether rows and columns of a grid could lie over a picture of this size, at the same stride both ways."""
    if -1 in grid or -1 in size:
        return True
    rows, columns = grid
    if not 1 < rows <= size[1] or not 1 < columns <= size[0]:
        return False
    # A stride that doesn't divide a side leaves a cell more or less there.
    return size[0] / (columns + 1) < size[1] / (rows - 1) and size[1] / (rows + 1) < size[0] / (columns - 1)


def _classes_before_argmax(model: onnx.ModelProto, output: str) -> int | None:
    """Return how many values the ArgMax that an output comes from chooses among."""
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in ("Cast", "Squeeze", "Unsqueeze", "Identity", "Reshape"):
        node = producers.get(node.input[0])
    if node is None or node.op_type != "ArgMax":
        return None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*inferred.value_info, *inferred.input):
        axes = value.type.tensor_type.shape.dim
        if value.name == node.input[0] and -len(axes) <= axis < len(axes):
            return int(axes[axis].dim_value) or None
    return None
