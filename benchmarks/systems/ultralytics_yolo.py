"""Ultralytics' YOLOs: their checkpoints in edgedet, against their own predictor with its letterbox, NMS and masks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.masks import Masks
from edgedet.model_spec import InputSpec
from edgedet.results import Detections
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection
from systems.comparison import Case, Image, System
from systems.exporting import export
from systems.random_weights import normalise_batches, set_spreads

__all__ = ["SYSTEMS"]

SIZE = 320
SELECTION = Selection(confidence=0.3, iou=0.5)

NETWORKS = {
    "yolov3u": ("yolov3-tiny", "YOLOv3u"),
    "yolov5u": ("yolov5n", "YOLOv5u"),
    "yolov8": ("yolov8n", "YOLOv8"),
    "yolov9": ("yolov9t", "[YOLOv9](https://arxiv.org/abs/2402.13616)"),
    "yolov10": ("yolov10n", "[YOLOv10](https://arxiv.org/abs/2405.14458)"),
    "yolo11": ("yolo11n", "YOLO11"),
    "yolo12": ("yolo12n", "[YOLO12](https://arxiv.org/abs/2502.12524)"),
    "yolo26": ("yolo26n", "YOLO26"),
    "yolov8-seg": ("yolov8n-seg", "YOLOv8-seg"),
    "yolo11-seg": ("yolo11n-seg", "YOLO11-seg"),
    "yolo26-seg": ("yolo26n-seg", "YOLO26-seg"),
}
"""Name of the system -> Ultralytics' description of the network, what it is."""
TWO_HEADS = ("yolov10", "yolo26", "yolo26-seg")
"""Networks that have a second head which needs no NMS."""


def _prepare(folder: Path, pictures: Sequence[Image], network: str, end_to_end: bool) -> Case:
    import torch

    from edgedet.export.families.ultralytics_checkpoint import package

    package()  # imports it without touching the user's settings
    import ultralytics

    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{network}.yaml")
    _let_fire(model.model, torch.from_numpy(Preprocessor(InputSpec(SIZE, SIZE))(pictures)[0]))
    model.model.args["imgsz"] = SIZE
    checkpoint = folder / "model.pt"  # by a name that it knows, Ultralytics would look for it on the net
    model.save(checkpoint)
    variant = "end-to-end" if end_to_end else "one-to-many"
    exported = export(checkpoint, folder, pictures, size=(SIZE, SIZE), family=f"ultralytics:{variant}")
    predictor = ultralytics.YOLO(checkpoint)
    # Ultralytics ends a mask with the first pixel that its box does not reach, edgedet with the last middle in it.
    return Case(exported, functools.partial(_predict, predictor, end_to_end), SELECTION, mask_margin=1)


def _let_fire(network: Any, batch: Any) -> None:
    """Normalise every layer on the pictures, then set the head so that dozens of boxes have distinct scores."""
    import torch

    network.eval()
    normalise_batches(network, lambda: network(batch))
    head = network.model[-1]
    names = ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
    last = [branch[-1] for name in names for branch in getattr(head, name, None) or ()]
    set_spreads(dict.fromkeys(last, 0.7), lambda: network(batch))
    with torch.no_grad():
        for layer in last:
            # Scores without ties at 1, sides of one to three cells.
            bins = torch.arange(head.reg_max).repeat(4) * -0.7
            sides = len(layer.bias) == len(bins) != head.nc
            layer.bias.copy_(bins if sides else torch.full_like(layer.bias, -2.2))


def _predict(model: Any, end_to_end: bool, picture: Image) -> Detections:
    (result,) = model.predict(
        picture,
        imgsz=SIZE,
        conf=SELECTION.confidence,
        iou=SELECTION.iou,
        max_det=SELECTION.max_detections,
        rect=False,
        retina_masks=True,
        nms=False if end_to_end else None,
        device="cpu",
        verbose=False,
    )
    xyxy, score, class_id = result.boxes.xyxy.numpy(), result.boxes.conf.numpy(), result.boxes.cls.numpy()
    masks = None
    if result.masks is not None:
        masks = Masks.from_bitmaps(result.masks.data.numpy() > 0)
    return Detections(xyxy.astype(np.float32), score, class_id.astype(np.int64), masks=masks)


def _systems() -> list[System]:
    found = []
    for name, (network, definition) in NETWORKS.items():
        for end_to_end in (False, True) if name in TWO_HEADS else (False,):
            rows = "finished rows" if end_to_end else "boxes and scores of every cell"
            found.append(
                System(
                    f"{name}:end-to-end" if end_to_end else name,
                    f"{definition}, Ultralytics' {network}.yaml",
                    "its predictor",
                    rows + (", mask prototypes" if network.endswith("seg") else ""),
                    functools.partial(_prepare, network=network, end_to_end=end_to_end),
                    "ultralytics",
                )
            )
    return found


SYSTEMS = _systems()
