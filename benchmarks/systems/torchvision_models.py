"""torchvision's models: state dicts in edgedet, against the model itself with its transform and post-processing."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet.maps import ClassMap
from edgedet.masks import Masks
from edgedet.results import Detections
from edgedet.runtime.selection import Selection
from systems.comparison import Case, Image, System
from systems.exporting import export
from systems.random_weights import kaiming, normalise_batches, set_spreads

__all__ = ["SYSTEMS"]

SIZE = (320, 256)
CLASSES = 6
THRESHOLD = 0.5
MANY = 150
"""Objects a picture from which on torchvision's own limits decide what is answered."""
NAMES = tuple(f"class {index}" for index in range(CLASSES))

Spreads = Mapping[str, tuple[float, float]]
"""Part of a model -> deviation and mean that the answers of its last layers get."""
RCNN: Spreads = {
    "rpn.head.cls_logits": (1.0, 0.0),
    "rpn.head.bbox_pred": (0.3, 0.0),
    "roi_heads.box_predictor.cls_score": (2.0, 0.0),
    "roi_heads.box_predictor.bbox_pred": (1.0, 0.0),
}


@dataclass(frozen=True)
class Detector:
    """One of torchvision.models.detection.

    Attributes:
        definition: the paper.
        exported: what the file holds.
        spreads: what its last layers answer with.
        fixed: side of its input where it has a size of its own, into which pictures are stretched; else None.
    """

    definition: str
    exported: str
    spreads: Spreads
    fixed: int | None = None


SSD = "[SSD](https://arxiv.org/abs/1512.02325)"
FASTER = "[Faster R-CNN](https://arxiv.org/abs/1506.01497)"
SSD_SPREADS: Spreads = {"head.classification_head": (1.0, 0.0), "head.regression_head": (0.5, 0.0)}
ONE_STAGE: Spreads = {"head.classification_head.cls_logits": (1.8, -5.0), "head.regression_head.bbox_reg": (0.5, 0.0)}
DETECTORS = {
    "ssdlite320_mobilenet_v3_large": Detector(SSD, "offsets and scores of every anchor", SSD_SPREADS, 320),
    "ssd300_vgg16": Detector(SSD, "offsets and scores of every anchor", SSD_SPREADS, 300),
    "retinanet_resnet50_fpn": Detector(
        "[RetinaNet](https://arxiv.org/abs/1708.02002)", "offsets and scores of every anchor", ONE_STAGE
    ),
    "fcos_resnet50_fpn": Detector(
        "[FCOS](https://arxiv.org/abs/1904.01355)", "boxes and scores of every cell", ONE_STAGE
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Detector(FASTER, "finished boxes", RCNN),
    "maskrcnn_resnet50_fpn": Detector(
        "[Mask R-CNN](https://arxiv.org/abs/1703.06870)",
        "finished boxes, 28x28 masks",
        {**RCNN, "roi_heads.mask_predictor.mask_fcn_logits": (2.0, 0.0)},
    ),
}
SEGMENTERS = {
    "fcn_resnet50": "[FCN](https://arxiv.org/abs/1411.4038)",
    "deeplabv3_mobilenet_v3_large": "[DeepLabV3](https://arxiv.org/abs/1706.05587)",
    "lraspp_mobilenet_v3_large": "[LR-ASPP](https://arxiv.org/abs/1905.02244)",
}


def _prepare_detector(folder: Path, pictures: Sequence[Image], name: str) -> Case:
    import torch
    from torchvision.models import detection

    kind = DETECTORS[name]
    torch.manual_seed(0)
    thresholds = "box_score_thresh" if "rcnn" in name else "score_thresh"
    sizes: dict[str, Any] = {} if kind.fixed else {"min_size": SIZE[1], "max_size": SIZE[0]}
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, **sizes, **{thresholds: THRESHOLD}
    ).eval()
    view = (kind.fixed, kind.fixed) if kind.fixed else SIZE
    tensors = [_tensor(np.asarray(cv2.resize(picture, view), np.uint8)) for picture in pictures]
    kaiming(model)
    normalise_batches(model, lambda: model(tensors))
    for part, (deviation, mean) in kind.spreads.items():
        layers = _last_layers(model.get_submodule(part))
        set_spreads(dict.fromkeys(layers, deviation), lambda: model(tensors), mean=mean)
    if "rcnn" in name:
        with torch.no_grad():
            model.roi_heads.box_predictor.cls_score.bias[0] += 3  # mostly background, as in life
    threshold = _threshold(model, tensors)
    if "rcnn" not in name:
        model.score_thresh = threshold
    weights = folder / "weights.pth"
    torch.save(model.state_dict(), weights)
    options = {"family": f"torchvision:{name}", "size": None if kind.fixed else SIZE, "class_names": NAMES}
    exported = export(weights, folder, pictures, **options)
    iou = float(model.roi_heads.nms_thresh if "rcnn" in name else model.nms_thresh)
    # R-CNN's own numbers of boxes and its NMS are inside the exported network.
    count = int(model.roi_heads.detections_per_img if "rcnn" in name else model.detections_per_img)
    selection = Selection(confidence=threshold, iou=iou, max_detections=count, multi_label=True)
    # torchvision resizes in floating point, and random weights blow up the rounding to whole numbers.
    return Case(exported, functools.partial(_detect, model), selection, view)


