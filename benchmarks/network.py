"""A network of the size and shape of YOLOv8n, with random weights, written straight as an ONNX graph.

The architecture is the published one (3.2 million parameters, 8.7 GFLOPs at 640x640): Conv + SiLU, C2f and SPPF blocks,
a path aggregation neck, a decoupled head with distance distributions over 16 bins, answer (1, 84, 8400). Random weights
cost as much time as trained ones; what differs is how often the network fires. So every convolution is scaled as batch
normalisation would on one picture, and then the bias of the class scores is set such that a wanted number of boxes is
left there after non-maximum suppression.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec
from edgedet.runtime.boxes import cxcywh_to_xyxy
from edgedet.runtime.nms import nms

__all__ = [
    "CLASSES",
    "CONFIDENCE",
    "IOU",
    "MAX_DETECTIONS",
    "SIZE",
    "Scale",
    "Tuned",
    "build_network",
    "spec_of",
    "tune_for",
]

SIZE = 640
CLASSES = 80
CONFIDENCE = 0.25
IOU = 0.7
MAX_DETECTIONS = 300

_BINS = 16
_STRIDES = (8, 16, 32)
_BOX_CHANNELS = 64
_LOGIT_SPREAD = 2.0
_BIN_SPREAD = 1.0
"""Deviations of the class logits and of the bins' logits: how sharply places differ from each other."""
_LOW_BIAS = -15.0
"""Class bias at which no probability rounds to 1 in float32, so that logits can be computed back."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tuned:
    """A network file whose class bias fits one picture, with what is then found there.

    Attributes:
        path: the ONNX file.
        candidates: locations above the confidence threshold.
        boxes: what NMS leaves of them.
    """

    path: Path
    candidates: int
    boxes: int


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and deviation of each channel of a convolution's output (C,), before any normalisation."""

    mean: FloatArray
    deviation: FloatArray


