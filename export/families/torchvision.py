"""torchvision's models, by the name of their builder and a file with their weights.

Semantic segmenters are in ``torchvision_segmenters.py``; what follows is of the detectors.

One-stage models are exported as raw head outputs with the anchors in the spec: no NMS in the graph, which suits
TensorRT best. Their ``transform`` (normalisation and resizing) becomes the InputSpec. Faster and Mask R-CNN have NMS
and RoIAlign in their middle, so they come whole, one picture a run, with finished boxes; Mask R-CNN with its masks of
28x28 over each box, which the runtime pastes into the picture as torchvision itself does afterwards.

torchvision resizes R-CNN-like models' pictures to a shorter side of 800 pixels, whatever shape comes out; here the size
is fixed. The default holds a 4:3 picture at that scale.

Source: torchvision.models.detection; Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), arXiv 1708.02002;
Tian et al., "FCOS", arXiv 1904.01355; He et al., "Mask R-CNN", arXiv 1703.06870.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.class_names import COCO91
from edgedet.errors import ModelFileError, SpecError
from edgedet.export.checkpoint import load_state_dict, peek
from edgedet.export.families.family import Family, LoadedModel, Tracer
from edgedet.export.families.state_dict import load_weights
from edgedet.export.families.torchvision_segmenters import CLASS_LAYERS, load_segmenter
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec, Task
from edgedet.optional import require
from edgedet.runtime.heads import AnchorBoxes, EndToEnd, Head

__all__ = ["Torchvision"]

_SHORTER_SIDE_800 = (1088, 800)
_COCO_CLASSES = 91
"""torchvision's COCO models count COCO's category ids, 1 to 90, with the background as 0."""


@dataclass(frozen=True)
class _Kind:
    """One of torchvision's detectors.

    Attributes:
        classes: reads the number of classes, background included, off a state dict.
        forward: replaces the model's own: from a normalised (B, 3, H, W) tensor to what the head reads.
        head: builds the head for a model at a size.
        outputs: names of what `forward` returns.
        tracer: which exporter it needs.
        dynamic_batch: whether it takes several pictures.
        task: what it answers with.
    """

    classes: Callable[[dict[str, Any]], int]
    forward: Callable[..., tuple[Any, ...]]
    head: Callable[[Any, tuple[int, int]], Head]
    outputs: tuple[str, ...]
    tracer: Tracer = "dynamo"
    dynamic_batch: bool = True
    task: Task = "detect"


class Torchvision(Family):
    """A torchvision detector or segmenter; the part after the colon is the name of its builder."""

    name: ClassVar[str] = "torchvision"
    takes: ClassVar[str] = (
        "a state dict of torchvision.models.detection or segmentation, as torchvision:ssd300_vgg16, "
        "torchvision:fcn_resnet50 and the like"
    )
    extra: ClassVar[str | None] = "torchvision"

    def recognises(self, source: Source) -> bool:
        """Never: a state dict does not say which builder it belongs to."""
        return False

    def fits(self, source: Source) -> bool:
        """Tell whether the checkpoint's tensors have the names of torchvision's detectors."""
        if source.kind != "checkpoint":
            return False
        names = peek(source.path).strings
        heads = ("head.classification_head.", "roi_heads.box_predictor.", *CLASS_LAYERS.values())
        return any(name.startswith(heads) for name in names)

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Build the model that the variant names and load the weights strictly.

        Raises:
            SpecError: if the variant is missing or unknown.
            ModelFileError: if the weights do not fit it.
        """
        kind = _KINDS.get(request.variant or "")
        if kind is None and request.variant not in CLASS_LAYERS:
            raise SpecError(
                f"--family torchvision:NAME with a NAME among {', '.join((*_KINDS, *CLASS_LAYERS))}",
                repr(request.family),
                "Name the model that the weights belong to",
            )
        if source.kind not in ("checkpoint", "safetensors"):
            raise ModelFileError(
                "a file with a state dict", f"'{source.path}', a {source.kind} source", "Name another --family"
            )
        if kind is None:
            return load_segmenter(source, request)
        detection = require("torchvision.models.detection", extra=str(self.extra), purpose="exporting its detectors")
        weights = load_state_dict(source.path, trust=request.trust)
        try:
            classes = kind.classes(weights)
        except (KeyError, IndexError) as error:
            raise ModelFileError(
                f"the weights of {request.variant}", f"'{source.path}' without {error}", "Name the right model"
            ) from error
        model = getattr(detection, str(request.variant))(weights=None, weights_backbone=None, num_classes=classes)
        load_weights(model, weights, source.path)
        return _describe(model.eval(), kind, classes, request)


