"""transformers' models: folders of tiny networks in edgedet, against transformers' own processors and post-processing.

Pictures are resized once, with OpenCV as edgedet does it, and given to the processor for the rest: Pillow's filter is
another one. Where transformers departs from the code of the paper that edgedet follows, that code stands beside edgedet
instead, written out here, on the outputs of transformers' network: its panoptic merging for DETR, MaskFormer and
Mask2Former (the winner of a pixel keeps it however improbable its mask is there; DETR's own softmax is left out) and
its instances for DETR (merged as if they were a panoptic map).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.masks import Masks
from edgedet.model_spec import Task
from edgedet.results import Detections
from edgedet.runtime.selection import Selection
from systems import transformers_networks as networks
from systems.comparison import Answer, Case, Image, System
from systems.exporting import export
from systems.random_weights import kaiming, normalise_batches, set_spreads
from systems.transformers_networks import NAMES, SIZE, SQUARE

__all__ = ["SYSTEMS"]

THINGS = (3, 4, 5)
NOTHING = len(NAMES)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
THRESHOLD = 0.3
OVERLAP = 0.02
"""Share of its mask that a query must win; random masks overlap more than trained ones, for which it is 0.8."""

Read = Callable[[Any, Any, Any, Image], Answer]
"""Processor, its input, the network's answer, the picture -> what transformers makes of it."""


def _read_boxes(processor: Any, _fed: Any, answer: Any, picture: Image) -> Detections:
    (found,) = processor.post_process_object_detection(answer, threshold=THRESHOLD, target_sizes=[picture.shape[:2]])
    limit = np.float32([picture.shape[1], picture.shape[0]] * 2)
    boxes = np.clip(found["boxes"].numpy(), 0, limit)  # theirs may reach out of the picture
    return Detections(boxes, found["scores"].numpy(), found["labels"].numpy())


def _read_boxes_and_masks(processor: Any, fed: Any, answer: Any, picture: Image) -> Detections:
    """DETR's PostProcessSegm, cut off at each query's box."""
    import torch

    kept = (answer.logits[0].softmax(-1)[:, :-1].max(-1).values > THRESHOLD).numpy()
    found = _read_boxes(processor, fed, answer, picture)
    masks = torch.nn.functional.interpolate(answer.pred_masks, picture.shape[:2], mode="bilinear")[0].sigmoid() > 0.5
    x, y = np.arange(picture.shape[1]) + 0.5, np.arange(picture.shape[0])[:, None] + 0.5
    bitmaps = [
        mask & (x >= left) & (x < right) & (y >= top) & (y < bottom)
        for mask, (left, top, right, bottom) in zip(masks.numpy()[kept], found.xyxy.tolist(), strict=True)
    ]
    shape = (0, *picture.shape[:2])
    return Detections(
        found.xyxy,
        found.score,
        found.class_id,
        masks=Masks.from_bitmaps(np.array(bitmaps) if bitmaps else np.zeros(shape, np.bool_)),
    )


def _read_classes(processor: Any, _fed: Any, answer: Any, picture: Image) -> ClassMap:
    (found,) = processor.post_process_semantic_segmentation(answer, target_sizes=[picture.shape[:2]])
    return ClassMap(found.numpy().astype(np.uint8))


def _read_instances(processor: Any, _fed: Any, answer: Any, picture: Image) -> Detections:
    (found,) = processor.post_process_instance_segmentation(
        answer, threshold=THRESHOLD, target_sizes=[picture.shape[:2]], return_binary_maps=True
    )
    segments = found["segments_info"]
    bitmaps = found["segmentation"].numpy() > 0 if segments else np.zeros((0, *picture.shape[:2]), np.bool_)
    return _instances(bitmaps, [item["score"] for item in segments], [item["label_id"] for item in segments])


def _read_eomt_instances(processor: Any, _fed: Any, answer: Any, picture: Image) -> Detections:
    """EoMT's own evaluation: the best pairs of query and class, score times mean mask probability.

    transformers takes each query's best class alone, and answers with one map in which instances hide each other.
    """
    import torch

    logits = answer.class_queries_logits[0].softmax(-1)[:, :-1]
    maps = torch.nn.functional.interpolate(answer.masks_queries_logits, picture.shape[:2], mode="bilinear")[0]
    scores, pairs = logits.flatten().topk(len(logits))
    masks = maps[pairs // NOTHING]
    means = (masks.sigmoid() * (masks > 0)).sum((1, 2)) / ((masks > 0).sum((1, 2)) + 1e-6)
    scores = scores * means
    kept = ((scores >= THRESHOLD) & (masks > 0).any(2).any(1)).nonzero()[:, 0]
    return _instances((masks[kept] > 0).numpy(), scores[kept].tolist(), (pairs[kept] % NOTHING).tolist())


def _instances(bitmaps: npt.NDArray[np.bool_], scores: list[float], labels: list[int]) -> Detections:
    masks = Masks.from_bitmaps(bitmaps)
    boxes = [(mask.left, mask.top, mask.left + mask.width, mask.top + mask.height) for mask in masks]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.float32(scores), np.array(labels, np.int64), masks=masks
    )


