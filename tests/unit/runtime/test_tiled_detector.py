"""The tiled detector on a real network that puts a box around what is bright."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from bright_box import SCORE, bright_box_model

import edgedet
from edgedet.errors import EngineError, ImageError, SpecError
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec
from edgedet.runtime.capture import Frame
from edgedet.runtime.selection import Selection
from edgedet.runtime.tiled_detector import TiledDetector
from edgedet.runtime.tiling import Tiling

Open = Callable[..., TiledDetector]


@pytest.fixture
def open_tiled(tmp_path: Path) -> Open:
    def open_it(tiling: Tiling | None = None, batch: int | None = None) -> TiledDetector:
        path = tmp_path / "bright.onnx"
        onnx.save(bright_box_model(batch), path)
        return edgedet.load(path, threads=1, tiling=tiling or Tiling(64, 64, 0.25, whole=False))

    return open_it


def picture(box: tuple[int, int, int, int], width: int = 300, height: int = 200) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


@pytest.mark.parametrize("merge", ["nms", "wbf"])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 30, 20),  # in one tile
        (50, 40, 70, 60),  # over a corner of four
        (60, 30, 64, 40),  # ends with a tile
        (5, 90, 290, 110),  # along five
        (20, 20, 280, 180),  # larger than any
        (0, 0, 300, 200),  # everything
        (299, 199, 300, 200),  # the last pixel
    ],
)
def test_an_object_is_found_once_wherever_it_lies(open_tiled: Open, box, batch, merge) -> None:
    with open_tiled(Tiling(64, 64, 0.25, whole=False, merge=merge), batch) as detector:
        found = detector(picture(box))
    np.testing.assert_array_equal(found.xyxy, [box])
    assert (found.score.tolist(), found.class_id.tolist()) == ([SCORE], [1])
    assert found.class_names == ("dark", "bright")


def test_the_whole_picture_finds_what_is_larger_than_a_tile(open_tiled: Open) -> None:
    with open_tiled(Tiling(64, 64, 0.0)) as detector:
        found = detector(picture((20, 20, 280, 180)))
    assert len(found) == 1
    np.testing.assert_allclose(found.xyxy, [(20, 20, 280, 180)], atol=300 / 64)


def test_a_picture_that_a_tile_holds_is_as_without_tiles(open_tiled: Open) -> None:
    image = picture((33, 21, 77, 90))
    with open_tiled(Tiling(300, 200)) as detector, open_tiled(Tiling(4000, 3000)) as larger:
        plain = detector.detector(image)
        for found in (detector(image), larger(image)):
            np.testing.assert_array_equal(found.xyxy, plain.xyxy)
            np.testing.assert_array_equal(found.score, plain.score)


def test_a_list_gives_a_list_and_paths_are_read(open_tiled: Open, tmp_path: Path) -> None:
    boxes = [(10, 10, 30, 20), (100, 50, 200, 60)]
    cv2.imwrite(str(tmp_path / "a.png"), picture(boxes[0]))
    with open_tiled() as detector:
        found = detector([tmp_path / "a.png", picture(boxes[1], 500, 70)])
        found.append(detector(Frame((picture(boxes[1]),), 0, 0, "x")))
        assert detector([]) == []
    assert [item.xyxy.tolist() for item in found] == [[list(map(float, box))] for box in (*boxes, boxes[1])]


def test_the_stages_take_several_pictures(open_tiled: Open) -> None:
    with open_tiled() as detector:
        prepared = detector.preprocess([picture((0, 0, 9, 9)), picture((80, 80, 99, 99))])
        assert all(np.shares_memory(view.of(item.image), item.image) for item in prepared for view in item.views)
        found = detector.postprocess(detector.infer(prepared))
    assert [item.xyxy.tolist() for item in found] == [[[0, 0, 9, 9]], [[80, 80, 99, 99]]]


def test_a_stream_runs_it(open_tiled: Open, tmp_path: Path) -> None:
    boxes = [(10, 10, 30, 20), (60, 50, 200, 70), (250, 150, 300, 200)]
    for index, box in enumerate(boxes):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(box))
    with open_tiled() as detector, edgedet.open_stream(detector, tmp_path / "*.png") as stream:
        found = [result.detections.xyxy.tolist() for result in stream]
    assert found == [[list(map(float, box))] for box in boxes]


def test_other_thresholds_share_the_engine_and_the_tiles(open_tiled: Open) -> None:
    with open_tiled() as detector:
        strict = detector.with_selection(Selection(confidence=0.8))
        assert strict.engine is detector.engine and strict.tiling is detector.tiling
        assert strict.selection.confidence == 0.8 and strict.spec is detector.spec
        assert (len(strict(picture((0, 0, 9, 9)))), len(detector(picture((0, 0, 9, 9))))) == (0, 1)


def test_no_thread_is_left_behind_and_errors_come_out(open_tiled: Open) -> None:
    before = threading.active_count()
    detector = open_tiled()
    with pytest.raises(ImageError, match="uint8 array of shape"):
        detector(np.zeros((200, 300), np.uint8))
    detector(picture((0, 0, 9, 9)))
    detector.close()
    with pytest.raises(EngineError, match="closed"):
        detector(picture((0, 0, 9, 9)))
    assert threading.active_count() == before


def test_a_model_that_answers_with_a_map_is_refused(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["images"], ["scores"])],
        "colours",
        *(
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 64, 64])]
            for name in ("images", "scores")
        ),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    spec = ModelSpec(
        name="colours",
        task="semantic",
        head=HeadSpec("class_scores"),
        input=InputSpec(64, 64),
        outputs=(TensorSpec("scores", (1, 3, 64, 64), "float32"),),
        class_names=("red", "green", "blue"),
    )
    onnx.helper.set_model_props(model, spec.to_metadata())
    onnx.save(model, tmp_path / "colours.onnx")
    with pytest.raises(SpecError, match=r"answers with boxes.*'colours', of task semantic\. Leave out --tile"):
        edgedet.load(tmp_path / "colours.onnx", tiling=Tiling(64, 64))
