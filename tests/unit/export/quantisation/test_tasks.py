"""Every kind of answer goes through calibration, placement, judge and gate: boxes of regions, maps, segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from colour_segmenter import colour_model, colour_spec
from painted_segments import painted_segments_model
from region_networks import boxes_model, crops_model, red_and_blue

from edgedet.export.quantisation.calibration import find_pictures
from edgedet.export.quantisation.judge import disagreement
from edgedet.export.quantisation.placement import Target
from edgedet.export.quantisation.quantise import quantise, set_up
from edgedet.export.quantisation.request import Precision, QuantisationRequest
from edgedet.export.quantisation.sensitivity import rank_layers
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.masks import Masks
from edgedet.model_spec import ModelSpec
from edgedet.results import Detections

Case = tuple[onnx.ModelProto, ModelSpec]


def segments() -> Case:
    queries = [((255, 0, 0), 0, 0.95), ((0, 0, 255), 1, 0.9), ((96, 96, 96), 2, 0.9)]
    model = painted_segments_model(queries, ("red", "blue", "grey"), (0, 1), (80, 64))
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    return model, spec


CASES: dict[str, tuple[Callable[[], Case], str]] = {
    "crops": (crops_model, "mAP"),
    "crops by 7": (lambda: crops_model(batch=7), "mAP"),
    "boxes": (boxes_model, "mAP"),
    "semantic": (lambda: (colour_model(batch=1), colour_spec()), "mIoU"),
    "panoptic": (segments, "PQ"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue on grey, each picture somewhat brighter or darker than the last."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(8):
        picture = red_and_blue(140 + 4 * index, 120).astype(np.float32) * (1 - index / 100)
        cv2.imwrite(str(folder / f"{index}.png"), picture.astype(np.uint8))
    return folder


@pytest.mark.parametrize(("precision", "target"), [("int8", "tensorrt"), ("int8", "cpu"), ("float16", "tensorrt")])
@pytest.mark.parametrize("name", CASES)
def test_it_passes_the_gate(name: str, precision: Precision, target: Target, pictures: Path) -> None:
    build, metric = CASES[name]
    if name.startswith(("crops", "boxes")):
        pytest.importorskip("skimage")
    model, spec = build()
    request = QuantisationRequest(precision, calib=pictures, target=target, max_drop=5.0, min_int8=0.0)
    outcome = quantise(model, spec, request)
    assert (outcome.metric, outcome.against, outcome.holds) == (metric, "float", True)
    assert outcome.reference.value > 0.9
    assert outcome.reference.scores.images == 8
    if precision == "int8":
        assert outcome.int8_share > 0
        assert "QuantizeLinear" in [node.op_type for node in outcome.model.graph.node]


@pytest.mark.parametrize("build", [crops_model, boxes_model])
def test_layers_behind_proposals_are_ranked(build: Callable[[], Case], pictures: Path) -> None:
    pytest.importorskip("skimage")
    model, spec = build()
    request = QuantisationRequest("int8", calib=pictures)
    laboratory, layers = set_up(model, spec, request, find_pictures(pictures), lambda _what, _done, _all: None)
    ranking = rank_layers(laboratory, layers, laboratory.ranges("minmax"))
    assert {found.layer.operator for found in ranking} == {"Gemm"}
    assert len(ranking) == 2
    assert all(0 <= found.harm < 0.5 for found in ranking)


def test_without_pictures_outputs_behind_proposals_are_compared() -> None:
    pytest.importorskip("skimage")
    model, spec = crops_model()
    outcome = quantise(model, spec, QuantisationRequest("float16"))
    assert (outcome.metric, outcome.holds) == ("output agreement", True)


def objects(score: float, left: int, width: int) -> Detections:
    """One object with a mask of `width` columns of its box of twenty."""
    bitmap = np.zeros((1, 30, 60), np.bool_)
    bitmap[0, 5:25, left : left + width] = True
    return Detections(
        np.array([[left, 5, left + 20, 25]], np.float32),
        np.array([score], np.float32),
        np.zeros(1, np.int64),
        ("thing",),
        masks=Masks.from_bitmaps(bitmap),
    )


@pytest.mark.parametrize(
    ("other", "lost"),
    [
        (objects(0.8, 10, 20), 0.0),
        (objects(0.4, 10, 20), 0.5),
        (objects(0.8, 10, 10), 0.5),
        (objects(0.8, 20, 20), 1 - (10 / 30) ** 2),
    ],
    ids=["the same", "half as sure", "half of the mask", "moved by half"],
)
def test_masks_count(other: Detections, lost: float) -> None:
    assert disagreement([objects(0.8, 10, 20)], [other]) == pytest.approx(lost, abs=1e-6)


def test_pixels_of_another_class_count() -> None:
    ids = np.zeros((4, 8), np.uint8)
    other = ids.copy()
    other[:, 6:] = 1
    assert disagreement([ClassMap(ids)], [ClassMap(other)]) == 0.25
    table = (Segment(1, 0, False, 0.9, 16), Segment(2, 3, True, 0.9, 16))
    swapped = (Segment(1, 3, True, 0.9, 16), Segment(2, 0, False, 0.9, 16))
    numbers = other.astype(np.int32) + 1
    before = PanopticMap(numbers, table)
    assert disagreement([before], [before]) == 0.0
    assert disagreement([before], [PanopticMap(3 - numbers, swapped)]) == 0.0, "numbers mean nothing"
    assert disagreement([before], [PanopticMap(numbers, swapped)]) == 1.0