def _read_merged(_processor: Any, _fed: Any, answer: Any, picture: Image) -> PanopticMap:
    """MaskFormer's panoptic_inference, arXiv 2107.06278."""
    import torch

    scores, labels = answer.class_queries_logits[0].softmax(-1).max(-1)
    maps = torch.nn.functional.interpolate(answer.masks_queries_logits, picture.shape[:2], mode="bilinear")[0].sigmoid()
    kept = (labels != NOTHING) & (scores > 0.8)
    scores, labels, maps = scores[kept], labels[kept], maps[kept]
    segment_id = np.zeros(picture.shape[:2], np.int32)
    segments: list[Segment] = []
    if not len(scores):
        return PanopticMap(segment_id, ())
    owner = (scores[:, None, None] * maps).argmax(0)
    stuff: dict[int, int] = {}
    for index, label in enumerate(labels.tolist()):
        won, claimed = owner == index, maps[index] >= 0.5
        shown = (won & claimed).numpy()
        if (
            not int(won.sum())
            or not int(claimed.sum())
            or not shown.any()
            or int(won.sum()) < OVERLAP * int(claimed.sum())
        ):
            continue
        known = stuff.get(label)
        if known is None:
            segments.append(Segment(len(segments) + 1, label, label in THINGS, float(scores[index]), int(shown.sum())))
            known = len(segments)
            if label not in THINGS:
                stuff[label] = known
        segment_id[shown] = known
    return PanopticMap(segment_id, tuple(segments))


def _read_detr_panoptic(_processor: Any, _fed: Any, answer: Any, picture: Image) -> PanopticMap:
    """DETR's PostProcessPanoptic, arXiv 2005.12872, all queries of the same stuff kept."""
    import torch

    scores, labels = answer.logits[0].softmax(-1).max(-1)
    maps = torch.nn.functional.interpolate(answer.pred_masks, picture.shape[:2], mode="bilinear")[0]
    kept = (labels != NOTHING) & (scores > 0.85)
    scores, labels, maps = scores[kept], labels[kept], maps[kept]
    while len(scores):
        owner = maps.softmax(0).argmax(0)
        for label in labels.unique().tolist():
            if label not in THINGS:
                same = (labels == label).nonzero()[:, 0]
                owner[torch.isin(owner, same)] = same[0]
        areas = torch.bincount(owner.flatten(), minlength=len(scores))
        first = {label: int((labels == label).nonzero()[0, 0]) for label in labels.unique().tolist()}
        of = [index if label in THINGS else first[label] for index, label in enumerate(labels.tolist())]
        small = areas[of] <= 4
        if not small.any() or small.all():
            break
        scores, labels, maps = scores[~small], labels[~small], maps[~small]
    if not len(scores) or bool(small.all()):
        return PanopticMap(np.zeros(picture.shape[:2], np.int32), ())
    segments = tuple(
        Segment(index + 1, label, label in THINGS, float(scores[index]), int(areas[index]))
        for index, label in enumerate(labels.tolist())
        if areas[index]
    )
    return PanopticMap((owner + 1).numpy().astype(np.int32), segments)


def _read_eomt_panoptic(processor: Any, _fed: Any, answer: Any, picture: Image) -> PanopticMap:
    stuff = [index for index in range(len(NAMES)) if index not in THINGS]
    (found,) = processor.post_process_panoptic_segmentation(
        answer, target_sizes=[picture.shape[:2]], stuff_classes=stuff, overlap_mask_area_threshold=OVERLAP
    )
    numbers = found["segmentation"].numpy().astype(np.int64) + 1  # -1 is no segment
    segments = {
        item["id"]: Segment(item["id"] + 1, item["label_id"], item["label_id"] in THINGS, item["score"], 0)
        for item in found["segments_info"]
    }
    return PanopticMap(numbers.astype(np.int32), tuple(segments.values()))