def _describe(model: Any, kind: _Kind, classes: int, request: ExportRequest) -> LoadedModel:
    transform = model.transform
    fixed = None if transform.fixed_size is None else tuple(map(int, transform.fixed_size))
    shorter = max(transform.min_size)
    default = fixed or (_SHORTER_SIDE_800 if shorter >= 640 else (-(-shorter * 4 // 3 // 32) * 32, shorter // 32 * 32))
    size = request.size or (default[0], default[1])
    head = kind.head(model, size)
    model.forward = types.MethodType(kind.forward, model)
    names = COCO91[1:] if classes == _COCO_CLASSES else None
    note = (
        f"torchvision scales pictures to a shorter side of {shorter}; this network takes {size[0]}x{size[1]}, with the "
        "picture fitted in (--imgsz sets another size)"
    )
    mean, std = (
        tuple(255 * float(value) for value in values) for values in (transform.image_mean, transform.image_std)
    )
    return LoadedModel(
        network=model,
        head=head,
        input=InputSpec(
            width=size[0],
            height=size[1],
            size_multiple=1 if fixed else 32,
            mean=(mean[0], mean[1], mean[2]),
            std=(std[0], std[1], std[2]),
            resize="stretch" if fixed else "letterbox",
            pad_position="bottom_right",
            # torchvision pads the normalised tensor with zeros, which is the mean colour.
            pad_value=round(sum(mean) / 3),
        ),
        class_names=names,
        output_names=kind.outputs,
        tracer=kind.tracer,
        dynamic_batch=kind.dynamic_batch,
        task=kind.task,
        notes=() if fixed else (note,),
    )


def _features(model: Any, images: Any) -> list[Any]:
    features = model.backbone(images)
    return list(features.values()) if isinstance(features, dict) else [features]


def _image_list(images: Any) -> Any:
    image_list = require(
        "torchvision.models.detection.image_list", extra="torchvision", purpose="exporting its detectors"
    )
    height, width = (int(side) for side in images.shape[-2:])
    return image_list.ImageList(images, [(height, width)] * int(images.shape[0]))


def _anchors(model: Any, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the (A, 4) anchors of a picture of this size as cx, cy, w, h in pixels, in the head's order."""
    import torch

    with torch.no_grad():
        images = torch.zeros(1, 3, size[1], size[0])
        corners = model.anchor_generator(_image_list(images), _features(model, images))[0]
    center, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    return np.asarray(torch.cat([center, extent], 1).numpy(), np.float32)


def _raw_forward(self: Any, images: Any) -> tuple[Any, ...]:
    outputs = self.head(_features(self, images))
    return outputs["bbox_regression"], outputs["cls_logits"]


def _raw_head(activation: Literal["softmax", "sigmoid"]) -> Callable[[Any, tuple[int, int]], Head]:
    def build(model: Any, size: tuple[int, int]) -> Head:
        x, y, w, h = (1 / float(weight) for weight in model.box_coder.weights)
        return AnchorBoxes(
            anchors=_anchors(model, size),
            variances=(x, y, w, h),
            activation=activation,
            background=0,
        )

    return build


def _fcos_forward(self: Any, images: Any) -> tuple[Any, ...]:
    """Decode inside the network: the score is the geometric mean of class score and centreness."""
    import torch

    outputs = self.head(_features(self, images))
    scores = torch.sqrt(outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid())
    center, extent = self.edgedet_anchors[:, :2], self.edgedet_anchors[:, 2:]
    sides = outputs["bbox_regression"]
    return torch.cat([center - sides[..., :2] * extent, center + sides[..., 2:] * extent], -1), scores


def _fcos_head(model: Any, size: tuple[int, int]) -> Head:
    import torch

    model.register_buffer("edgedet_anchors", torch.from_numpy(_anchors(model, size)), persistent=False)
    return AnchorBoxes(background=0)


def _rcnn_forward(self: Any, images: Any) -> tuple[Any, ...]:
    features = self.backbone(images)
    features = {"0": features} if not isinstance(features, dict) else features
    pictures = _image_list(images)
    proposals, _ = self.rpn(pictures, features)
    found = self.roi_heads(features, proposals, pictures.image_sizes)[0][0]
    masks = (found["masks"],) if "masks" in found else ()
    return found["boxes"], found["scores"], found["labels"], *masks


def _rcnn_head(model: Any, _size: tuple[int, int]) -> Head:
    masks = model.roi_heads.has_mask()
    return EndToEnd(packing="separate", batch_axis=False, class_offset=-1, roi_masks=masks)


def _per_anchor(key: str, anchors: int) -> Callable[[dict[str, Any]], int]:
    return lambda weights: int(weights[key].shape[0]) // anchors


_RCNN = _Kind(
    _per_anchor("roi_heads.box_predictor.cls_score.weight", 1),
    _rcnn_forward,
    _rcnn_head,
    ("boxes", "scores", "labels"),
    # The newer exporter stops at the guards of batched_nms.
    tracer="torchscript",
    dynamic_batch=False,
)
_MASK_RCNN = dataclasses.replace(_RCNN, outputs=(*_RCNN.outputs, "masks"), task="instance")
_RETINANET = _Kind(
    _per_anchor("head.classification_head.cls_logits.weight", 9),
    _raw_forward,
    _raw_head("sigmoid"),
    ("boxes", "scores"),
)
_KINDS: dict[str, _Kind] = {
    "ssd300_vgg16": _Kind(
        _per_anchor("head.classification_head.module_list.0.weight", 4),
        _raw_forward,
        _raw_head("softmax"),
        ("boxes", "scores"),
    ),
    "ssdlite320_mobilenet_v3_large": _Kind(
        _per_anchor("head.classification_head.module_list.0.1.weight", 6),
        _raw_forward,
        _raw_head("softmax"),
        ("boxes", "scores"),
    ),
    "retinanet_resnet50_fpn": _RETINANET,
    "retinanet_resnet50_fpn_v2": _RETINANET,
    "fcos_resnet50_fpn": _Kind(
        _per_anchor("head.classification_head.cls_logits.weight", 1), _fcos_forward, _fcos_head, ("boxes", "scores")
    ),
    "fasterrcnn_resnet50_fpn": _RCNN,
    "fasterrcnn_resnet50_fpn_v2": _RCNN,
    "fasterrcnn_mobilenet_v3_large_fpn": _RCNN,
    "fasterrcnn_mobilenet_v3_large_320_fpn": _RCNN,
    "maskrcnn_resnet50_fpn": _MASK_RCNN,
    "maskrcnn_resnet50_fpn_v2": _MASK_RCNN,
}
"""Builder in torchvision.models.detection -> what it takes to export it."""
