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
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

SMALL = {
    "cpu_overhead": "--rounds 1 --tries 1 --pictures 320x240 --boxes 10 --contestants edgedet",
    "instance_masks": "--rounds 1 --tries 1 --objects 20 --picture 320x240 --contestants edgedet",
    "memory": "--frames 30 --streams 3",
    "semantic_map": "--rounds 1",
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