class _Graph:
    """Collects nodes and weights; each method appends a layer and returns the name of its output.

    Without ``scales`` each convolution is followed by an instance normalisation, and ``convolutions`` are the tensors
    to measure; with them the normalisation is folded into the weights, as batch normalisation is on export.
    """

    def __init__(self, seed: int, scales: Sequence[Scale] | None, class_bias: float) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.convolutions: list[str] = []
        self.class_bias = class_bias
        self._random = np.random.default_rng(seed)
        self._scales = scales

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{operator.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def one(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.add(operator, *inputs, **attributes)[0]

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def convolution(
        self, value: str, channels: tuple[int, int], kernel: int, stride: int = 1, *, spread: float = 1, bias: float = 0
    ) -> str:
        """Convolve such that each channel of the answer has the mean ``bias`` and the deviation ``spread``."""
        taken, given = channels
        # Kernels that mostly average give answers as smooth as a trained network's: an object fires in several cells.
        weight = self._random.normal(0, 0.2, (given, taken, kernel, kernel))
        weight += self._random.normal(0, 1, (given, taken, 1, 1))
        weight /= kernel * math.sqrt(taken)
        offset: npt.NDArray[Any] = np.zeros(given)
        if self._scales is not None:
            scale = self._scales[len(self.convolutions)]
            weight *= (spread / scale.deviation)[:, None, None, None]
            offset = bias - scale.mean * spread / scale.deviation
        pads = [kernel // 2] * 4
        parameters = self.constant(weight.astype(np.float32)), self.constant(offset.astype(np.float32))
        value = self.one("Conv", value, *parameters, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        self.convolutions.append(value)
        if self._scales is not None:
            return value
        spreads = self.constant(np.full(given, spread, np.float32)), self.constant(np.full(given, bias, np.float32))
        return self.one("InstanceNormalization", value, *spreads, epsilon=1e-6)

    def conv(self, value: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1) -> str:
        value = self.convolution(value, channels, kernel, stride)
        return self.one("Mul", value, self.one("Sigmoid", value))

    def c2f(self, value: str, channels: tuple[int, int], depth: int, *, shortcut: bool = False) -> str:
        taken, given = channels
        half = given // 2
        split = self.constant(np.array([half, half], np.int64))
        parts = self.add("Split", self.conv(value, (taken, given)), split, outputs=2, axis=1)
        for _ in range(depth):
            inner = self.conv(self.conv(parts[-1], (half, half), 3), (half, half), 3)
            parts.append(self.one("Add", parts[-1], inner) if shortcut else inner)
        return self.conv(self.one("Concat", *parts, axis=1), ((2 + depth) * half, given))

    def sppf(self, value: str, channels: int) -> str:
        parts = [self.conv(value, (channels, channels // 2))]
        for _ in range(3):
            parts.append(self.one("MaxPool", parts[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]))
        return self.conv(self.one("Concat", *parts, axis=1), (2 * channels, channels))

    def double(self, value: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.one("Resize", value, "", scales, **nearest)

    def reshape(self, value: str, *shape: int) -> str:
        return self.one("Reshape", value, self.constant(np.array(shape, np.int64)))


def build_network(
    scales: Sequence[Scale] | None = None, *, seed: int = 0, class_bias: float = 0
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the network, and the names of what its convolutions answer, in order."""
    graph = _Graph(seed, scales, class_bias)
    _head(graph, _neck(graph, *_backbone(graph, "images")))
    graph.nodes[-1].output[0] = "output0"
    measured = graph.convolutions if scales is None else []
    outputs = [
        helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + CLASSES, _locations()]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "channels", "y", "x"]) for name in measured),
    ]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "yolov8n_shaped", [image], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model, graph.convolutions


def spec_of() -> ModelSpec:
    """Return how edgedet feeds and reads the network."""
    return ModelSpec(
        name="yolov8n_shaped",
        task="detect",
        head=HeadSpec("dense_boxes", {"layout": "channels_first"}),
        input=InputSpec(width=SIZE, height=SIZE),
        outputs=(TensorSpec("output0", (1, 4 + CLASSES, _locations()), "float32"),),
        class_names=tuple(f"class{index}" for index in range(CLASSES)),
    )


def tune_for(tensor: FloatArray, boxes: int, path: Path, *, seed: int = 0) -> Tuned:
    """Write the network such that at most ``boxes`` boxes are left on one picture, as near to them as can be.

    Args:
        tensor: the picture as the network's input (1, 3, 640, 640).
        boxes: how many are wanted after NMS at the thresholds of this module.
        path: ONNX file to write; it carries the metadata that edgedet and Ultralytics read.
        seed: of the weights.
    """
    scales = _measure(tensor, seed)
    answer = _run(build_network(scales, seed=seed, class_bias=_LOW_BIAS)[0], ["output0"], tensor)[0][0]
    probability = np.maximum(answer[4:], 1e-30, dtype=np.float64)
    logits = np.log(probability / (1 - probability)) - _LOW_BIAS
    xyxy = cxcywh_to_xyxy(answer[:4].T)
    bias = _bias_for(boxes, lambda value: _found(xyxy, logits + value)[1])
    model, _ = build_network(scales, seed=seed, class_bias=bias)
    _add_metadata(model)
    onnx.save(model, path)
    return Tuned(path, *_found(xyxy, logits + bias))


def _measure(tensor: FloatArray, seed: int) -> list[Scale]:
    model, names = build_network(seed=seed)
    answers = _run(model, names, tensor)
    return [Scale(answer.mean(axis=(0, 2, 3)), np.sqrt(answer.var(axis=(0, 2, 3)) + 1e-6)) for answer in answers]


def _run(model: onnx.ModelProto, names: list[str], tensor: FloatArray) -> list[FloatArray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers: list[FloatArray] = session.run(names, {"images": tensor})
    return answers


def _backbone(graph: _Graph, image: str) -> tuple[str, str, str]:
    value = graph.conv(graph.conv(image, (3, 16), 3, 2), (16, 32), 3, 2)
    value = graph.c2f(value, (32, 32), 1, shortcut=True)
    p3 = graph.c2f(graph.conv(value, (32, 64), 3, 2), (64, 64), 2, shortcut=True)
    p4 = graph.c2f(graph.conv(p3, (64, 128), 3, 2), (128, 128), 2, shortcut=True)
    p5 = graph.c2f(graph.conv(p4, (128, 256), 3, 2), (256, 256), 1, shortcut=True)
    return p3, p4, graph.sppf(p5, 256)


def _neck(graph: _Graph, p3: str, p4: str, p5: str) -> list[tuple[str, int]]:
    def merged(first: str, second: str) -> str:
        return graph.one("Concat", first, second, axis=1)

    n4 = graph.c2f(merged(graph.double(p5), p4), (384, 128), 1)
    n3 = graph.c2f(merged(graph.double(n4), p3), (192, 64), 1)
    out4 = graph.c2f(merged(graph.conv(n3, (64, 64), 3, 2), n4), (192, 128), 1)
    out5 = graph.c2f(merged(graph.conv(out4, (128, 128), 3, 2), p5), (384, 256), 1)
    return [(n3, 64), (out4, 128), (out5, 256)]


def _head(graph: _Graph, levels: list[tuple[str, int]]) -> None:
    flat = []
    for value, channels in levels:
        box = graph.conv(value, (channels, _BOX_CHANNELS), 3)
        box = graph.conv(box, (_BOX_CHANNELS, _BOX_CHANNELS), 3)
        box = graph.convolution(box, (_BOX_CHANNELS, 4 * _BINS), 1, spread=_BIN_SPREAD)
        scores = graph.conv(value, (channels, CLASSES), 3)
        scores = graph.conv(scores, (CLASSES, CLASSES), 3)
        scores = graph.convolution(scores, (CLASSES, CLASSES), 1, spread=_LOGIT_SPREAD, bias=graph.class_bias)
        flat.append(graph.reshape(graph.one("Concat", box, scores, axis=1), 1, 4 * _BINS + CLASSES, -1))
    every = graph.one("Concat", *flat, axis=2)
    sizes = graph.constant(np.array([4 * _BINS, CLASSES], np.int64))
    boxes, scores = graph.add("Split", every, sizes, outputs=2, axis=1)
    graph.one("Concat", _decoded(graph, boxes), graph.one("Sigmoid", scores), axis=1)


def _decoded(graph: _Graph, boxes: str) -> str:
    """Distances to the four sides (the mean of each distribution), then centre and size in input pixels."""
    locations = _locations()
    bins = graph.one("Transpose", graph.reshape(boxes, 1, 4, _BINS, locations), perm=[0, 2, 1, 3])
    project = graph.constant(np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
    distances = graph.one("Conv", graph.one("Softmax", bins, axis=1), project, kernel_shape=[1, 1])
    near, far = graph.add("Split", graph.reshape(distances, 1, 4, locations), outputs=2, axis=1)
    cells, strides = _cells()
    centres = graph.constant(cells)
    low, high = graph.one("Sub", centres, near), graph.one("Add", centres, far)
    half = graph.constant(np.array(0.5, np.float32))
    middle = graph.one("Mul", graph.one("Add", low, high), half)
    box = graph.one("Concat", middle, graph.one("Sub", high, low), axis=1)
    return graph.one("Mul", box, graph.constant(strides))


def _cells() -> tuple[FloatArray, FloatArray]:
    """Centres of all cells in units of their stride (1, 2, A), and the strides (1, 1, A)."""
    centres, strides = [], []
    for stride in _STRIDES:
        side = np.arange(SIZE // stride, dtype=np.float32) + 0.5
        x, y = np.meshgrid(side, side)
        centres.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full((1, x.size), stride, np.float32))
    return np.concatenate(centres, axis=1)[None], np.concatenate(strides, axis=1)[None]


def _locations() -> int:
    return sum((SIZE // stride) ** 2 for stride in _STRIDES)


def _found(xyxy: FloatArray, logits: npt.NDArray[np.float64]) -> tuple[int, int]:
    """How many locations pass the threshold with their best class, and how many boxes NMS leaves of them."""
    best = logits.max(axis=0)
    passing = np.flatnonzero(best >= math.log(CONFIDENCE / (1 - CONFIDENCE)))
    kept = nms(
        xyxy[passing], best[passing], logits[:, passing].argmax(axis=0), iou=IOU, max_detections=len(passing) + 1
    )
    return len(passing), len(kept)


def _bias_for(boxes: int, found: Callable[[float], int]) -> float:
    """Bisect for the largest bias that leaves at most so many boxes."""
    low, high = -50.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) <= boxes else (low, middle)
    return low


def _add_metadata(model: onnx.ModelProto) -> None:
    names = {index: f"class{index}" for index in range(CLASSES)}
    size = json.dumps([SIZE, SIZE])
    ultralytics = {"task": "detect", "stride": "32", "batch": "1", "imgsz": size, "names": str(names)}
    helper.set_model_props(model, {**spec_of().to_metadata(), **ultralytics})
