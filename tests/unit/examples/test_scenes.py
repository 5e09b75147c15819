"""Scenes: the three kinds of labels say the same, and edgedet reads each of them from one folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import SCENE_CLASSES, THING_CLASSES, Scene, SceneConfig, make_scene, make_scenes, write_scenes
from source_digits import CLASS_NAMES, Split
from stuff import STUFF, draw_stuff

from edgedet.dataset import read_labelled_set
from edgedet.dataset.coco_panoptic import read_panoptic_set
from edgedet.dataset.semantic import read_semantic_set
from edgedet.rle import parse_rle

SEED = 5
COUNT = 3


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(make_scenes(SceneConfig(), "held_out", SEED, COUNT))


@pytest.fixture(scope="module")
def folder(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes")
    write_scenes(scenes, "held_out", path)
    return path


def size(scene: Scene) -> tuple[int, int]:
    height, width = scene.surface.shape
    return width, height


def test_same_arguments_give_the_same_scene(scenes: list[Scene]) -> None:
    again = make_scene(SceneConfig(), "held_out", SEED, 1)
    assert (again.picture.pixels == scenes[1].picture.pixels).all()
    assert (again.surface == scenes[1].surface).all()


@pytest.mark.parametrize(
    ("split", "seed", "index"), [("train", SEED, 1), ("held_out", SEED + 1, 1), ("held_out", SEED, 2)]
)
def test_other_arguments_give_another_scene(scenes: list[Scene], split: Split, seed: int, index: int) -> None:
    other = make_scene(SceneConfig(), split, seed, index)
    assert other.surface.shape != scenes[1].surface.shape or (other.surface != scenes[1].surface).any()


def test_surfaces_differ_and_are_large_enough() -> None:
    config = SceneConfig()
    for scene in make_scenes(config, "train", 0, 8):
        kinds, areas = np.unique(scene.surface, return_counts=True)
        assert config.regions[0] <= len(kinds) <= config.regions[1]
        assert set(kinds.tolist()) <= set(range(len(CLASS_NAMES), len(SCENE_CLASSES)))
        assert areas.min() >= config.least_share * scene.surface.size


def test_semantic_labels_are_read(scenes: list[Scene], folder: Path) -> None:
    found = read_semantic_set(folder)
    assert found.class_names == SCENE_CLASSES and not found.notes
    for scene, image in zip(scenes, found.images, strict=True):
        class_id = image.sized(*size(scene)).class_id
        assert (class_id == scene.classes()).all()
        for index, label in enumerate(scene.picture.labels):
            assert (class_id[scene.picture.mask(index) > 0] == label).all()


def test_panoptic_labels_are_read_and_agree_with_the_semantic_ones(scenes: list[Scene], folder: Path) -> None:
    found = read_panoptic_set(folder)
    assert found.class_names == SCENE_CLASSES and not found.notes
    for scene, image in zip(scenes, found.images, strict=True):
        labels = image.sized(*size(scene))
        assert [index for index, thing in enumerate(labels.is_thing) if thing] == list(THING_CLASSES)
        classes = np.full(256, 255, np.uint8)
        classes[[segment.id for segment in labels.segments]] = [segment.class_id for segment in labels.segments]
        assert (classes[labels.segment_id] == scene.classes()).all()
        for index in range(len(scene.picture.labels)):
            assert len(np.unique(labels.segment_id[scene.picture.mask(index) > 0])) == 1
        stuff = [segment.class_id for segment in labels.segments if segment.class_id not in THING_CLASSES]
        assert len(stuff) == len(set(stuff))


def test_instances_are_read_and_agree_with_the_semantic_labels(scenes: list[Scene], folder: Path) -> None:
    found = read_labelled_set(folder)
    assert found.class_names == CLASS_NAMES
    for scene, image in zip(scenes, found.images, strict=True):
        assert image.outlines is not None and len(image) == len(scene.picture.labels) > 0
        for outline, class_id in zip(image.outlines, image.class_id, strict=True):
            assert isinstance(outline, dict)
            lengths, width, height = parse_rle(outline)
            inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
            assert (scene.classes()[inside] == class_id).all() and inside.any()


def test_the_committed_scenes_are_those_of_seed_0(root: Path) -> None:
    found = read_semantic_set(root / "examples" / "scenes")
    assert len(found.images) == 24
    for index in (0, 23):
        scene = make_scene(SceneConfig(), "held_out", 0, index)
        assert (found.images[index].sized(*size(scene)).class_id == scene.classes()).all()
        picture = cv2.imread(str(found.images[index].path))
        assert picture is not None
        assert np.abs(picture[..., ::-1].astype(int) - scene.picture.pixels).mean() < 12


@pytest.mark.parametrize("name", list(STUFF))
def test_a_surface_shows_its_texture_within_40_pixels(name: str) -> None:
    for seed in range(10):
        pixels = draw_stuff(np.random.default_rng(seed), name, 200, 160)
        assert pixels.shape == (200, 160, 3)
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        windows = [luma[y : y + 40, x : x + 40].std() for y in (0, 80, 160) for x in (0, 60, 120)]
        assert max(windows) < 6 if name == "plain" else min(windows) > 8
