"""The benchmarks run and write what they promise; how fast anything is, no test asks."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from edgedet.loader import load
from edgedet.maps import ClassMap, PanopticMap, Segment
from edgedet.masks import Masks
from edgedet.results import Detections
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

SMALL = {
    "agreement": "--pictures 1 yolov2 localizer",
    "calibration": "--counts 8 --targets tensorrt",
    "camera_to_engine": "--frames 3 --size 320x240",
    "cpu_overhead": "--rounds 1 --tries 1 --pictures 320x240 --boxes 10 --contestants edgedet",
    "instance_masks": "--rounds 1 --tries 1 --objects 20 --picture 320x240 --contestants edgedet",
    "int8_cpu": "--count 8 --rounds 1 --runs 2",
    "memory": "--frames 30 --streams 3",
    "quantisation": "--count 8",
    "quantised_tasks": "fcn --count 2 --calib-count 8 --ways FP16",
    "rcnn_variants": "--rounds 1 --tries 1 --pictures 1 --settings default",
    "semantic_map": "--rounds 1",
    "stream": "--quick --only-edgedet --parts age handover page",
    "stream_throughput": "--rounds 1 --tries 1 --frames 5 --videos 320x240",
    "tiled_8k": "--rounds 1 --tries 1 --picture 1200x900",
}


@pytest.fixture(scope="module")
def network(root: Path) -> ModuleType:
    return _module(root / "benchmarks/network.py")


@pytest.fixture(scope="module")
def scene(root: Path) -> ModuleType:
    return _module(root / "benchmarks/scene.py")


@pytest.mark.parametrize("program", SMALL)
def test_program_writes_its_report(root: Path, tmp_path: Path, program: str) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, f"benchmarks/{program}.py", "--json", str(report), *SMALL[program].split()]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    written: dict[str, Any] = json.loads(report.read_text())
    environment = written.pop("environment")
    assert environment["versions"]["onnxruntime"]
    assert str(tmp_path) not in json.dumps(environment), "no folder of this machine in a published report"
    assert all(written.values())


@pytest.fixture(scope="module")
def comparison(root: Path) -> ModuleType:
    return _module(root / "benchmarks/systems/comparison.py")


def _objects(*rows: tuple[float, float, int]) -> Detections:
    """Boxes of 10 x 10 pixels at a place, each with a mask of its left half."""
    place = np.array([[x, 5] for x, _, _ in rows], np.float32).reshape(-1, 2)
    bitmaps = np.zeros((len(rows), 20, 100), np.bool_)
    for bitmap, (x, _, _) in zip(bitmaps, rows, strict=True):
        bitmap[5:15, round(x) : round(x) + 5] = True
    return Detections(
        np.concatenate([place, place + 10], axis=1),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for *_, class_id in rows], np.int64),
        masks=Masks.from_bitmaps(bitmaps),
    )


def test_agreement_notices_what_differs(comparison: ModuleType) -> None:
    """Four objects: one the same, one moved by a pixel, one too far, one of another class; and one that is extra."""
    tally = comparison.Tally()
    other = _objects((0, 0.9, 1), (20, 0.8, 1), (40, 0.7, 1), (60, 0.6, 1))
    found = _objects((0, 0.9, 1), (21, 0.75, 1), (43, 0.7, 1), (60, 0.6, 2), (80, 0.5, 1))
    tally.add(other, found)
    figures = tally.figures()
    assert (figures["compared"], figures["matched"], figures["worst_box_px"]) == (5, 0.4, 1)
    assert figures["worst_score"] == pytest.approx(0.05, abs=1e-6)
    assert figures["mask_iou"] == pytest.approx((1 + 4 / 6) / 2, abs=1e-4)


def test_agreement_of_maps(comparison: ModuleType) -> None:
    pixels, segments = comparison.Tally(), comparison.Tally()
    half = np.zeros((4, 8), np.int32)
    half[:, 4:] = 1
    most = np.zeros((4, 8), np.int32)
    most[:, 5:] = 1
    pixels.add(ClassMap(half.astype(np.uint8)), ClassMap(most.astype(np.uint8)))
    assert pixels.figures()["pixel_agreement"] == 28 / 32
    table = (Segment(1, 0, False, 0.9, 16), Segment(2, 3, True, 0.9, 16))
    segments.add(PanopticMap(half + 1, table), PanopticMap(most + 1, table))
    assert segments.figures()["pq"] == pytest.approx((16 / 20 + 12 / 16) / 2, abs=1e-5)


def test_network_has_the_published_size(network: ModuleType) -> None:
    """YOLOv8n's model card: 3.2 million parameters, 8.7 GFLOPs at 640x640 (a multiply and an add are two)."""
    unscaled = [network.Scale(np.zeros(1), np.ones(1))] * 64
    graph = onnx.shape_inference.infer_shapes(network.build_network(unscaled)[0]).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    weights = {weight.name: list(weight.dims) for weight in graph.initializer}
    operations = sum(
        2 * np.prod(shapes[node.output[0]]) * np.prod(weights[node.input[1]][1:])
        for node in graph.node
        if node.op_type == "Conv"
    )
    assert sum(np.prod(shape) for shape in weights.values()) / 1e6 == pytest.approx(3.2, abs=0.05)
    assert operations / 1e9 == pytest.approx(8.7, abs=0.05)
    assert shapes["output0"] == [1, 84, 8400]


@pytest.mark.parametrize("boxes", [10, 300])
def test_tuned_network_finds_the_wanted_boxes(
    network: ModuleType, scene: ModuleType, tmp_path: Path, boxes: int
) -> None:
    image = scene.picture(640, 360)
    tensor, _ = Preprocessor(network.spec_of().input)([image])
    tuned = network.tune_for(tensor, boxes, tmp_path / "network.onnx")
    selection = Selection(confidence=network.CONFIDENCE, iou=network.IOU, max_detections=boxes + 50)
    with load(tuned.path, selection=selection, threads=1) as detector:
        # Boxes whose IoU is at the threshold fall to either side with the rounding of another number of threads.
        assert len(detector(image)) == pytest.approx(tuned.boxes, rel=0.02, abs=1)
    assert 0.9 * boxes <= tuned.boxes <= boxes


def test_scene_is_always_the_same(scene: ModuleType) -> None:
    first, second = scene.picture(320, 200), scene.picture(320, 200)
    assert first.shape == (200, 320, 3)
    assert np.array_equal(first, second)
    assert first.std() > 30


def _module(path: Path) -> ModuleType:
    """Load a benchmark's module by its file, since the folder is no package."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
