"""DeviceDetector on the stand-in: the project's kernels and ONNX Runtime on the device's buffers, against Detector."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import standin_driver
from bright_box import bright_box_model
from colour_segmenter import colour_model, colour_spec
from device_detectors import SELECTION, CopyingEngine, on_device, on_host, spec_of
from fixed_answers import (
    dense_boxes_with_masks,
    panoptic_deeplab,
    pasted_squares,
    queries_with_masks,
    query_instances,
    query_masks,
    yolox_rows,
)
from onnx import TensorProto, helper

from edgedet.errors import EngineError, ImageError
from edgedet.maps import ClassMap, PanopticMap
from edgedet.model_spec import TensorSpec
from edgedet.results import Detections
from edgedet.runtime.cuda.device import Device
from edgedet.runtime.gpu.detector import DeviceDetector
from edgedet.runtime.selection import Selection


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = [(48, 64), (64, 64), (33, 47), (120, 90), (200, 31)]
    found = [random.integers(0, 256, (*sizes[index % len(sizes)], 3), dtype=np.uint8) for index in range(count)]
    for image in found:
        image[5:20, 8:25] = 255
    return found


def assert_same(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted)
    np.testing.assert_array_equal(found.class_id, wanted.class_id)
    np.testing.assert_allclose(found.score, wanted.score, atol=1e-6)
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1e-3)
    assert (found.masks is None) == (wanted.masks is None)
    if found.masks is not None and wanted.masks is not None:
        assert found.masks.to_rle() == wanted.masks.to_rle()


@pytest.fixture(params=["boxes", "masks", "squares", "rows"])
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """Networks whose heads the device decodes, with and without masks, with and without NMS."""
    made = {"boxes": yolox_rows, "masks": dense_boxes_with_masks, "squares": pasted_squares, "rows": bright_box_model}
    return made[request.param]()


def test_answers_are_those_of_the_host(device: Device, model: onnx.ModelProto) -> None:
    with on_host(model) as host, on_device(model, device) as found:
        assert found.decodes_on == "device"
        for image in pictures(5):
            wanted = host(image)
            assert_same(found(image), wanted)
        assert len(wanted) > 0


@pytest.mark.parametrize(
    "selection",
    [
        Selection(confidence=0.05, iou=0.3, max_detections=3),
        Selection(confidence=0.4, iou=0.9, class_agnostic=True),
        Selection(confidence=0.3, multi_label=True),
        Selection(confidence=0.3, class_ids=(1,)),
        Selection(confidence=1.0),
    ],
)
def test_every_selection_is_kept_to(device: Device, selection: Selection) -> None:
    model = dense_boxes_with_masks()
    with on_host(model, selection) as host, on_device(model, device, selection) as found:
        for image in pictures(2):
            assert_same(found(image), host(image))


def test_batches_that_are_not_full(device: Device) -> None:
    model = dense_boxes_with_masks(pictures=3)
    with on_host(model) as host, on_device(model, device) as found:
        images = pictures(5)
        for a, b in zip(found(images), host(images), strict=True):
            assert_same(a, b)


def test_a_network_that_takes_any_number_runs_batches_of_the_asked_size(device: Device) -> None:
    model = bright_box_model()
    with on_host(model) as host, on_device(model, device, batch=2) as found:
        images = pictures(5)
        for a, b in zip(found(images), host(images), strict=True):
            assert_same(a, b)


def colour_segmenter(*, argmax: bool = False) -> onnx.ModelProto:
    model = colour_model(argmax=argmax)
    onnx.helper.set_model_props(model, colour_spec(argmax=argmax).to_metadata())
    return model


@pytest.mark.parametrize("argmax", [False, True])
def test_class_maps_are_those_of_the_host(device: Device, argmax: bool) -> None:
    model = colour_segmenter(argmax=argmax)
    with on_host(model) as host, on_device(model, device) as found:
        assert found.decodes_on == "device"
        for image in pictures(5):
            answer, wanted = found(image), host(image)
            assert isinstance(answer, ClassMap)
            differs = answer.class_id != wanted.class_id
            assert differs.mean() <= 1e-3  # where two classes tie


@pytest.mark.parametrize("make", [query_masks, panoptic_deeplab])
def test_panoptic_maps_are_those_of_the_host(device: Device, make: Callable[[int], onnx.ModelProto]) -> None:
    model = make(2)
    with on_host(model) as host, on_device(model, device) as found:
        assert found.decodes_on == "device"
        images = pictures(3)
        for answer, wanted in zip(found(images), host(images), strict=True):
            assert isinstance(answer, PanopticMap)
            assert [(s.class_id, s.is_thing) for s in answer.segments] == [
                (s.class_id, s.is_thing) for s in wanted.segments
            ]
            assert (answer.segment_id != wanted.segment_id).mean() <= 3e-3


@pytest.mark.parametrize("make", [queries_with_masks, query_instances])
def test_objects_of_queries_are_those_of_the_host(device: Device, make: Callable[[int], onnx.ModelProto]) -> None:
    model = make(1)
    with on_host(model) as host, on_device(model, device) as found:
        assert found.decodes_on == "device"
        for image in pictures(4):
            answer, wanted = found(image), host(image)
            np.testing.assert_array_equal(answer.class_id, wanted.class_id)
            np.testing.assert_allclose(answer.score, wanted.score, atol=1e-4)
            np.testing.assert_allclose(answer.xyxy, wanted.xyxy, atol=1.01)
            differs = answer.masks.bitmaps() != wanted.masks.bitmaps()
            assert differs.mean() <= 3e-3


def test_what_no_kernel_reads_is_decoded_on_the_host(device: Device) -> None:
    """Doubles: the network's outputs are copied, and the head decodes them."""
    model = colour_segmenter()
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Cast", [output.name], ["wide"], to=TensorProto.DOUBLE))
    shape = [axis.dim_value or axis.dim_param for axis in output.type.tensor_type.shape.dim]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.DOUBLE, shape))
    spec = spec_of(model)
    wide = spec.replace(outputs=(TensorSpec("wide", spec.outputs[0].shape, "float64"),))
    onnx.helper.set_model_props(model, wide.to_metadata())
    with on_host(model) as host, on_device(model, device) as found:
        assert found.decodes_on == "host"
        for image in pictures(2):
            np.testing.assert_array_equal(found(image).class_id, host(image).class_id)


