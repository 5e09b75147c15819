"""What calibration gives a network is what the runtime gives it, regions included."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from region_networks import boxes_model, crops_model, red_and_blue
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.export.quantisation.feeding import CROPS, KeptProposals, SpreadProposals, detector_on, read_feeds
from edgedet.loader import load
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import read_image
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.proposals import Proposer


class Recorder(OnnxRuntimeEngine):
    """A real engine that keeps what it is given."""

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec) -> None:
        super().__init__(model.SerializeToString(), threads=1)
        self.select_outputs([output.name for output in spec.outputs])
        self.given: list[tuple[npt.NDArray[np.generic], ...]] = []

    def infer(self, *tensors: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        self.given.append(tensors)
        return super().infer(*tensors)


@dataclasses.dataclass(frozen=True)
class Counted(Proposer):
    """Proposes the columns of a picture, and keeps count."""

    asked: list[int]

    def prepare(self) -> None:
        """Nothing is needed."""

    def __call__(self, image: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.float32]:
        self.asked.append(count)
        left = np.arange(min(count, image.shape[1] - 1), dtype=np.float32)
        return np.stack([left, 0 * left, left + 1, 0 * left + image.shape[0]], axis=1)


def paths_of(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        cv2.imwrite(str(path), red_and_blue(*size))
    return paths


@pytest.mark.parametrize(
    "model_and_spec", [crops_model(), crops_model(batch=7), boxes_model(), boxes_model(rows=100)],
    ids=["crops", "crops by 7", "boxes", "boxes, 100 at a time"],
)  # fmt: skip
def test_it_is_what_the_runtime_feeds(model_and_spec: tuple[onnx.ModelProto, ModelSpec], tmp_path: Path) -> None:
    """Sixty proposals at most, so that all crops are taken."""
    pytest.importorskip("skimage")
    model, spec = model_and_spec
    paths = paths_of(tmp_path, [(160, 120), (200, 130)])
    onnx.save(model, tmp_path / "model.onnx")
    engine = Recorder(model, spec)
    with load(tmp_path / "model.onnx") as detector:
        detector.engine = engine
        detector([str(path) for path in paths])
    feeds = list(read_feeds(spec, Recorder(model, spec), paths))
    assert [feed.pictures for feed in feeds] == sorted(feed.pictures for feed in feeds)
    assert {feed.pictures for feed in feeds} == {1, 2}
    assert len(feeds) == len(engine.given)
    for feed, given in zip(feeds, engine.given, strict=True):
        for ours, runtimes in zip(feed.tensors, given, strict=True):
            np.testing.assert_array_equal(ours, runtimes)


def test_a_fixed_batch_is_filled_with_its_own_pictures(tmp_path: Path) -> None:
    model, paths = residual_network(), write_pictures(tmp_path, 5)
    spec = residual_spec()
    one = list(read_feeds(spec, Recorder(model, spec), paths))
    three = spec.replace(input=dataclasses.replace(spec.input, batch=3))
    batched = onnx.ModelProto()
    batched.CopyFrom(model)
    for value in (*batched.graph.input, *batched.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    feeds = list(read_feeds(three, Recorder(batched, three), paths))
    assert [feed.pictures for feed in feeds] == [3, 5]
    singles = [feed.tensors[0][0] for feed in one]
    for feed, members in zip(feeds, ([0, 1, 2], [3, 4, 3]), strict=True):
        np.testing.assert_array_equal(feed.tensors[0], np.stack([singles[index] for index in members]))


def test_proposals_are_found_once_a_picture() -> None:
    counted = Counted([])
    kept = KeptProposals(counted)
    pictures = [red_and_blue(), red_and_blue(120, 160), red_and_blue()]
    found = [kept(picture, 50) for picture in pictures]
    assert counted.asked == [50, 50]
    np.testing.assert_array_equal(found[0], found[2])
    kept(pictures[0], 20)
    assert counted.asked == [50, 50, 20]


def test_a_part_of_the_proposals_reaches_from_the_best_to_the_last() -> None:
    image = red_and_blue()
    everything = Counted([])(image, 150)
    assert SpreadProposals(Counted([]), 4)(image, 150)[:, 0].tolist() == everything[[0, 50, 99, 149], 0].tolist()
    np.testing.assert_array_equal(SpreadProposals(Counted([]), 999)(image, 150), everything)


def test_few_crops_of_many_are_taken_in_whole_batches(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    model, spec = crops_model(batch=7)
    assert spec.proposals is not None
    spec = spec.replace(proposals=dataclasses.replace(spec.proposals, count=2000))
    picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), cv2.GaussianBlur(picture, (0, 0), 3))
    engine = Recorder(model, spec)
    assert detector_on(spec, engine).preprocess([read_image(tmp_path / "noise.png")]).regions.shape[0] > 70  # type: ignore[attr-defined]
    feeds = list(read_feeds(spec, engine, [tmp_path / "noise.png"]))
    assert sum(len(feed.tensors[0]) for feed in feeds) == 70 == -(-CROPS // 7) * 7
    assert all(feed.tensors[0].any(axis=(1, 2, 3)).all() for feed in feeds), "no batch is filled up with zeros"
