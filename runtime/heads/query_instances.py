"""Query instances: a class and a mask for each of a fixed set of queries, each query an object of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgedet.masks import Mask, Masks
from edgedet.model_spec import TensorSpec
from edgedet.results import Detections
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import MaskHead, RawOutputs
from edgedet.runtime.heads.logit_maps import finite_maps
from edgedet.runtime.heads.logit_masks import LogitMasks
from edgedet.runtime.heads.scores import Chosen, choose_softmax
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["QueryInstances"]


@dataclass(frozen=True)
class QueryInstances(MaskHead):
    """Class logits and mask logits of Q queries (Mask2Former, MaskFormer, EoMT trained on instances).

    Tensors:
        0: (B, Q, C+1) class logits, the last column is "no object".
        1: (B, Q, h, w) mask logits over the network's whole input, padding included; any h and w.

    Every pair of query and class is a possible answer, of which the Q best by class score (softmax over C+1) go on.
    Mask logits are mixed bilinearly at the source's pixels, padding left out; a pixel is set where that is above 0. An
    answer scores its class score times the mean mask probability over the pixels that are set, and one without any is
    none. Masks may overlap.

    Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation" (Mask2Former), arXiv
    2112.01527, and its code (``instance_inference``); Kerssies et al., "Your ViT is Secretly an Image Segmentation
    Model" (EoMT), arXiv 2503.19108.
    """

    name: ClassVar[str] = "query_instances"

    def check(self, outputs: Sequence[TensorSpec], classes: int, size: tuple[int, int]) -> None:
        """Hold the outputs against the parameters (see ``Head.check``)."""
        check_count(outputs, ("class logits", "mask logits"))
        logits, masks = outputs
        check_rank(logits, ("batch", "queries", "classes"))
        check_rank(masks, ("batch", "queries", "height", "width"))
        check_channels(logits, 2, ((1, "no object"),), classes)
        if logits.shape[1] != -1:
            count = logits.shape[1]
            check_axis(masks, 1, count, f"{count} queries as in {logits.name!r}", "Correct the outputs of the spec")

    def decode_objects(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> Detections:
        """Turn one picture's logits into objects (see ``MaskHead.decode_objects``)."""
        logits, maps = outputs
        # No mean probability is above 1: what the class alone rules out needs no mask.
        chosen = _best(choose_softmax(logits, -1, selection, multi_label=True), len(logits))
        sampler = LogitMasks(placement, size, (maps.shape[1], maps.shape[2]))
        found = {query: sampler.whole(finite_maps(maps[query])) for query in set(chosen.location.tolist())}
        means = np.array([found[query][1] for query in chosen.location.tolist()], np.float32)
        score = chosen.value * means
        kept = np.flatnonzero((means > 0) & (score >= selection.confidence))
        kept = kept[np.argsort(-score[kept], kind="stable")][: selection.max_detections]
        items = tuple(found[query][0] for query in chosen.location[kept].tolist())
        return Detections(
            np.array([_box(mask) for mask in items], np.float32).reshape(-1, 4),
            score[kept],
            chosen.class_id[kept],
            class_names,
            masks=Masks(items, placement.source_width, placement.source_height),
        )


def _best(chosen: Chosen, count: int) -> Chosen:
    best = np.argsort(-chosen.value, kind="stable")[:count]
    return Chosen(chosen.location[best], chosen.class_id[best], chosen.value[best])


def _box(mask: Mask) -> tuple[int, int, int, int]:
    return mask.left, mask.top, mask.left + mask.width, mask.top + mask.height
