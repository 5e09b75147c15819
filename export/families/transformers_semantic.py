"""transformers' semantic segmenters: SegFormer.

Source: Xie et al., "SegFormer", arXiv 2105.15203; ``SegformerImageProcessor.post_process_semantic_segmentation``
(bilinear interpolation of the logits to the picture, then the best class).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedet.export.families.transformers_kind import Kind
from edgedet.export.request import ExportRequest
from edgedet.runtime.heads import ClassScores, Head

__all__ = ["SEMANTIC"]


def _head(config: Mapping[str, Any], names: tuple[str, ...], request: ExportRequest) -> Head:
    return ClassScores()


SEMANTIC: Mapping[str, Kind] = {
    "SegformerForSemanticSegmentation": Kind(
        "SegformerForSemanticSegmentation", "semantic", ("logits",), ("scores",), _head, square=True
    ),
}
"""First of the config's ``architectures`` -> what to know."""
