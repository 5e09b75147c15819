"""The pictures on which two networks differ, with answers that are known: red is a rose, blue is sky."""

from __future__ import annotations

from pathlib import Path

import colour_segmenter
import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedet.export.quantisation.report.picture_pairs import SHOWN, WIDEST, compare_pictures


def blind_to_red() -> onnx.ModelProto:
    model = colour_segmenter.colour_model()
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            weights = numpy_helper.to_array(tensor).copy()
            weights[1] = -1
            tensor.CopyFrom(numpy_helper.from_array(weights, "weights"))
    return model


@pytest.fixture
def pictures(tmp_path: Path) -> dict[int, Path]:
    """No eighth, one eighth and so on of each picture is red, the rest blue."""
    paths = {}
    for eighths in (2, 0, 4, 1, 3):
        image = np.zeros((960, 960, 3), np.uint8)
        image[:, :, 0] = 255
        image[:, : 120 * eighths] = (0, 0, 255)
        paths[eighths] = tmp_path / f"{eighths}.png"
        assert cv2.imwrite(str(paths[eighths]), image)
    return paths


def test_the_most_different_come_first(pictures: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    found = compare_pictures(
        colour_segmenter.colour_spec(),
        colour_segmenter.colour_model(),
        blind_to_red(),
        list(pictures.values()),
        lambda done, of: seen.append((done, of)),
    )
    assert [path.stem for path, _ in found.compared] == ["4", "3", "2", "1", "0"]
    assert [apart for _, apart in found.compared] == pytest.approx([4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0], abs=0.02)
    assert [pair.path.stem for pair in found.shown] == ["4", "3", "2"] and SHOWN == 3
    assert seen[-1] == (5, 5)
    before, after = found.shown[0].describe()
    assert before == "48% rose, 48% sky, 3% background"
    assert after == "52% background, 48% sky"
    drawn = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in found.shown[0].draw()]
    assert all(image is not None and image.shape == (WIDEST, WIDEST, 3) for image in drawn)
    assert drawn[0] is not None and drawn[1] is not None
    assert np.abs(drawn[0].astype(int) - drawn[1])[:, : WIDEST // 4].mean() > 20
    assert np.abs(drawn[0].astype(int) - drawn[1])[WIDEST // 2 :, WIDEST // 2 :].mean() < 2


def test_pictures_with_the_same_answer_are_not_shown(pictures: dict[int, Path]) -> None:
    model = colour_segmenter.colour_model()
    found = compare_pictures(colour_segmenter.colour_spec(), model, model, list(pictures.values()))
    assert found.shown == () and len(found.compared) == 5
