"""What a changed network costs: the metric of its task against labels, or against the float network's own answers.

Two measures. The score is what users know (mAP, mIoU, PQ) and what the gate decides by; without labels, what the float
network finds with some confidence is taken for the truth. The disagreement compares the answers of both networks one by
one; it moves with every small change, so it ranks layers on a few pictures, where the score would only step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.class_match import ClassMatch, match_classes
from edgedet.dataset.coco_panoptic import LabelledSegment, PanopticLabels
from edgedet.dataset.labelled_set import LabelledImage
from edgedet.dataset.semantic import SemanticLabels
from edgedet.errors import SourceError
from edgedet.export.quantisation.feeding import detector_on
from edgedet.export.quantisation.half_arithmetic import has_half, round_everywhere
from edgedet.maps import ClassMap, PanopticMap
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine
from edgedet.runtime.selection import Selection
from edgedet.scoring import SCORINGS, Scores, Scoring

__all__ = [
    "Answer",
    "Judge",
    "Verdict",
    "disagreement",
    "has_unsigned_activations",
    "labelled_judge",
    "own_judge",
    "run_network",
    "target_detector",
    "target_engine",
]

Answer = Detections | ClassMap | PanopticMap

SELECTION = Selection(confidence=0.01, iou=0.6, max_detections=300)
"""Low enough for average precision; the same for both networks."""

SURE = 0.25
"""What the float network scores at least this counts as there, where no labels say so."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a network reached.

    Attributes:
        value: the metric, 0..1.
        scores: all figures, per class too.
    """

    value: float
    scores: Scores

    def loss(self, reference: Verdict) -> float:
        """Return how much less this is than the reference, in points of the metric (hundredths)."""
        return 100.0 * (reference.value - self.value)


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores networks on the same pictures and labels.

    Attributes:
        spec: how the networks are fed and read.
        labels: picture files, and the labels that belong to each once its size is known.
        classes: which class of the model is which of the labels.
        against: ``labels`` or ``float`` (the float network's own answers).
    """

    spec: ModelSpec
    labels: Sequence[tuple[Path, Callable[[int, int], Any]]]
    classes: ClassMatch
    against: str

    @property
    def scoring(self) -> Scoring:
        """How the model's task is scored."""
        return SCORINGS[self.spec.task]

    @property
    def metric(self) -> str:
        """Name of the figure that decides."""
        return self.scoring.metric

    def __call__(self, model: onnx.ModelProto) -> Verdict:
        """Run a network on all pictures and score it."""
        scores = self.scoring.score(self._pairs(model), self.classes, SELECTION.max_detections)
        return Verdict(self.scoring.headline(scores), scores)

    def _pairs(self, model: onnx.ModelProto) -> Iterator[tuple[Any, Answer]]:
        with target_detector(self.spec, model) as detector:
            for path, sized in self.labels:
                image = read_image(path)
                yield sized(image.shape[1], image.shape[0]), detector(image)


def labelled_judge(spec: ModelSpec, data: Path, names: Sequence[str] | None = None) -> Judge:
    """Return the judge by a labelled set (see ``edgedet eval --data``).

    Raises:
        DatasetError: if the set cannot be read or shares no class with the model.
    """
    scoring = SCORINGS[spec.task]
    labelled = scoring.read(str(data), names, spec.class_names)
    classes = scoring.match(spec.class_names, labelled.class_names)
    return Judge(spec, [(image.path, image.sized) for image in labelled.images], classes, "labels")


def own_judge(spec: ModelSpec, model: onnx.ModelProto, paths: Sequence[Path]) -> Judge:
    """Return the judge by what the float network itself answers on pictures.

    Raises:
        SourceError: if it finds nothing with confidence in any of them.
    """
    answers = run_network(spec, model, paths)
    labels = [(path, _as_labels(path, answer, spec)) for path, answer in zip(paths, answers, strict=True)]
    if not any(_shows_something(answer) for answer in answers):
        raise SourceError(
            f"pictures on which the float network is sure of something (scores of {SURE} or more)",
            f"{len(paths)} without",
            "Name pictures such as the camera will give with --calib, or labelled ones with --data",
        )
    names = spec.class_names
    return Judge(
        spec,
        [(path, _always(label)) for path, label in labels],
        match_classes(names, names, unused=frozenset()),
        "float",
    )


def run_network(spec: ModelSpec, model: onnx.ModelProto, paths: Sequence[Path]) -> list[Answer]:
    """Return a network's answers on pictures."""
    with target_detector(spec, model) as detector:
        return [detector(read_image(path)) for path in paths]


