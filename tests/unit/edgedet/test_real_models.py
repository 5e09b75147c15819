"""Export, load and score trained models from elsewhere; an independent decoder and pycocotools gave the figures.

That decoder took the best class of a location, scores from .01, and an NMS IoU of .6 (.45 for FastestDet).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import edgedet
from edgedet.class_match import match_classes
from edgedet.dataset import read_labelled_set
from edgedet.evaluate import Evaluation, evaluate
from edgedet.runtime.capture import read_image
from edgedet.runtime.preprocess import Placement
from edgedet.runtime.selection import Selection

pytest.importorskip("pycocotools")


def score(shared: Path, folder: Path, file: str, family: str, iou: float) -> Evaluation:
    anchors = np.load(shared / "models/ssd_mobilenet_v1_anchors_cycxhw.npy") if family == "ssd" else None
    edgedet.export_model(shared / "models" / file, folder / "model.onnx", family=family, anchors=anchors)
    labelled = read_labelled_set(shared / "coco/val")
    with edgedet.load(folder / "model.onnx", selection=Selection(confidence=0.01, iou=iou), threads=2) as detector:
        pictures = ((image, read_image(image.path)) for image in labelled.images)
        pairs = ((image.sized(picture.shape[1], picture.shape[0]), detector(picture)) for image, picture in pictures)
        return evaluate(pairs, match_classes(detector.spec.class_names, labelled.class_names))


@pytest.mark.parametrize(
    ("file", "family", "iou", "mean_ap", "mean_ap50"),
    [
        ("yolox_nano_416.onnx", "yolox", 0.6, 0.362, 0.516),
        ("picodet_s_416_coco.onnx", "picodet", 0.6, 0.366, 0.539),
        ("ssd_mobilenet_v1_coco_300_raw.onnx", "ssd", 0.6, 0.270, 0.414),
        ("centernet_mobilenetv3_512.onnx", "centernet", 0.6, 0.315, 0.488),
    ],
)
def test_scores_are_those_of_an_independent_decoder(
    shared: Path, tmp_path: Path, file: str, family: str, iou: float, mean_ap: float, mean_ap50: float
) -> None:
    result = score(shared, tmp_path, file, family, iou)
    assert result.mean_ap == pytest.approx(mean_ap, abs=0.01)
    assert result.mean_ap50 == pytest.approx(mean_ap50, abs=0.01)


@pytest.mark.parametrize(("clipped", "mean_ap"), [(False, 0.216), (True, 0.237)])
def test_fastestdet_gains_from_boxes_that_end_with_the_picture(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clipped: bool, mean_ap: float
) -> None:
    """The independent decoder did not clip, and FastestDet's large boxes reach far beyond the picture."""

    def unclipped(place: Placement, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scale = np.array([place.source_width / place.width, place.source_height / place.height] * 2, np.float32)
        return (xyxy - np.array([place.left, place.top] * 2, np.float32)) * scale

    if not clipped:
        monkeypatch.setattr(Placement, "to_source", unclipped)
    result = score(shared, tmp_path, "FastestDet.onnx", "fastestdet", 0.45)
    assert result.mean_ap == pytest.approx(mean_ap, abs=0.002)
    assert result.mean_ap50 == pytest.approx(0.389, abs=0.002)
