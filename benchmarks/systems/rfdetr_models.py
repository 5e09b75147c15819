"""RF-DETR and RF-DETR-Seg: checkpoints of the rfdetr package in edgedet, against its network and its PostProcess."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet.masks import Masks
from edgedet.results import Detections
from edgedet.runtime.selection import Selection
from systems.comparison import Case, Image, System
from systems.exporting import export
from systems.random_weights import set_spreads

__all__ = ["SYSTEMS"]

NAMES = ("car", "person", "dog")
SELECTION = Selection(confidence=0.3, max_detections=100)
NETWORKS = {
    "rf-detr": ("nano", "RFDETRNanoConfig", 192, "logits and boxes of every query"),
    "rf-detr-seg": ("seg-nano", "RFDETRSegNanoConfig", 192, "logits, boxes and mask logits of every query"),
}
"""Name of the system -> variant of the family, class of the package's configuration, side of the input, outputs."""


def _prepare(folder: Path, pictures: Sequence[Image], name: str) -> Case:
    import torch
    from rfdetr import config as configs
    from rfdetr.models import lwdetr

    logging.getLogger("rf-detr").setLevel(logging.ERROR)
    variant, config_name, side, _ = NETWORKS[name]
    torch.manual_seed(0)
    path = folder / "model.pth"
    config = getattr(configs, config_name)(num_classes=len(NAMES), pretrain_weights=str(path), device="cpu")
    model = lwdetr.build_model_from_config(config).eval()
    batch = torch.cat([_fed(picture, side) for picture in pictures])
    with torch.no_grad():
        # Untrained, its boxes are those that it proposes, and its masks are all alike.
        for part in (model.bbox_embed, *model.transformer.enc_out_bbox_embed):
            torch.nn.init.normal_(part.layers[-1].weight, std=0.05)
        torch.nn.init.normal_(model.query_feat.weight)
        model.class_embed.bias.fill_(-1.5)
    spreads = {model.class_embed: 1.5, **dict.fromkeys(model.transformer.enc_out_class_embed, 1.5)}
    set_spreads(spreads, lambda: model(batch))
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(class_names=list(NAMES))}, path)
    exported = export(path, folder, pictures, family=f"rfdetr:{variant}", size=(side, side))
    return Case(exported, functools.partial(_answer, model, side), SELECTION)


def _fed(picture: Image, side: int) -> Any:
    import torch

    resized = cv2.resize(picture, (side, side))[..., ::-1].copy()
    tensor = torch.from_numpy(resized).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((tensor - mean[:, None, None]) / std[:, None, None])[None]


def _answer(model: Any, side: int, picture: Image) -> Detections:
    """The package's own answer; its last logit, which never was a class, left out, and its masks cut at their boxes."""
    import torch
    from rfdetr.models.postprocess import PostProcess

    height, width = picture.shape[:2]
    with torch.no_grad():
        raw = model(_fed(picture, side))
        raw["pred_logits"] = raw["pred_logits"][..., : len(NAMES)]
        (found,) = PostProcess(num_select=SELECTION.max_detections)(raw, torch.tensor([[height, width]]))
    kept = found["scores"] >= SELECTION.confidence
    boxes = found["boxes"][kept].numpy()
    masks = None
    if "masks" in found:
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        left, top, right, bottom = boxes.T[:, :, None, None]
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        masks = Masks.from_bitmaps(found["masks"][kept][:, 0].numpy() & inside)
    return Detections(boxes, found["scores"][kept].numpy(), found["labels"][kept].numpy(), masks=masks)


SYSTEMS = [
    System(
        name,
        "[RF-DETR](https://arxiv.org/abs/2511.09554), the rfdetr package",
        "the package's network and PostProcess",
        exported,
        functools.partial(_prepare, name=name),
        "rfdetr",
    )
    for name, (_, _, _, exported) in NETWORKS.items()
]
