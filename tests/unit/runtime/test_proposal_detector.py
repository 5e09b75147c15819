"""R-CNN and Fast R-CNN from the picture to the boxes: real ONNX networks that know red and blue from grey."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from region_networks import BLUE, RED, boxes_model, crops_model
from region_networks import red_and_blue as picture

from edgedet.errors import MissingDependencyError, SpecError
from edgedet.loader import load, open_stream
from edgedet.model_spec import HeadSpec, ModelSpec, ProposalSpec
from edgedet.runtime.boxes import iou_matrix
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads.proposal_boxes import ProposalBoxes
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import Preprocessor, place
from edgedet.runtime.proposal_detector import ProposalDetector
from edgedet.runtime.proposals import RegionWarper, SelectiveSearch
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiling import Tiling

pytest.importorskip("skimage")


def detector_of(model: onnx.ModelProto, spec: ModelSpec, selection: Selection | None = None) -> ProposalDetector:
    engine = OnnxRuntimeEngine(model.SerializeToString(), threads=1)
    engine.select_outputs([output.name for output in spec.outputs])
    return ProposalDetector(spec, engine, selection)


def plain_answer(model: onnx.ModelProto, spec: ModelSpec, image: np.ndarray) -> np.ndarray:
    """The same stages by hand, one region at a time: (N, 6) boxes in source pixels, score, class."""
    assert spec.proposals is not None
    engine = OnnxRuntimeEngine(model.SerializeToString(), threads=1)
    regions = SelectiveSearch()(image, spec.proposals.count)
    at = place(image.shape[1], image.shape[0], spec.input)
    rows = []
    for region in regions:
        if spec.proposals.feed == "crops":
            crop = RegionWarper(spec.input, spec.proposals.context)(image, region[None])
            scores, offsets = engine.infer(crop)
        else:
            scores, offsets = engine.infer(at.to_input(region[None]), Preprocessor(spec.input)([image])[0])
        found = ProposalBoxes(variances=(1, 1, 1, 1)).decode([scores, offsets, region[None]], (0, 0), Selection())
        rows += [
            [*box, score, class_id]
            for box, score, class_id in zip(found.xyxy, found.score, found.class_id, strict=True)
        ]
    table = np.array(rows)
    table = table[nms(table[:, :4], table[:, 4], table[:, 5], iou=0.7, max_detections=300)]
    table[:, :4] = np.clip(table[:, :4], 0, [image.shape[1], image.shape[0]] * 2)
    return table


@pytest.mark.parametrize("size", [(160, 120), (200, 130)])
@pytest.mark.parametrize(
    "model_and_spec",
    [crops_model(), crops_model(batch=7), crops_model(batch=64), boxes_model(), boxes_model(rows=100)],
    ids=["crops", "crops by 7", "crops by 64", "boxes", "boxes, 100 at a time"],
)
def test_the_answer_is_that_of_the_stages_by_hand(
    model_and_spec: tuple[onnx.ModelProto, ModelSpec], size: tuple[int, int]
) -> None:
    model, spec = model_and_spec
    image = picture(*size)
    found = detector_of(model, spec)(image)
    dynamic, plain_spec = crops_model() if spec.input.width == 32 else boxes_model()
    wanted = plain_answer(dynamic, plain_spec, image)
    assert len(found) == len(wanted) >= 2
    assert found.class_id.tolist() == wanted[:, 5].tolist()
    np.testing.assert_allclose(found.score, wanted[:, 4], atol=1e-5)
    np.testing.assert_allclose(found.xyxy, wanted[:, :4], atol=1e-2)


@pytest.mark.parametrize("model_and_spec", [crops_model(), boxes_model()], ids=["crops", "boxes"])
def test_red_and_blue_are_found(model_and_spec: tuple[onnx.ModelProto, ModelSpec]) -> None:
    found = detector_of(*model_and_spec, Selection(iou=0.1))(picture())
    assert [found.class_names[index] for index in np.sort(found.class_id)] == ["red", "blue"]
    boxes = found.xyxy[np.argsort(found.class_id)]
    shifted = (RED[0] + 40, RED[1], RED[2] + 40, RED[3])  # by its width, as the network says
    assert iou_matrix(np.array([shifted, BLUE], np.float32), boxes).diagonal().min() > 0.6


def test_pictures_run_one_by_one_whatever_the_batch() -> None:
    detector = detector_of(*crops_model(batch=7))
    images = [picture(), picture(200, 130), picture()]
    together = detector(images)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(detector(image).xyxy, found.xyxy)


def test_another_selection_shares_the_engine() -> None:
    detector = detector_of(*boxes_model())
    other = detector.with_selection(Selection(max_detections=1))
    assert isinstance(other, ProposalDetector)
    assert other.engine is detector.engine
    assert len(other(picture())) == 1


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    onnx.save(crops_model()[0], tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_load_and_stream(model_file: Path, tmp_path: Path) -> None:
    import cv2

    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture())
    with load(model_file) as detector:
        assert isinstance(detector, ProposalDetector)
        alone = detector(picture())
        with open_stream(detector, f"{tmp_path}/*.png") as stream:
            streamed = [result.detections for result in stream]
    assert len(streamed) == 3
    for found in streamed:
        np.testing.assert_array_equal(found.xyxy, alone.xyxy)


def test_fewer_proposals_on_request(model_file: Path) -> None:
    with load(model_file, proposals=5) as detector:
        assert detector.preprocess([picture()]).regions.shape == (5, 4)  # type: ignore[attr-defined]
    for count in (0, 61):
        with pytest.raises(SpecError, match=rf"1 to 60 proposals, .* got {count}\."):
            load(model_file, proposals=count)


def test_proposals_of_a_model_without(tmp_path: Path) -> None:
    from bright_box import bright_box_model

    onnx.save(bright_box_model(), tmp_path / "model.onnx")
    with pytest.raises(SpecError, match=r"wants proposals.*'bright-box'.*Leave out --proposals"):
        load(tmp_path / "model.onnx", proposals=10)


def test_tiles_and_proposals_are_refused(model_file: Path) -> None:
    with pytest.raises(SpecError, match=r"looks at whole pictures.*'red-and-blue', which wants proposals.*--tile"):
        load(model_file, tiling=Tiling(64, 64))


def test_without_the_package_the_command_is_named(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedet\[proposals\]'"):
        load(model_file)


def test_a_plain_detector_refuses_a_model_that_wants_proposals() -> None:
    model, spec = crops_model()
    with pytest.raises(SpecError, match=r"looks at whole pictures.*ProposalDetector"):
        Detector(spec, OnnxRuntimeEngine(model.SerializeToString()))
    with pytest.raises(SpecError, match=r"proposals in the spec.*got none"):
        Detector(dataclasses.replace(spec, proposals=None), OnnxRuntimeEngine(model.SerializeToString()))


@pytest.mark.parametrize(
    ("model_and_spec", "message"),
    [
        (boxes_model(proposals=ProposalSpec("boxes", tensor="rois")), r"picture and 'rois'.*proposals\.tensor"),
        (boxes_model(proposals=ProposalSpec("boxes", tensor="images")), r"\[1, 3, 96, 96\] \(NCHW\)"),
        (boxes_model(rows=40), r"at most 40 proposals, .* got a proposals\.count of 60"),
        (crops_model(proposals=None, head=HeadSpec("fastestdet")), r"a model that wants proposals"),
        (crops_model(head=HeadSpec("fastestdet")), r"the head proposal_boxes"),
        (crops_model(proposals=ProposalSpec("crops", parameters={"speed": 2})), r"only the fields .*'speed'"),
    ],
)
def test_specs_that_do_not_fit_the_network_are_refused(
    model_and_spec: tuple[onnx.ModelProto, ModelSpec], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        detector_of(*model_and_spec)