@dataclass(frozen=True)
class Model:
    """One of transformers' models.

    Attributes:
        definition: the paper.
        exported: what the file holds.
        build: makes it from the package.
        processor: the class that goes with it.
        read: what is done with the network's answer.
        spreads: parts whose last layers' answers get these deviations.
        size: of the network's input.
        against: who answers beside edgedet.
        task: what the export is asked for.
        view: see ``Case``.
        settings: of the processor.
        adjust: makes its queries differ more, where those of random weights hardly do.
        parameters: of the head, as ``--spec`` gives them.
    """

    definition: str
    exported: str
    build: Callable[[Any], Any]
    processor: str
    read: Read
    spreads: Mapping[str, float]
    size: tuple[int, int] = SIZE
    against: str = "transformers"
    task: Task | None = None
    view: tuple[int, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    adjust: Callable[[Any], None] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _prepare(folder: Path, pictures: Sequence[Image], model: Model) -> Case:
    import torch
    import transformers

    torch.manual_seed(0)
    network = model.build(transformers).eval()
    processor = getattr(transformers, model.processor)(
        do_resize=False, do_normalize=True, image_mean=MEAN, image_std=STD, do_pad=False, **model.settings
    )
    shown = [_feed(processor, picture, model) for picture in pictures]
    _let_fire(network, model, lambda: [network(pixel_values=fed["pixel_values"]) for fed in shown])
    source = folder / "model"
    transformers.utils.logging.disable_progress_bar()
    network.save_pretrained(source)
    config = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    size = {"height": model.size[1], "width": model.size[0]}
    (source / "preprocessor_config.json").write_text(json.dumps({**config, "size": size}))
    fragment = {"head": {"parameters": model.parameters}} if model.parameters else None
    exported = export(source, folder, pictures, task=model.task, fragment=fragment)
    selection = Selection(confidence=THRESHOLD, max_detections=100)
    return Case(exported, functools.partial(_answer, network, processor, model), selection, model.view)


def _let_fire(network: Any, model: Model, run: Callable[[], Any]) -> None:
    import torch

    kaiming(network)
    for name, weights in network.named_parameters():
        if "quer" in name and name.endswith("weight") and weights.ndim == 2 and "proj" not in name:
            torch.nn.init.normal_(weights)
    if model.adjust is not None:
        with torch.no_grad():
            model.adjust(network)
    normalise_batches(network, run)
    for part, spread in model.spreads.items():
        set_spreads(dict.fromkeys(_last_layers(network.get_submodule(part)), spread), run, mean=0)


def _tell_detr_queries_apart(network: Any) -> None:
    network.detr.model.query_position_embeddings.weight.mul_(4)
    for projection in (network.bbox_attention.q_proj, network.bbox_attention.k_proj):
        projection.weight.mul_(4)
    # The last input channels are the attention of a query, one a head; the others are the same for all queries.
    network.mask_head.conv1.conv.weight[:, -8:].mul_(100)


def _tell_maskformer_queries_apart(network: Any) -> None:
    network.model.transformer_module.queries_embedder.weight.mul_(5)


def _last_layers(part: Any) -> list[Any]:
    """Return the last layer with weights of a part, or of each of its parts where it is a list of them."""
    import torch

    parts = list(part) if isinstance(part, torch.nn.ModuleList) else [part]
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    return [[layer for layer in one.modules() if isinstance(layer, layers)][-1] for one in parts]


def _feed(processor: Any, picture: Image, model: Model) -> Any:
    resized = cv2.resize(picture, model.size)[..., ::-1].copy()
    return processor(images=resized, return_tensors="pt")


def _answer(network: Any, processor: Any, model: Model, picture: Image) -> Answer:
    import torch

    fed = _feed(processor, picture, model)
    with torch.no_grad():
        answer = network(pixel_values=fed["pixel_values"])
        return model.read(processor, fed, answer, picture)


CLASSIFIER = {"class_labels_classifier": 2.0, "bbox_predictor": 1.0}
DECODER = {"model.enc_score_head": 2.0, "model.decoder.class_embed": 2.0, "model.decoder.bbox_embed": 0.5}
CLASS_AND_MASK = {"class_predictor": 4.0}
BOXES = "class logits and boxes of every query"
MASKS = "class and mask logits of every query"
DETR, MASKFORMER = "[DETR](https://arxiv.org/abs/2005.12872)", "[MaskFormer](https://arxiv.org/abs/2107.06278)"
MASK2FORMER, EOMT = "[Mask2Former](https://arxiv.org/abs/2112.01527)", "[EoMT](https://arxiv.org/abs/2503.19108)"
DETR_MASKS = {"detr.class_labels_classifier": 4.0, "detr.bbox_predictor": 1.0, "mask_head": 3.0}
MASKFORMER_PARTS = {**CLASS_AND_MASK, "mask_embedder": 1.0}
MERGED = {"thing_classes": THINGS, "overlap_threshold": OVERLAP}
EOMT_SIZES = {"size": {"shortest_edge": SQUARE[0], "longest_edge": SQUARE[0]}}

MODELS = {
    "detr": Model(DETR, BOXES, networks.detr, "DetrImageProcessor", _read_boxes, CLASSIFIER),
    "conditional-detr": Model(
        "[Conditional DETR](https://arxiv.org/abs/2108.06152)",
        BOXES,
        networks.conditional_detr,
        "ConditionalDetrImageProcessor",
        _read_boxes,
        CLASSIFIER,
    ),
    "deformable-detr": Model(
        "[Deformable DETR](https://arxiv.org/abs/2010.04159)",
        BOXES,
        networks.deformable_detr,
        "DeformableDetrImageProcessor",
        _read_boxes,
        {"class_embed": 2.0, "bbox_embed": 0.5},
    ),
    "rt-detr": Model(
        "[RT-DETR](https://arxiv.org/abs/2304.08069)",
        BOXES,
        networks.rt_detr,
        "RTDetrImageProcessor",
        _read_boxes,
        DECODER,
    ),
    "rt-detr-v2": Model(
        "[RT-DETRv2](https://arxiv.org/abs/2407.17140)",
        BOXES,
        networks.rt_detr_v2,
        "RTDetrImageProcessor",
        _read_boxes,
        DECODER,
    ),
    "d-fine": Model(
        "[D-FINE](https://arxiv.org/abs/2410.13842)",
        BOXES,
        networks.d_fine,
        "RTDetrImageProcessor",
        _read_boxes,
        DECODER,
    ),
    "yolos": Model(
        "[YOLOS](https://arxiv.org/abs/2106.00666)",
        BOXES,
        networks.yolos,
        "YolosImageProcessor",
        _read_boxes,
        CLASSIFIER,
    ),
    "segformer": Model(
        "[SegFormer](https://arxiv.org/abs/2105.15203)",
        "class scores",
        networks.segformer,
        "SegformerImageProcessor",
        _read_classes,
        {"decode_head.classifier": 2.0},
    ),
    "detr:panoptic": Model(
        DETR,
        MASKS,
        networks.detr_masks,
        "DetrImageProcessor",
        _read_detr_panoptic,
        DETR_MASKS,
        against="the paper's code, on transformers' outputs",
        task="panoptic",
        parameters={"thing_classes": THINGS},
        adjust=_tell_detr_queries_apart,
    ),
    "detr:instance": Model(
        DETR,
        BOXES + ", mask logits",
        networks.detr_masks,
        "DetrImageProcessor",
        _read_boxes_and_masks,
        DETR_MASKS,
        against="the paper's code, on transformers' outputs",
        task="instance",
        adjust=_tell_detr_queries_apart,
    ),
    "maskformer:panoptic": Model(
        MASKFORMER,
        MASKS,
        networks.maskformer,
        "MaskFormerImageProcessor",
        _read_merged,
        MASKFORMER_PARTS,
        SQUARE,
        "the paper's code, on transformers' outputs",
        "panoptic",
        parameters=MERGED,
        adjust=_tell_maskformer_queries_apart,
    ),
    "maskformer:instance": Model(
        MASKFORMER,
        MASKS,
        networks.maskformer,
        "Mask2FormerImageProcessor",
        _read_instances,
        MASKFORMER_PARTS,
        SQUARE,
        "transformers, as for Mask2Former",
        "instance",
        SQUARE,
        adjust=_tell_maskformer_queries_apart,
    ),
    "mask2former:panoptic": Model(
        MASK2FORMER,
        MASKS,
        networks.mask2former,
        "Mask2FormerImageProcessor",
        _read_merged,
        CLASS_AND_MASK,
        SQUARE,
        "the paper's code, on transformers' outputs",
        "panoptic",
        parameters=MERGED,
    ),
    "mask2former:instance": Model(
        MASK2FORMER,
        MASKS,
        networks.mask2former,
        "Mask2FormerImageProcessor",
        _read_instances,
        CLASS_AND_MASK,
        SQUARE,
        "transformers",
        "instance",
        SQUARE,
    ),
    "eomt:panoptic": Model(
        EOMT,
        MASKS,
        networks.eomt,
        "EomtImageProcessor",
        _read_eomt_panoptic,
        CLASS_AND_MASK,
        SQUARE,
        "transformers",
        "panoptic",
        SQUARE,
        EOMT_SIZES,
        parameters=MERGED,
    ),
    "eomt:instance": Model(
        EOMT,
        MASKS,
        networks.eomt,
        "EomtImageProcessor",
        _read_eomt_instances,
        CLASS_AND_MASK,
        SQUARE,
        "the paper's code, on transformers' outputs",
        "instance",
        SQUARE,
        EOMT_SIZES,
    ),
}
SYSTEMS = [
    System(
        name, model.definition, model.against, model.exported, functools.partial(_prepare, model=model), "transformers"
    )
    for name, model in MODELS.items()
]