def _threshold(model: Any, tensors: list[Any]) -> float:
    """Return a score that some 100 objects a picture reach, where far more are found: torchvision ends its lists."""
    import torch

    with torch.no_grad():
        answers = model(tensors)
    scores = torch.cat([answer["scores"][answer["labels"] > 0] for answer in answers]).sort(descending=True).values
    if len(scores) <= MANY * len(tensors):
        return THRESHOLD
    around = scores[80 * len(tensors) : 120 * len(tensors)]
    place = int((around[:-1] - around[1:]).argmax())
    return float(around[place] + around[place + 1]) / 2


def _last_layers(part: Any) -> list[Any]:
    """Return the part itself where it is a layer, or all its layers with a bias: one a level in the heads of SSD."""
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return [layer for layer in part.modules() if isinstance(layer, kinds) and layer.bias is not None]


def _tensor(picture: Image) -> Any:
    import torch

    return torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float() / 255


def _detect(model: Any, picture: Image) -> Detections:
    import torch

    with torch.no_grad():
        (answer,) = model([_tensor(picture)])
    # RetinaNet and FCOS score the background like any other class, though no label ever has its number.
    kept = answer["labels"] > 0
    found = {key: value[kept].numpy() for key, value in answer.items()}
    masks = Masks.from_bitmaps(found["masks"][:, 0] > 0.5) if "masks" in found else None
    return Detections(found["boxes"], found["scores"], found["labels"] - 1, masks=masks)


def _prepare_segmenter(folder: Path, pictures: Sequence[Image], name: str) -> Case:
    import torch
    from torchvision.models import segmentation

    from edgedet.export.families.torchvision_segmenters import CLASS_LAYERS

    torch.manual_seed(0)
    model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    batch = torch.cat([_fitted(picture) for picture in pictures])
    kaiming(model)
    normalise_batches(model, lambda: model(batch))
    layer = model.get_submodule(CLASS_LAYERS[name].rpartition(".")[0])
    set_spreads({layer: 2.0}, lambda: model(batch))
    weights = folder / "weights.pth"
    torch.save(model.state_dict(), weights)
    exported = export(weights, folder, pictures, family=f"torchvision:{name}", size=SIZE, class_names=NAMES)
    return Case(exported, functools.partial(_segment, model), view=SIZE)


def _fitted(picture: Image) -> Any:
    """Return the picture as torchvision's preset makes it."""
    import torch

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    resized = torch.nn.functional.interpolate(_tensor(picture)[None], SIZE[::-1], mode="bilinear", align_corners=False)
    return (resized - mean[:, None, None]) / std[:, None, None]


def _segment(model: Any, picture: Image) -> ClassMap:
    import torch

    with torch.no_grad():
        scores = model(_fitted(picture))["out"][0]
    return ClassMap(scores.argmax(0).numpy().astype(np.uint8))


SYSTEMS = [
    *(
        System(
            name,
            kind.definition,
            "torchvision",
            kind.exported,
            functools.partial(_prepare_detector, name=name),
            "torchvision",
        )
        for name, kind in DETECTORS.items()
    ),
    *(
        System(
            name,
            definition,
            "torchvision",
            "class scores",
            functools.partial(_prepare_segmenter, name=name),
            "torchvision",
        )
        for name, definition in SEGMENTERS.items()
    ),
]
