"""What is timed: an engine alone, and detectors from the picture to the boxes.

| contestant | pre-processing | engine | post-processing |
|---|---|---|---|
| onnxruntime | none | ONNX Runtime with its defaults | none: this is the engine that all are held against |
| edgedet | edgedet | ONNX Runtime as edgedet sets it | edgedet |
| ultralytics | ultralytics | ONNX Runtime as ultralytics sets it | ultralytics |
| supervision | OpenCV and numpy, by hand | ONNX Runtime with its defaults | numpy by hand, then supervision's NMS |
| cv2.dnn | OpenCV's blobFromImage | OpenCV's own | numpy by hand, then OpenCV's NMS |

All read the same file, use the same thresholds, and may use the same processors and number of threads.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from network import CONFIDENCE, IOU, MAX_DETECTIONS, SIZE

__all__ = ["CONTESTANTS", "Contestant", "Run"]

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class Run(NamedTuple):
    """One picture: how many boxes were found, and the milliseconds of the first two of the three stages."""

    boxes: int
    preprocess: float
    infer: float


class Contestant(Protocol):
    """One way from a picture to boxes."""

    def engine(self) -> object:
        """Run the engine that ``detect`` uses on a prepared tensor."""

    def detect(self, image: Image) -> Run:
        """Detect in one BGR picture."""


class OnnxRuntime:
    """ONNX Runtime with its default session options, on a prepared tensor in place of the picture."""

    def __init__(self, model: Path, threads: int) -> None:
        self.session = _session(model, threads)
        self.tensor = _noise()

    def engine(self) -> object:
        return self.session.run(None, {"images": self.tensor})

    def detect(self, image: Image) -> Run:
        start = time.perf_counter()
        self.engine()
        return Run(0, 0.0, _since(start))


class Edgedet:
    """edgedet's detector, as ``edgedet.load`` makes it; the three calls are what calling the detector does."""

    def __init__(self, model: Path, threads: int) -> None:
        import edgedet
        from edgedet.runtime.selection import Selection

        selection = Selection(confidence=CONFIDENCE, iou=IOU, max_detections=MAX_DETECTIONS)
        self.detector = edgedet.load(model, threads=threads, selection=selection)
        self.tensor = _noise()

    def engine(self) -> object:
        return self.detector.engine.infer(self.tensor)

    def detect(self, image: Image) -> Run:
        start = time.perf_counter()
        prepared = self.detector.preprocess([image])
        prepared_after = _since(start)
        raw = self.detector.infer(prepared)
        inferred_after = _since(start)
        (found,) = self.detector.postprocess(raw)
        return Run(len(found), prepared_after, inferred_after - prepared_after)


class Ultralytics:
    """ultralytics.YOLO on the ONNX file; it times its stages itself."""

    def __init__(self, model: Path, threads: int) -> None:
        os.environ.update(YOLO_OFFLINE="True", YOLO_AUTOINSTALL="False")
        # It imports torchvision, whose wheel may not load beside a CPU build of torch.
        sys.path.append(str(Path(__file__).parents[1] / "tests/support"))
        importlib.import_module("cpu_torchvision").load_stand_ins(model.parent / "stand_ins")
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(threads)
        self.yolo: Any = YOLO(str(model), task="detect")
        self.settings: dict[str, Any] = {
            "conf": CONFIDENCE, "iou": IOU, "max_det": MAX_DETECTIONS, "imgsz": SIZE, "device": "cpu", "verbose": False,
        }  # fmt: skip
        self.yolo.predict(np.zeros((SIZE, SIZE, 3), np.uint8), **self.settings)
        backend = self.yolo.predictor.model
        self.session: Any = getattr(backend, "backend", backend).session
        self.tensor = _noise()

    def engine(self) -> object:
        return self.session.run(None, {"images": self.tensor})

    def detect(self, image: Image) -> Run:
        (result,) = self.yolo.predict(image, **self.settings)
        return Run(len(result.boxes), result.speed["preprocess"], result.speed["inference"])


