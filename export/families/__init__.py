"""Families: whose checkpoints and ONNX files the exporter knows, one file each, in the order they are asked."""

from __future__ import annotations

import functools
from importlib import metadata

from edgedet.errors import SpecError, UnknownHeadError
from edgedet.export.checkpoint import refuse_code
from edgedet.export.families.centernet import CenterNet
from edgedet.export.families.detr import Detr
from edgedet.export.families.edgedet_onnx import EdgedetOnnx
from edgedet.export.families.family import Family, LoadedModel, Tracer
from edgedet.export.families.fastestdet import FastestDetFamily
from edgedet.export.families.nanodet import NanoDet
from edgedet.export.families.nms_inputs import NmsInputs
from edgedet.export.families.picodet import PicoDet
from edgedet.export.families.python import PythonFactory
from edgedet.export.families.retinanet import RetinaNet
from edgedet.export.families.rfdetr import RfDetr
from edgedet.export.families.rtdetr import RtDetr
from edgedet.export.families.segmentation import Segmentation
from edgedet.export.families.ssd import Ssd
from edgedet.export.families.torch_export import TorchExport
from edgedet.export.families.torchscript import TorchScript
from edgedet.export.families.torchvision import Torchvision
from edgedet.export.families.transformers import Transformers
from edgedet.export.families.ultralytics import Ultralytics
from edgedet.export.families.yolov2 import YoloV2
from edgedet.export.families.yolov3 import YoloV3
from edgedet.export.families.yolov5 import YoloV5
from edgedet.export.families.yolov7 import YoloV7
from edgedet.export.families.yolox import Yolox
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source

__all__ = ["FAMILIES", "Family", "LoadedModel", "Tracer", "choose_family", "families"]

FAMILIES: tuple[type[Family], ...] = (
    EdgedetOnnx,  # an ONNX file that already carries a ModelSpec
    Ultralytics,  # YOLOv3u, v5u, v8, v9, v10, 11, 12, 26: .pt and their own .onnx
    Yolox,
    YoloV5,
    YoloV7,
    YoloV3,
    YoloV2,
    PicoDet,
    NanoDet,
    FastestDetFamily,
    Ssd,
    RetinaNet,
    CenterNet,
    Detr,
    RtDetr,
    RfDetr,
    NmsInputs,
    Segmentation,
    Torchvision,
    Transformers,
    TorchExport,
    TorchScript,
    PythonFactory,
)
"""Every family that comes with edgedet."""

ENTRY_POINTS = "edgedet.families"


@functools.cache
def families() -> dict[str, Family]:
    """Return name -> family, third parties' entry points last."""
    found = {family.name: family() for family in FAMILIES}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        if entry.name not in found:
            found[entry.name] = entry.load()()
    return found


def choose_family(source: Source, request: ExportRequest) -> Family:
    """Return the family that was asked for, or the one that recognises the source.

    Raises:
        SpecError: if the family that was asked for does not exist.
        UnknownHeadError: if no family recognises the source, or several do.
        UntrustedFileError: if nothing recognises a checkpoint that wants to run code.
    """
    known = families()
    if request.family is not None:
        return _named_family(request, known)
    recognised = [family for family in known.values() if family.recognises(source)]
    if len(recognised) == 1:
        return recognised[0]
    if source.kind == "checkpoint" and not request.trust:
        refuse_code(source.path)
    possible = recognised or [family for family in known.values() if family.fits(source)]
    names = ", ".join(family.name for family in possible) or "none of the known ones"
    raise UnknownHeadError(
        "a source whose family can be told from its content",
        f"'{source.path}' ({_describe(source)}), which fits {names}",
        "Name its family with --family (edgedet export --list-families shows them all)",
    )


def _named_family(request: ExportRequest, known: dict[str, Family]) -> Family:
    family = known.get(request.family_name or "")
    if family is not None:
        return family
    if request.variant is not None:
        return known[PythonFactory.name]
    raise SpecError(
        f"--family to be one of {', '.join(known)}, or package.module:factory",
        repr(request.family),
        "Choose one (edgedet export --list-families shows what each takes)",
    )


def _describe(source: Source) -> str:
    if source.kind != "onnx":
        return source.kind.replace("_", ".")
    shapes = [f"{value.name} {list(value.shape)}" for value in graph_outputs(source.onnx_model)]
    return "outputs " + ", ".join(shapes)
