"""torchvision's semantic segmenters (FCN, DeepLabV3, LRASPP), by the name of their builder and their weights.

Their last step enlarges the scores to the network's input; the exported network leaves it out, and the runtime enlarges
them to the picture itself, once instead of twice. The auxiliary classifier, which only training reads, is left out too.

torchvision resizes pictures to a shorter side of 520 pixels, whatever shape comes out; here the size is fixed. The
default holds a 4:3 picture at that scale.

Source: torchvision.models.segmentation; Long et al., "Fully Convolutional Networks for Semantic Segmentation", arXiv
1411.4038; Chen et al., "Rethinking Atrous Convolution" (DeepLabV3), arXiv 1706.05587; Howard et al., "Searching for
MobileNetV3" (LR-ASPP), arXiv 1905.02244.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from edgedet.class_names import VOC21
from edgedet.errors import ModelFileError
from edgedet.export.checkpoint import load_state_dict
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.state_dict import load_weights
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec
from edgedet.optional import require
from edgedet.runtime.heads import ClassScores

__all__ = ["CLASS_LAYERS", "load_segmenter"]

CLASS_LAYERS: Mapping[str, str] = {
    "fcn_resnet50": "classifier.4.weight",
    "fcn_resnet101": "classifier.4.weight",
    "deeplabv3_resnet50": "classifier.4.weight",
    "deeplabv3_resnet101": "classifier.4.weight",
    "deeplabv3_mobilenet_v3_large": "classifier.4.weight",
    "lraspp_mobilenet_v3_large": "classifier.low_classifier.weight",
}
"""Builder in torchvision.models.segmentation -> the layer whose first axis is the classes."""

_DEFAULT_SIZE = (696, 520)
_STRIDE = 8
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_segmenter(source: Source, request: ExportRequest) -> LoadedModel:
    """Build the model that the variant names and load the weights strictly.

    Raises:
        ModelFileError: if the weights do not fit it.
    """
    builder = str(request.variant)
    segmentation = require("torchvision.models.segmentation", extra="torchvision", purpose="exporting its segmenters")
    weights = load_state_dict(source.path, trust=request.trust)
    layer = weights.get(CLASS_LAYERS[builder])
    if layer is None:
        raise ModelFileError(
            f"the weights of {builder}",
            f"'{source.path}' without '{CLASS_LAYERS[builder]}'",
            "Name the right model",
        )
    classes = int(layer.shape[0])
    weights = {name: value for name, value in weights.items() if not name.startswith("aux_classifier.")}
    model = getattr(segmentation, builder)(weights=None, weights_backbone=None, num_classes=classes)
    load_weights(model, weights, source.path)
    model.forward = types.MethodType(_scores, model)
    size = request.size or _DEFAULT_SIZE
    note = (
        f"torchvision scales pictures to a shorter side of 520; this network takes {size[0]}x{size[1]}, with the "
        "picture fitted in (--imgsz sets another size)"
    )
    return LoadedModel(
        network=model.eval(),
        head=ClassScores(),
        input=InputSpec(
            width=size[0],
            height=size[1],
            size_multiple=_STRIDE,
            mean=(_MEAN[0] * 255, _MEAN[1] * 255, _MEAN[2] * 255),
            std=(_STD[0] * 255, _STD[1] * 255, _STD[2] * 255),
            pad_position="bottom_right",
            pad_value=round(sum(_MEAN) / 3 * 255),
        ),
        class_names=VOC21 if classes == len(VOC21) else None,
        task="semantic",
        output_names=("scores",),
        notes=(note,),
    )


def _scores(self: Any, images: Any) -> Any:
    """Answer with the scores as the classifier gives them; that of LRASPP takes two of the backbone's features."""
    features = self.backbone(images)
    return self.classifier(features.get("out", features))