class Supervision:
    """What its users write: letterbox and decode by hand, supervision for the detections and their NMS."""

    def __init__(self, model: Path, threads: int) -> None:
        import supervision

        self.supervision = supervision
        self.session = _session(model, threads)
        self.tensor = _noise()

    def engine(self) -> object:
        return self.session.run(None, {"images": self.tensor})

    def detect(self, image: Image) -> Run:
        start = time.perf_counter()
        padded, placement = _letterbox(image)
        tensor = np.ascontiguousarray(cv2.cvtColor(padded, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)[None], np.float32)
        tensor /= 255
        prepared_after = _since(start)
        (answer,) = self.session.run(None, {"images": tensor})
        inferred_after = _since(start)
        xyxy, score, class_id = _decode(answer[0], placement)
        found = self.supervision.Detections(xyxy=xyxy, confidence=score, class_id=class_id).with_nms(threshold=IOU)
        best = found[np.argsort(-found.confidence)[:MAX_DETECTIONS]]
        return Run(len(_clip(best.xyxy, image)), prepared_after, inferred_after - prepared_after)


class OpenCV:
    """cv2.dnn: its own engine, its blobFromImage and its NMS."""

    def __init__(self, model: Path, threads: int) -> None:
        self.net = cv2.dnn.readNetFromONNX(str(model))
        self.tensor = _noise()

    def engine(self) -> object:
        self.net.setInput(self.tensor)
        return self.net.forward()

    def detect(self, image: Image) -> Run:
        start = time.perf_counter()
        padded, placement = _letterbox(image)
        blob = cv2.dnn.blobFromImage(padded, 1 / 255, (SIZE, SIZE), swapRB=True)
        prepared_after = _since(start)
        self.net.setInput(blob)
        answer = self.net.forward()
        inferred_after = _since(start)
        xyxy, score, class_id = _decode(answer[0], placement)
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        dnn: Any = cv2.dnn  # its types promise lists; arrays are taken, and faster
        kept = dnn.NMSBoxesBatched(xywh, score, class_id, CONFIDENCE, IOU)[:MAX_DETECTIONS]
        return Run(len(_clip(xyxy[kept], image)), prepared_after, inferred_after - prepared_after)


CONTESTANTS: dict[str, Callable[[Path, int], Contestant]] = {
    "onnxruntime": OnnxRuntime,
    "edgedet": Edgedet,
    "ultralytics": Ultralytics,
    "supervision": Supervision,
    "cv2.dnn": OpenCV,
}
"""Name -> class; the first is the engine that all are held against."""


class Placement(NamedTuple):
    """Scale and offset from source to network pixels."""

    scale: float
    left: int
    top: int


def _session(model: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _noise() -> FloatArray:
    return np.random.default_rng(0).uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def _letterbox(image: Image) -> tuple[Image, Placement]:
    height, width = image.shape[:2]
    scale = min(SIZE / width, SIZE / height)
    size = round(width * scale), round(height * scale)
    left, top = (SIZE - size[0]) // 2, (SIZE - size[1]) // 2
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    right, bottom = SIZE - size[0] - left, SIZE - size[1] - top
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return np.asarray(padded, np.uint8), Placement(scale, left, top)


def _decode(answer: FloatArray, placement: Placement) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    rows = answer.T
    score = rows[:, 4:].max(axis=1)
    passing = score >= CONFIDENCE
    rows, score = rows[passing], score[passing]
    class_id = rows[:, 4:].argmax(axis=1)
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    offset = np.array([placement.left, placement.top] * 2, np.float32)
    xyxy = (np.concatenate([centre - half, centre + half], axis=1) - offset) / placement.scale
    return xyxy, score, class_id


def _clip(xyxy: FloatArray, image: Image) -> FloatArray:
    """After NMS: clipped boxes overlap more, and then others are dropped."""
    limit = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    return np.asarray(np.clip(xyxy, 0, limit), np.float32)
