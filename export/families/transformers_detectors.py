"""transformers' detectors: DETR and its kin, YOLOS.

Source: each model's ``post_process_object_detection`` (softmax with a last "no object" column for DETR and YOLOS,
sigmoid for the others).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedet.export.families.transformers_kind import Kind, MakeHead
from edgedet.export.request import ExportRequest
from edgedet.runtime.heads import Queries

__all__ = ["DETECTORS"]


def _softmax_queries(config: Mapping[str, Any], names: tuple[str, ...], request: ExportRequest) -> Queries:
    return Queries(activation="softmax", no_object=True)


def _sigmoid_queries(config: Mapping[str, Any], names: tuple[str, ...], request: ExportRequest) -> Queries:
    if config.get("use_focal_loss") is False:
        return _softmax_queries(config, names, request)
    return Queries(activation="sigmoid", no_object=False)


def _kind(head: MakeHead, *, dynamic_batch: bool = True) -> Kind:
    return Kind(
        "AutoModelForObjectDetection",
        "detect",
        ("logits", "pred_boxes"),
        ("logits", "boxes"),
        head,
        dynamic_batch=dynamic_batch,
    )


DETECTORS: Mapping[str, Kind] = {
    "detr": _kind(_softmax_queries),
    "yolos": _kind(_softmax_queries),
    "table-transformer": _kind(_softmax_queries),
    "conditional_detr": _kind(_sigmoid_queries),
    "deformable_detr": _kind(_sigmoid_queries),
    # Their decoders turn the batch into a constant while they are traced.
    "rt_detr": _kind(_sigmoid_queries, dynamic_batch=False),
    "rt_detr_v2": _kind(_sigmoid_queries, dynamic_batch=False),
    "d_fine": _kind(_sigmoid_queries, dynamic_batch=False),
}
"""``model_type`` of the config -> what to know."""