def test_several_frames_are_in_flight_and_no_more(device: Device) -> None:
    model = yolox_rows()
    with on_host(model) as host, on_device(model, device, lanes=2) as found:
        images = pictures(3)
        raw = [found.infer(found.preprocess([image])) for image in images[:2]]
        waiting = threading.Event()
        answers: list[Any] = []

        def third() -> None:
            waiting.set()
            answers.extend(found.postprocess(found.infer(found.preprocess([images[2]]))))

        thread = threading.Thread(target=third)
        thread.start()
        assert waiting.wait(10)
        thread.join(0.1)
        assert thread.is_alive()  # both lanes are taken
        for flight, image in zip(raw, images, strict=False):
            assert_same(found.postprocess(flight)[0], host(image))
        thread.join(20)
        assert not thread.is_alive()
        assert_same(answers[0], host(images[2]))


def test_a_batch_that_nobody_wants_gives_its_lane_back(device: Device) -> None:
    with on_device(yolox_rows(), device, lanes=1) as found:
        image = pictures(1)[0]
        for _ in range(3):
            del_me = found.infer(found.preprocess([image]))
            del del_me
        assert len(found(image)) > 0


def test_answers_are_taken_once(device: Device) -> None:
    with on_device(yolox_rows(), device) as found:
        raw = found.infer(found.preprocess(pictures(1)))
        found.postprocess(raw)
        with pytest.raises(EngineError, match="whose answers were taken"):
            found.postprocess(raw)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_costs_no_lane(device: Device, wrong: np.ndarray) -> None:
    with on_device(yolox_rows(), device, lanes=1) as found:
        for _ in range(2):
            with pytest.raises(ImageError):
                found(wrong)
        assert len(found(pictures(1)[0])) > 0


def test_other_thresholds_on_the_same_engine(device: Device) -> None:
    model = yolox_rows()
    sure = Selection(confidence=0.6)
    with on_device(model, device) as found, on_host(model, sure) as host:
        again = found.with_selection(sure)
        assert_same(again(pictures(1)[0]), host(pictures(1)[0]))


def test_closing_again_is_harmless_and_frees_everything(device: Device) -> None:
    found = on_device(dense_boxes_with_masks(), device)
    found(pictures(1)[0])
    found.close()
    found.close()


@pytest.fixture
def copied(device: Device) -> Iterator[Any]:
    """A detector on an engine whose runs can be captured, and its model."""
    model = dense_boxes_with_masks()
    with DeviceDetector(spec_of(model), CopyingEngine(model, device), SELECTION, lanes=1) as found:
        yield found, model


def test_runs_are_replayed_as_graphs(device: Device, copied: Any) -> None:
    found, model = copied
    if not device.driver.has_graphs:
        pytest.skip("this provider has no graphs")
    black = [np.zeros((48, 64, 3), np.uint8), np.zeros((90, 30, 3), np.uint8)]
    with on_host(model) as host:
        wanted = [host(image) for image in black]
    before = standin_driver.count("calls:cuGraphLaunch")
    # The second run of a size is the first that is captured; a larger picture moves buffers, which ends the graphs.
    for index in (0, 0, 0, 1, 1, 0, 0, 1):
        assert_same(found(black[index]), wanted[index])
    assert standin_driver.count("calls:cuGraphLaunch") - before >= 4


def test_graphs_can_be_left_out(device: Device) -> None:
    model = dense_boxes_with_masks()
    before = standin_driver.count("calls:cuGraphLaunch")
    with DeviceDetector(spec_of(model), CopyingEngine(model, device), SELECTION, graphs=False) as found:
        for _ in range(3):
            found(np.zeros((48, 64, 3), np.uint8))
    assert standin_driver.count("calls:cuGraphLaunch") == before