def disagreement(reference: Sequence[Answer], answers: Sequence[Answer]) -> float:
    """Return how far two networks' answers on the same pictures lie apart, 0 (the same) to 1.

    Detections: each of the reference's, weighted by its score, is held against the box of the same class that fits it
    best; what is lost is one minus the product of their IoU, of the ratio of their scores and of the IoU of their masks
    where there are any. Maps: the share of pixels with another class.
    """
    parts = [_apart(a, b) for a, b in zip(reference, answers, strict=True)]
    total = sum(weight for _, weight in parts)
    return sum(lost for lost, _ in parts) / total if total else 0.0


def target_engine(
    spec: ModelSpec, model: onnx.ModelProto, *, outputs: Sequence[str] | None = None, threads: int | None = None
) -> OnnxRuntimeEngine:
    """Return an engine that computes what a network's own engine does, for the outputs that the spec names, or others.

    Bytes without a sign are what ONNX Runtime runs on a CPU, so its integer kernels judge that flavour. What TensorRT
    runs is computed as it is written, in float16 as well: there integer kernels would only round otherwise.
    """
    exact = round_everywhere(model) if has_half(model) else model
    config = {} if has_unsigned_activations(model) else AS_WRITTEN
    engine = OnnxRuntimeEngine(exact.SerializeToString(), config=config, threads=threads)
    engine.select_outputs([output.name for output in spec.outputs] if outputs is None else outputs)
    return engine


def has_unsigned_activations(model: onnx.ModelProto) -> bool:
    """Tell whether a network quantises activations to uint8, as the flavour for ONNX Runtime does."""
    unsigned = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8}
    return any(node.op_type == "QuantizeLinear" and unsigned.intersection(node.input[2:]) for node in model.graph.node)


def target_detector(spec: ModelSpec, model: onnx.ModelProto) -> Detector[Any]:
    """Return a detector on a network's `target_engine`."""
    return detector_on(spec, target_engine(spec, model), SELECTION)


def _always(label: Any) -> Callable[[int, int], Any]:
    return lambda _width, _height: label


def _shows_something(answer: Answer) -> bool:
    return not isinstance(answer, Detections) or bool((answer.score >= SURE).any())


def _as_labels(path: Path, answer: Answer, spec: ModelSpec) -> Any:
    if isinstance(answer, ClassMap):
        return SemanticLabels(answer.class_id.astype(np.int32))
    if isinstance(answer, PanopticMap):
        things = {segment.class_id for segment in answer.segments if segment.is_thing}
        segments = tuple(LabelledSegment(segment.id, segment.class_id) for segment in answer.segments)
        return PanopticLabels(
            answer.segment_id, segments, tuple(index in things for index in range(len(spec.class_names)))
        )
    sure = answer.where(answer.score >= SURE)
    sides = sure.xyxy[:, 2:] - sure.xyxy[:, :2]
    return LabelledImage(
        image_id=str(path),
        path=path,
        boxes=sure.xyxy,
        class_id=sure.class_id,
        iscrowd=np.zeros(len(sure), np.bool_),
        area=sides.prod(axis=1).astype(np.float32) if sure.masks is None else sure.masks.area.astype(np.float32),
        outlines=None if sure.masks is None else tuple(sure.masks.to_rle()),
    )


def _apart(reference: Answer, answer: Answer) -> tuple[float, float]:
    if isinstance(reference, ClassMap) and isinstance(answer, ClassMap):
        return float((reference.class_id != answer.class_id).mean()), 1.0
    if isinstance(reference, PanopticMap) and isinstance(answer, PanopticMap):
        return float((_classes(reference) != _classes(answer)).mean()), 1.0
    assert isinstance(reference, Detections) and isinstance(answer, Detections)
    return _detections_apart(reference, answer)


def _classes(answer: PanopticMap) -> npt.NDArray[np.int64]:
    table = np.full(max((segment.id for segment in answer.segments), default=0) + 1, -1, np.int64)
    for segment in answer.segments:
        table[segment.id] = segment.class_id
    return np.asarray(table[answer.segment_id])


def _detections_apart(reference: Detections, answer: Detections) -> tuple[float, float]:
    chosen = reference.where(reference.score >= SURE / 2)
    weight = float(chosen.score.sum())
    if not len(chosen) or not len(answer):
        return weight, weight
    low = np.maximum(chosen.xyxy[:, None, :2], answer.xyxy[None, :, :2])
    high = np.minimum(chosen.xyxy[:, None, 2:], answer.xyxy[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (chosen.xyxy, answer.xyxy)]
    iou = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    ratio = chosen.score[:, None] / np.maximum(answer.score[None], 1e-9)
    alike = iou * np.minimum(ratio, 1 / np.maximum(ratio, 1e-9)) * (chosen.class_id[:, None] == answer.class_id[None])
    best, kept = alike.argmax(axis=1), alike.max(axis=1)
    if chosen.masks is not None and answer.masks is not None:
        pairs = enumerate(best.tolist())
        kept = kept * [_mask_iou(chosen.masks.bitmap(a), answer.masks.bitmap(b)) for a, b in pairs]
    return weight - float((chosen.score * kept).sum()), weight


def _mask_iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
