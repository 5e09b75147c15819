"""What segmenters learn from: labels of the right pixels, offsets that point to the centres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from letterbox import Letterbox, letterbox
from scene_samples import PADDING, class_loss, collate_classes, collate_parts, draw_classes, draw_parts, sample_labels
from scenes import SceneConfig, make_scene

SIDE = 160


def test_labels_are_those_under_the_middles_of_the_blocks() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    # The picture lies at 2, 1 in the input, twice as large.
    found = sample_labels(labels, Letterbox(scale=2.0, left=2, top=1), 12, 2, PADDING)
    none = [PADDING] * 6
    assert found.tolist() == [
        [PADDING, 0, 1, 2, 3, PADDING],
        [PADDING, 4, 5, 6, 7, PADDING],
        [PADDING, 8, 9, 10, 11, PADDING],
        none,
        none,
        none,
    ]


def test_classes_lie_where_the_pixels_do() -> None:
    sample = draw_classes(0, 3, SIDE)
    scene = make_scene(SceneConfig(), "train", 0, 3)
    # Each class drawn as a picture and fitted as one must cover the places that have it.
    for class_id in np.unique(scene.classes()):
        mask = (scene.classes() == class_id).astype(np.uint8) * 255
        fitted = letterbox(cv2_grey(mask), SIDE)[0][1::2, 1::2, 0]
        inside = sample.classes != PADDING
        agree = (fitted > 127) == (sample.classes == class_id)
        assert agree[inside].mean() > 0.97


def cv2_grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(mask[..., None], 3, axis=2)


def test_offsets_point_to_the_centres_and_heat_peaks_there() -> None:
    sample = draw_parts(0, 3, SIDE, stride=4)
    picture = make_scene(SceneConfig(), "train", 0, 3).picture
    _, mapping = letterbox(picture.pixels, SIDE)
    expected = []
    for index in range(len(picture.labels)):
        rows, columns = np.nonzero(picture.mask(index))
        expected.append(
            [(rows.mean() + 0.5) * mapping.scale + mapping.top, (columns.mean() + 0.5) * mapping.scale + mapping.left]
        )
    middles = (np.arange(SIDE // 4) + 0.5) * 4
    ys, xs = np.nonzero(sample.inside)
    pointed = np.stack([middles[ys] + sample.offsets[0, ys, xs], middles[xs] + sample.offsets[1, ys, xs]], axis=1)
    away = np.linalg.norm(pointed[:, None] - np.array(expected), axis=2)
    assert away.min(axis=1).max() < 1e-3
    assert set(away.argmin(axis=1).tolist()) == set(range(len(expected)))
    for y, x in expected:
        assert sample.heat[int(y / 4), int(x / 4)] > 0.9
    assert sample.heat.max() <= 1.0


def test_samples_stack() -> None:
    batch = collate_parts([draw_parts(0, index, SIDE) for index in range(2)])
    assert batch.pixels.shape == (2, SIDE, SIDE, 3) and batch.pixels.dtype == torch.uint8
    assert batch.classes.shape == (2, SIDE // 2, SIDE // 2)
    assert batch.heat.shape == batch.inside.shape == (2, SIDE // 4, SIDE // 4)
    assert batch.offsets.shape == (2, 2, SIDE // 4, SIDE // 4)
    plain = collate_classes([draw_classes(0, index, SIDE) for index in range(2)])
    assert torch.equal(plain.pixels, batch.pixels) and torch.equal(plain.classes, batch.classes)


def test_the_class_loss_ignores_padding_and_takes_any_size() -> None:
    classes = torch.tensor([[[1, 1], [PADDING, PADDING]]], dtype=torch.uint8)
    logits = torch.zeros(1, 3, 1, 1)
    logits[0, 1] = 2.0
    expected = -torch.log_softmax(torch.tensor([0.0, 2.0, 0.0]), dim=0)[1]
    assert float(class_loss(logits, classes)) == pytest.approx(float(expected))
