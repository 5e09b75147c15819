"""Query masks: a class and a mask for each of a fixed set of queries, merged into one panoptic map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError
from edgedet.maps import PanopticMap
from edgedet.model_spec import Task, TensorSpec
from edgedet.runtime.heads.bilinear_argmax import bilinear_argmax
from edgedet.runtime.heads.fit import check_axis, check_channels, check_count, check_rank
from edgedet.runtime.heads.head import MapHead, RawOutputs
from edgedet.runtime.heads.logit_maps import MapSampler, assign_pixels, finite_maps
from edgedet.runtime.heads.panoptic_segments import Parts, check_thing_classes, empty_map, panoptic_map
from edgedet.runtime.heads.scores import softmax
from edgedet.runtime.selection import Selection

if TYPE_CHECKING:
    from edgedet.runtime.preprocess import Placement

__all__ = ["QueryMasks", "inverse_sigmoid"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QueryMasks(MapHead):
    """Class logits and mask logits of Q queries (DETR panoptic, MaskFormer, Mask2Former, EoMT).

    Tensors:
        0: (B, Q, C+1) class logits, the last column is "no object".
        1: (B, Q, h, w) mask logits over the network's whole input, padding included; any h and w.

    A query takes part where its best class is an object and scores at least ``score_threshold`` (softmax over C+1).
    Mask logits are mixed bilinearly at the source's pixels, padding left out. Then, as ``assignment`` says:
        ``weighted`` (MaskFormer and its successors): a pixel goes to the query with the largest score times mask
        probability, and stays without a segment where that probability is below ``mask_threshold``. A query that wins
        less than ``overlap_threshold`` times the pixels at which its mask reaches ``mask_threshold`` is dropped: most
        of it is hidden by others.
        ``softmax`` (DETR): a pixel goes to the query with the largest softmax over the queries' masks, which is the one
        with the largest logit. Segments of ``smallest_area`` pixels or fewer are dropped, and their pixels go to the
        others. (Where several queries answer with the same stuff they are merged and all kept; DETR's own code drops
        all but the first of them at this point.)
    Queries of the same stuff class become one segment.

    ``Selection.confidence`` can only raise ``score_threshold``, never lower it: a panoptic map is one decision about
    all queries, which the papers tune together with the other thresholds. To lower it, change the head's parameter.

    Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (MaskFormer), arXiv
    2107.06278, and its code (``panoptic_inference``); Cheng et al., "Masked-attention Mask Transformer" (Mask2Former),
    arXiv 2112.01527; Carion et al., "End-to-End Object Detection with Transformers" (DETR), arXiv 2005.12872, section 5
    of the appendix and its code (``PostProcessPanoptic``).

    Attributes:
        thing_classes: class ids of countable objects; all other classes are stuff.
        assignment: see above.
        score_threshold: class score that a query must reach.
        mask_threshold: probability from which a pixel counts as part of a query's mask (``weighted`` only).
        overlap_threshold: share of its mask that a query must win (``weighted`` only).
        smallest_area: segments of this many source pixels or fewer are dropped.
    """

    name: ClassVar[str] = "query_masks"
    task: ClassVar[Task] = "panoptic"

    thing_classes: tuple[int, ...]
    assignment: Literal["weighted", "softmax"] = "weighted"
    score_threshold: float = 0.8
    mask_threshold: float = 0.5
    overlap_threshold: float = 0.8
    smallest_area: int = 0

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
        check_thing_classes(self.thing_classes, classes)
        for name in ("score_threshold", "mask_threshold", "overlap_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"head.{name} in 0..1", str(getattr(self, name)), "Correct it in the --spec file")

    def decode_map(
        self,
        outputs: RawOutputs,
        placement: Placement,
        size: tuple[int, int],
        selection: Selection,
        class_names: tuple[str, ...],
    ) -> PanopticMap:
        """Turn one picture's logits into segments (see ``MapHead.decode_map``)."""
        logits, masks = outputs
        query, class_id, score = self._answers(logits, selection)
        if not len(query):
            return empty_map(placement.source_height, placement.source_width, class_names)
        sampler = MapSampler(placement, size, (masks.shape[1], masks.shape[2]))
        maps = finite_maps(masks[query])
        merge = self._weighted if self.assignment == "weighted" else self._softmax
        parts = merge(maps, class_id, score, sampler)
        return panoptic_map(parts, self.thing_classes, selection, class_names)

    def _answers(self, logits: npt.NDArray[Any], selection: Selection) -> tuple[IntArray, IntArray, FloatArray]:
        """Return index, class and score of the queries that take part; a query with NaN never does."""
        scores = softmax(logits)
        best = scores.argmax(axis=1)
        score = scores[np.arange(len(scores)), best]
        nothing = logits.shape[1] - 1
        query = np.flatnonzero((best != nothing) & (score >= max(self.score_threshold, selection.confidence)))
        return query, best[query], score[query]

    def _weighted(self, maps: FloatArray, class_id: IntArray, score: FloatArray, sampler: MapSampler) -> Parts:
        found = assign_pixels(maps, sampler, score, inverse_sigmoid(self.mask_threshold))
        shown = found.won >= self.overlap_threshold * found.claimed
        kept = shown & (found.claimed > 0) & (found.owned > self.smallest_area)
        return Parts(found.owner, class_id, score, found.owned, kept)

    def _softmax(self, maps: FloatArray, class_id: IntArray, score: FloatArray, sampler: MapSampler) -> Parts:
        left = np.arange(len(maps))
        while True:
            owner = bilinear_argmax(maps[left], *sampler.samples())
            area = np.bincount(owner.ravel(), minlength=len(left))
            small = self._segment_area(class_id[left], area) <= self.smallest_area
            if small.all() or not small.any():
                return Parts(owner, class_id[left], score[left], area, ~small)
            left = left[~small]

    def _segment_area(self, class_id: IntArray, area: IntArray) -> IntArray:
        """Return the area of the segment that each part belongs to: its own for a thing, its class's for stuff."""
        total = np.bincount(class_id, weights=area).astype(np.int64)
        return np.where(np.isin(class_id, self.thing_classes), area, total[class_id])


def inverse_sigmoid(probability: float) -> float:
    """Return the logit of a probability; of 0 and 1 what every logit and none reaches."""
    if probability in (0, 1):
        return -np.inf if probability == 0 else np.inf
    return float(np.log(probability / (1 - probability)))
