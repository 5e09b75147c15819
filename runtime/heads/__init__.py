"""Heads: the raw output layouts that the runtime reads, one file each.

| head | file | networks |
|---|---|---|
| dense_boxes | dense_boxes.py | YOLOv8, 9, 11, 12 (anchor-free); YOLOv5, v7 decoded (with objectness) |
| anchor_grid | anchor_grid.py | YOLOv2, v3, v4, v5, v7 raw grids with anchors |
| yolox_grid | yolox_grid.py | YOLOX without its grid decode |
| distance_distributions | distance_distributions.py | PicoDet, NanoDet (GFL: a distribution per side) |
| anchor_boxes | anchor_boxes.py | SSD, RetinaNet: offsets to anchor boxes with variances |
| fastestdet | fastestdet.py | FastestDet: one scale, tanh centre, sigmoid size |
| queries | queries.py | DETR, RT-DETR, D-FINE, RF-DETR: logits and boxes (and masks) per query |
| end_to_end | end_to_end.py | YOLOv10, v26, CenterNet, torchvision: finished boxes |
| proposal_boxes | proposal_boxes.py | R-CNN, Fast R-CNN: scores of and offsets to proposed regions |
| localizer | localizer.py | classification with localisation: class scores and one box for the picture |
| grid_cells | grid_cells.py | the n x n grid of the first YOLO, one object a cell |
| class_windows | class_windows.py | a classifier made fully convolutional: class scores of sliding windows |
| class_scores | class_scores.py | FCN, DeepLab, LRASPP, SegFormer, U-Net: scores per class, at any stride |
| class_map | class_map.py | segmenters with ArgMax inside: a class id per pixel |
| query_instances | query_instances.py | Mask2Former, MaskFormer, EoMT for instances: class and mask logits per query |
| query_masks | query_masks.py | DETR panoptic, MaskFormer, Mask2Former, EoMT: class and mask logits per query |
| panoptic_deeplab | panoptic_deeplab.py | Panoptic-DeepLab: semantic logits, center heatmap, offsets to centers |
"""

from __future__ import annotations

from edgedet.errors import SpecError
from edgedet.model_spec import HeadSpec
from edgedet.runtime.heads.anchor_boxes import AnchorBoxes
from edgedet.runtime.heads.anchor_grid import AnchorGrid
from edgedet.runtime.heads.class_map import ClassMapHead
from edgedet.runtime.heads.class_scores import ClassScores
from edgedet.runtime.heads.class_windows import ClassWindows
from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.heads.distance_distributions import DistanceDistributions
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.heads.fastestdet import FastestDet
from edgedet.runtime.heads.grid_cells import GridCells
from edgedet.runtime.heads.head import BoxHead, Candidates, Head, MapHead, MaskHead, RawOutputs
from edgedet.runtime.heads.localizer import Localizer
from edgedet.runtime.heads.panoptic_deeplab import PanopticDeeplab
from edgedet.runtime.heads.proposal_boxes import ProposalBoxes
from edgedet.runtime.heads.queries import Queries
from edgedet.runtime.heads.query_instances import QueryInstances
from edgedet.runtime.heads.query_masks import QueryMasks
from edgedet.runtime.heads.yolox_grid import YoloxGrid
from edgedet.schema import from_json

__all__ = [
    "HEADS",
    "AnchorBoxes",
    "AnchorGrid",
    "BoxHead",
    "Candidates",
    "ClassMapHead",
    "ClassScores",
    "ClassWindows",
    "DenseBoxes",
    "DistanceDistributions",
    "EndToEnd",
    "FastestDet",
    "GridCells",
    "Head",
    "Localizer",
    "MapHead",
    "MaskHead",
    "PanopticDeeplab",
    "ProposalBoxes",
    "Queries",
    "QueryInstances",
    "QueryMasks",
    "RawOutputs",
    "YoloxGrid",
    "head_from_spec",
]

HEADS: dict[str, type[Head]] = {
    head.name: head
    for head in (
        DenseBoxes,
        AnchorGrid,
        YoloxGrid,
        DistanceDistributions,
        AnchorBoxes,
        FastestDet,
        Queries,
        EndToEnd,
        ProposalBoxes,
        Localizer,
        GridCells,
        ClassWindows,
        ClassScores,
        ClassMapHead,
        QueryMasks,
        QueryInstances,
        PanopticDeeplab,
    )
}
"""Name in the ModelSpec -> class."""


def head_from_spec(spec: HeadSpec) -> Head:
    """Build the head that a ModelSpec names.

    Raises:
        SpecError: if the name is unknown or a parameter is missing, unknown or of the wrong type.
    """
    head = HEADS.get(spec.name)
    if head is None:
        raise SpecError(f"a head among {', '.join(HEADS)}", repr(spec.name), "Correct head.name, or upgrade edgedet")
    return from_json(head, spec.parameters, f"head {spec.name}")
