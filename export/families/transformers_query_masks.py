"""transformers' networks of query masks, panoptic or for instances: DETR with masks, MaskFormer, Mask2Former, EoMT.

Their configurations do not say which classes are things. It is read off the class names of the sets that are known here
(COCO panoptic: the 80 classes that have boxes; Cityscapes: people and vehicles), and otherwise asked for: a model that
takes every class for stuff, or for things, would answer wrongly without a word.

Nor do they say whether a network was trained on instances or on panoptic maps. One whose classes are all things answers
with instances, any other with a panoptic map, and ``--task`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgedet.class_names import COCO
from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.transformers_kind import Config, Kind
from edgedet.export.request import ExportRequest
from edgedet.runtime.heads import Head, Queries, QueryInstances, QueryMasks

__all__ = ["QUERY_MASKS", "query_mask_kind", "thing_classes"]

_THINGS = {
    "COCO": frozenset(name.casefold() for name in COCO),
    "Cityscapes": frozenset({"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}),
}
"""Sets that are known by their things: a model that has all of them was trained on it."""

EXAMPLE = '{"head": {"parameters": {"thing_classes": [0, 1]}}}'


def thing_classes(names: tuple[str, ...], request: ExportRequest) -> tuple[int, ...]:
    """Return the ids of the classes that are things, where the names tell the set.

    Raises:
        SpecError: if they tell none.
    """
    folded = [name.strip().casefold() for name in names]
    for things in _THINGS.values():
        if things <= set(folded):
            return tuple(index for index, name in enumerate(folded) if name in things)
    raise SpecError(
        f"the {len(names)} classes of '{request.source}' to be those of {' or '.join(_THINGS)}, whose things are known",
        f"{', '.join(names[:5])}{', ...' if names[5:] else ''}",
        f"Pass --spec FILE.json that names the ids of the classes that are things: {EXAMPLE}, or --task instance",
    )


def _detr_head(config: Mapping[str, Any], names: tuple[str, ...], request: ExportRequest) -> Head:
    return head_with_fragment(
        request,
        QueryMasks,
        thing_classes=lambda: thing_classes(names, request),
        assignment="softmax",
        score_threshold=0.85,
        smallest_area=4,
    )


def _mask_head(config: Mapping[str, Any], names: tuple[str, ...], request: ExportRequest) -> Head:
    return head_with_fragment(request, QueryMasks, thing_classes=lambda: thing_classes(names, request))


def _eomt_size(config: Mapping[str, Any]) -> tuple[int, int]:
    side = config.get("image_size", 640)
    return (side, side) if isinstance(side, int) else (int(side[1]), int(side[0]))


def _fix_eomt_masks(model: Any) -> None:
    """Turn the share of queries whose attention is masked into constants, by which the network branches."""
    shares = model.attn_mask_probs.tolist()
    if any(0 < share < 1 for share in shares):
        raise ModelFileError(
            "an EoMT that answers a picture the same way twice",
            f"one that masks attention at random (attn_mask_probs {shares})",
            "Train it to the end, which brings them to 0",
        )
    del model.attn_mask_probs
    model.attn_mask_probs = shares


def _attend_plainly(model: Any) -> None:
    """Leave out torch's fused attention, whose result has strides that Swin's export trips over."""
    model.set_attn_implementation("eager")


def _detr_instances(config: Config, names: tuple[str, ...], request: ExportRequest) -> Head:
    return head_with_fragment(request, Queries, activation="softmax", no_object=True, mask_logits=True)


def _instances(config: Config, names: tuple[str, ...], request: ExportRequest) -> Head:
    return head_with_fragment(request, QueryInstances)


_FIELDS, _OUTPUTS = ("class_queries_logits", "masks_queries_logits"), ("class_logits", "mask_logits")

_DETR = Kind("DetrForSegmentation", "panoptic", ("logits", "pred_masks"), _OUTPUTS, _detr_head)

QUERY_MASKS: Mapping[str, Kind] = {
    "DetrForSegmentation": _DETR,
    "MaskFormerForInstanceSegmentation": Kind(
        "MaskFormerForInstanceSegmentation", "panoptic", _FIELDS, _OUTPUTS, _mask_head
    ),
    "Mask2FormerForUniversalSegmentation": Kind(
        "Mask2FormerForUniversalSegmentation", "panoptic", _FIELDS, _OUTPUTS, _mask_head, prepare=_attend_plainly
    ),
    **{
        name: Kind(name, "panoptic", _FIELDS, _OUTPUTS, _mask_head, _eomt_size, _fix_eomt_masks)
        for name in ("EomtForUniversalSegmentation", "EomtDinov3ForUniversalSegmentation")
    },
}
"""First of the config's ``architectures`` -> what to know for a panoptic map."""


def query_mask_kind(kind: Kind, names: tuple[str, ...], request: ExportRequest) -> Kind:
    """Return the architecture as it answers with the task that the request names, or that the classes tell."""
    things_only = {name.strip().casefold() for name in names} in _THINGS.values()
    if request.task != "instance" and not (things_only and request.task is None):
        return kind
    if kind is _DETR:
        # Its box head gives each query's box; the others have none.
        return replace(
            kind,
            task="instance",
            fields=("logits", "pred_boxes", "pred_masks"),
            outputs=("logits", "boxes", "masks"),
            head=_detr_instances,
        )
    return replace(kind, task="instance", head=_instances)
