"""The detector on a real, tiny network with a known answer."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

import edgedet
from edgedet.errors import EngineError, ImageError, ModelFileError, SourceError, SpecError
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import Frame
from edgedet.runtime.pixel_formats import PictureFormat
from edgedet.runtime.selection import Selection

WHITE = np.full((32, 64, 3), 255, np.uint8)
"""Fills half of the 64x64 input: rows 16 to 48, so scores are halved and boxes move up by 16."""


def test_boxes_come_out_in_source_pixels_best_first(write_model):
    with edgedet.load(write_model()) as detector:
        found = detector(WHITE)
    np.testing.assert_allclose(found.xyxy, [[8, 0, 40, 8], [10, 14, 30, 32]])
    np.testing.assert_allclose(found.score, [0.45, 0.3], atol=1e-6)
    assert [item.class_name for item in found] == ["dog", "cat"]


@pytest.mark.parametrize(
    ("selection", "classes"),
    [
        (Selection(confidence=0.05), [1, 0, 0]),
        (Selection(confidence=0.4), [1]),
        (Selection(confidence=0.05, max_detections=2), [1, 0]),
        (Selection(confidence=0.05, class_ids=(0,)), [0, 0]),
        (Selection(confidence=0.05, class_ids=()), []),
    ],
)
def test_selection_chooses(write_model, selection, classes):
    with edgedet.load(write_model(), selection=selection) as detector:
        assert detector(WHITE).class_id.tolist() == classes


@pytest.mark.parametrize("batch", [None, 1, 2, 4])
def test_a_list_gives_a_list_whatever_the_batch(write_model, batch):
    images = [np.full((64, 64, 3), value, np.uint8) for value in (255, 200, 150)]
    with edgedet.load(write_model(batch=batch)) as detector:
        found = detector(images)
        assert [len(item) for item in found] == [2, 2, 2]
        scores = [item.score[0] for item in found]
        alone = [detector(image).score[0] for image in images]
        assert detector([]) == []
    np.testing.assert_allclose(scores, np.array([255, 200, 150]) / 255 * 0.9, rtol=1e-4)
    np.testing.assert_array_equal(scores, alone)


def test_a_path_is_read(write_model, tmp_path):
    path = tmp_path / "white.png"
    cv2.imwrite(str(path), WHITE)
    with edgedet.load(write_model()) as detector:
        by_path, by_text, by_array = detector(path), detector(str(path)), detector(WHITE)
    np.testing.assert_array_equal(by_path.xyxy, by_array.xyxy)
    np.testing.assert_array_equal(by_text.score, by_array.score)


def test_a_frame_is_converted_once(write_model):
    grey = np.full((32, 64), 255, np.uint8)
    frame = Frame((grey,), 0, 0, "/dev/video0", picture=PictureFormat("GREY", 64, 32))
    with edgedet.load(write_model()) as detector:
        found, (again,) = detector(frame), detector([frame])
        np.testing.assert_array_equal(found.score, detector(WHITE).score)
        np.testing.assert_array_equal(found.xyxy, again.xyxy)
    frame.release()
    with pytest.raises(SourceError, match="which was released"):
        detector(frame)


def test_other_thresholds_share_the_engine(write_model):
    with edgedet.load(write_model()) as detector:
        strict = detector.with_selection(Selection(confidence=0.4))
        assert strict.engine is detector.engine
        assert len(strict(WHITE)) == 1 and len(detector(WHITE)) == 2


def test_a_closed_detector_says_so(write_model):
    detector = edgedet.load(write_model())
    detector.close()
    detector.close()
    with pytest.raises(EngineError, match="closed"):
        detector(WHITE)


def test_a_wrong_array_says_what_would_fit(write_model):
    with edgedet.load(write_model()) as detector, pytest.raises(ImageError, match="uint8 array of shape"):
        detector(WHITE[..., 0])


def test_a_model_without_a_spec_names_the_command(write_model):
    path = write_model(stamped=False)
    with pytest.raises(SpecError, match="edgedet export"):
        edgedet.load(path)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        edgedet.load(tmp_path / "absent.onnx")


def test_an_unknown_engine_is_refused(write_model):
    with pytest.raises(SpecError, match="onnxruntime"):
        edgedet.load(write_model(), engine="warp-drive")


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ({"class_names": ("cat",), "input": {"width": 32}}, "input tensor"),
        ({"head": {"name": "abacus"}}, "a head among"),
        ({"head": {"name": "end_to_end", "parameters": {"packing": "rows", "colour": 1}}}, "colour"),
        ({"head": {"name": "dense_boxes", "parameters": {"layout": "channels_first"}}}, "2 class names"),
        ({"outputs": [{"name": "other", "shape": [1], "dtype": "float32"}]}, "other"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(write_model, fragment, message):
    import onnx

    from edgedet.model_spec import merge_fragment

    path = write_model()
    model = onnx.load(path)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    assert spec is not None
    changed = ModelSpec.from_json(merge_fragment(spec.to_json(), fragment))
    onnx.helper.set_model_props(model, changed.to_metadata())
    onnx.save(model, path)
    with pytest.raises((SpecError, ModelFileError), match=message):
        edgedet.load(path)


def test_masks_are_made_of_what_is_kept(mask_model):
    with edgedet.load(mask_model) as detector:
        found = detector(np.full((128, 128, 3), 255, np.uint8))
        nothing = detector.with_selection(Selection(confidence=1))(WHITE)
    assert [item.class_name for item in found] == ["dog", "cat"]
    expected = np.zeros((2, 128, 128), np.bool_)
    expected[0, 16:48, 16:48] = expected[1, 60:120, 20:48] = True
    np.testing.assert_array_equal(found.masks.bitmaps(), expected)
    assert len(nothing) == len(nothing.masks) == 0
    assert (nothing.masks.width, nothing.masks.height) == (64, 32)


def test_masks_are_left_out_with_their_output(mask_model):
    model = onnx.load(mask_model)
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    onnx.helper.set_model_props(model, spec.replace(outputs=spec.outputs[:1]).to_metadata())
    onnx.save(model, mask_model)
    with edgedet.load(mask_model) as detector:
        found = detector(WHITE)
    assert len(found) == 2 and found.masks is None
