"""Ultralytics: checkpoints rebuilt without executing them, their ONNX metadata, agreement with their own predictor."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedet.errors import ModelFileError, SpecError, UntrustedFileError
from edgedet.export.families.ultralytics import Ultralytics
from edgedet.export.families.ultralytics_checkpoint import package
from edgedet.export.onnx_file import graph_outputs
from edgedet.export.request import ExportRequest
from edgedet.export.source import open_source
from edgedet.export.trace import run_network, trace
from edgedet.model_spec import InputSpec
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import DenseBoxes, EndToEnd
from edgedet.runtime.nms import nms
from edgedet.runtime.preprocess import Preprocessor
from edgedet.runtime.selection import Selection

SIZE = 96


class TestReadyOnnx:
    """Files of Ultralytics' exporter: everything comes from the metadata, or the shape where that is silent."""

    @staticmethod
    def write(path: Path, outputs: list[list[int]], **metadata: Any) -> Path:
        names = [f"output{index}" for index in range(len(outputs))]
        graph = helper.make_graph(
            [helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]) for name in names],
            "net",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 96])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in zip(names, outputs, strict=True)
            ],
            [
                helper.make_tensor(f"{name}_shape", TensorProto.INT64, [len(shape)], shape)
                for name, shape in zip(names, outputs, strict=True)
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        entries = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect", "imgsz": "[64, 96]", **metadata}
        helper.set_model_props(model, {key: value for key, value in entries.items() if value is not None})
        onnx.save(model, path)
        return path

    @pytest.mark.parametrize(
        ("outputs", "metadata", "head"),
        [
            ([[1, 6, 126]], {"end2end": "False"}, DenseBoxes(layout="channels_first")),
            ([[1, 6, 126]], {}, DenseBoxes(layout="channels_first")),
            ([[1, 300, 6]], {"end2end": "True"}, EndToEnd(packing="rows")),
            ([[1, 300, 6]], {}, EndToEnd(packing="rows")),
            ([[1, 300, 6]], {"end2end": "False", "args": "{'nms': True}"}, EndToEnd(packing="rows")),
            # Their NMS in the graph was cut off: what comes before it is in corners.
            (
                [[1, 6, 126]],
                {"end2end": "False", "args": "{'nms': True}", "edgedet.nms": "{}"},
                DenseBoxes(layout="channels_first", box_format="xyxy"),
            ),
            (
                [[1, 38, 126], [1, 32, 16, 24]],
                {"task": "segment", "end2end": "False"},
                DenseBoxes(layout="channels_first", mask_coefficients=32),
            ),
            (
                [[1, 300, 38], [1, 32, 16, 24]],
                {"task": "segment", "end2end": "True"},
                EndToEnd(packing="rows", mask_coefficients=32),
            ),
            # Both layouts have these axes: only the metadata can tell.
            ([[1, 6, 6]], {"end2end": "True"}, EndToEnd(packing="rows")),
        ],
    )
    def test_the_metadata_gives_the_head(self, tmp_path: Path, outputs: Any, metadata: Any, head: Any) -> None:
        source = open_source(self.write(tmp_path / "yolo.onnx", outputs, **metadata))
        assert Ultralytics().recognises(source)
        loaded = Ultralytics().load(source, ExportRequest(source.path))
        assert loaded.head == head
        assert loaded.task == ("instance" if metadata.get("task") == "segment" else "detect")
        assert loaded.class_names == ("cat", "dog")
        assert loaded.input == InputSpec(96, 64, size_multiple=32)
        loaded.head.check(graph_outputs(source.onnx_model), 2, (96, 64))

    @pytest.mark.parametrize(
        ("outputs", "metadata", "request_fields", "message"),
        [
            ([[1, 6, 126]], {"end2end": "True"}, {}, "finished rows"),
            ([[1, 84, 126]], {}, {}, r"dense boxes \[batch, 6, cells\]"),
            ([[1, 6, 6]], {}, {}, "end2end not given"),
            ([[1, 6, 126]], {"task": "pose"}, {}, "'pose'"),
            ([[1, 300, 6]], {"head": "RTDETRDecoder"}, {}, "RTDETRDecoder"),
            ([[1, 6, 126]], {"task": "segment"}, {}, "mask prototypes"),
            ([[1, 6, 126]], {}, {"size": (100, 64)}, "--imgsz 128x64"),
            ([[1, 6, 126]], {}, {"family": "ultralytics:end-to-end"}, "a choice of heads"),
            ([[1, 6, 126]], {}, {"family": "ultralytics:nano"}, "ultralytics:one-to-many"),
        ],
    )
    def test_contradictions_are_told(
        self, tmp_path: Path, outputs: Any, metadata: Any, request_fields: Any, message: str
    ) -> None:
        source = open_source(self.write(tmp_path / "yolo.onnx", outputs, **metadata))
        with pytest.raises(SpecError, match=message):
            Ultralytics().load(source, ExportRequest(source.path, **request_fields))

    def test_names_are_never_evaluated(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        names = f"__import__('pathlib').Path({str(victim)!r}).touch()"
        source = open_source(self.write(tmp_path / "yolo.onnx", [[1, 6, 126]], names=names))
        with pytest.raises(ModelFileError, match="metadata entry 'names'"):
            Ultralytics().load(source, ExportRequest(source.path))
        assert not victim.exists()

    def test_other_files_are_not_recognised(self, tmp_path: Path) -> None:
        source = open_source(self.write(tmp_path / "net.onnx", [[1, 6, 126]], names=None))
        assert not Ultralytics().recognises(source)


@pytest.fixture(scope="module")
def ultralytics() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("torchvision", exc_type=(ImportError, RuntimeError))
    if os.environ.get("YOLO_CONFIG_DIR") is None:
        package()  # imports it without touching the user's settings
    return pytest.importorskip("ultralytics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ultralytics")


@pytest.fixture(scope="module")
def checkpoint(ultralytics: Any, folder: Path) -> Callable[[str], Path]:
    """Write a checkpoint of a network with random weights that fire: ``checkpoint("yolo11n")``."""
    import torch

    def write(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.is_file():
            torch.manual_seed(0)
            model = ultralytics.YOLO(f"{name}.yaml")
            let_fire(model.model)
            model.model.args["imgsz"] = SIZE
            model.save(path)
        return path

    return write


def let_fire(network: Any) -> None:
    """Normalise every layer on the pictures, then set the head so that dozens of boxes have distinct scores."""
    import torch

    batch = torch.from_numpy(Preprocessor(InputSpec(SIZE, SIZE))(pictures())[0])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum, layer.training = None, True
    with torch.no_grad():
        network.eval()
        for layer in network.modules():
            layer.training = isinstance(layer, torch.nn.BatchNorm2d)
        network(batch)
        network.eval()
        head = network.model[-1]
        twins = (getattr(head, name, None) or () for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"))
        last = [branch[-1] for branches in twins for branch in branches]
        spread: dict[Any, float] = {}
        hooks = [
            layer.register_forward_hook(lambda layer, _, answer: spread.update({layer: float(answer.std())}))
            for layer in last
        ]
        network(batch)
        for hook in hooks:
            hook.remove()
        for layer in last:
            layer.weight.mul_(0.7 / max(spread[layer], 1e-6))
            # Scores without ties at 1, sides of one to three cells.
            bins = torch.arange(head.reg_max).repeat(4) * -0.7
            layer.bias.copy_(bins if len(layer.bias) == len(bins) != head.nc else torch.full_like(layer.bias, -2.2))


def pictures() -> list[np.ndarray[Any, Any]]:
    """Two pictures of odd sizes with structure at all scales."""
    random = np.random.default_rng(3)
    made = []
    for height, width in ((170, 251), (203, 133)):
        coarse = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        fine = random.integers(0, 64, (height, width, 3), np.uint8)
        made.append(cv2.add(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), fine))
    return made


@pytest.mark.parametrize(
    ("name", "variant", "head", "notes"),
    [
        ("yolov8n", None, DenseBoxes(layout="channels_first"), 0),
        ("yolov10n", None, DenseBoxes(layout="channels_first"), 1),
        ("yolo26n", "end-to-end", EndToEnd(packing="rows"), 0),
        ("yolo26n-seg", "one-to-many", DenseBoxes(layout="channels_first", mask_coefficients=32), 0),
    ],
)
def test_the_rebuilt_network_is_the_pickled_one(
    checkpoint: Callable[[str], Path], name: str, variant: str | None, head: Any, notes: int
) -> None:
    path = checkpoint(name)
    source = open_source(path)
    assert Ultralytics().recognises(source)
    family = None if variant is None else f"ultralytics:{variant}"
    rebuilt, trusted = (Ultralytics().load(source, ExportRequest(path, family=family, trust=t)) for t in (False, True))
    for loaded in (rebuilt, trusted):
        assert loaded.head == head
        assert loaded.input == InputSpec(SIZE, SIZE, size_multiple=32)
        assert loaded.class_names == tuple(map(str, range(80)))
        assert len(loaded.notes) == notes
    tensor = Preprocessor(rebuilt.input)(pictures())[0]
    for a, b in zip(run_network(rebuilt.network, tensor), run_network(trusted.network, tensor), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_boxes_agree_with_the_packages_own_predictor(
    ultralytics: Any,
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    build_for_gpu: Callable[[str, Any], None],
) -> None:
    path = checkpoint(name)
    loaded = Ultralytics().load(open_source(path), ExportRequest(path))
    model = trace(loaded, batch=1, opset=None)
    build_for_gpu(name, model)
    loaded.head.check(graph_outputs(model), 80, (SIZE, SIZE))
    # The predictor wants to know from the file what is in it, as its own exporter writes it.
    names = {index: str(index) for index in range(80)}
    entries = {"names": str(names), "stride": "32", "task": "detect", "imgsz": str([SIZE, SIZE]), "batch": "1"}
    helper.set_model_props(model, {**entries, "end2end": "False", "channels": "3"})
    file = tmp_path / f"{name}.onnx"
    onnx.save(model, file)
    engine, selection = OnnxRuntimeEngine(file), Selection(confidence=0.3, iou=0.5)
    predictor = ultralytics.YOLO(file, task="detect")
    for picture in pictures():
        settings = {"imgsz": SIZE, "conf": selection.confidence, "iou": selection.iou, "max_det": 300, "rect": False}
        expected = predictor.predict(picture, verbose=False, device="cpu", **settings)[0].boxes
        tensor, (placement,) = Preprocessor(loaded.input)([picture])
        found = loaded.head.decode([output[0] for output in engine.infer(tensor)], (SIZE, SIZE), selection)
        keep = nms(found.xyxy, found.score, found.class_id, iou=selection.iou, max_detections=300)
        xyxy, score, label = placement.to_source(found.xyxy[keep]), found.score[keep], found.class_id[keep]
        assert 10 < len(expected) == len(keep) < 300
        assert len(np.unique(score)) > 10
        boxes, scores = expected.xyxy.numpy(), expected.conf.numpy()
        for index in range(len(keep)):
            same = (expected.cls.numpy() == label[index]) & (np.abs(boxes - xyxy[index]).max(axis=1) < 1)
            assert (np.abs(scores[same] - score[index]) < 0.005).any()


def test_importing_leaves_no_settings_behind(ultralytics: Any) -> None:
    settings = ultralytics.utils.USER_CONFIG_DIR
    assert not Path(settings).is_relative_to(Path.home() / ".config")


def alter(path: Path, target: Path, change: Callable[[Any], None]) -> Path:
    import torch

    content = torch.load(path, weights_only=False)
    change(content["model"] if content["model"] is not None else content["ema"])
    torch.save(content, target)
    return target


def _activation(model: Any, victim: Path) -> None:
    model.yaml["activation"] = f"__import__('pathlib').Path({str(victim)!r}).touch() or torch.nn.SiLU()"


def _function_as_layer(model: Any, _victim: Path) -> None:
    model.yaml["backbone"][0][2] = "load_checkpoint"


def _downloading_layer(model: Any, _victim: Path) -> None:
    model.yaml["backbone"][0] = [-1, 1, "TorchVision", [64, "resnet18", "DEFAULT"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_activation, "evaluate .* as an activation"),
        (_function_as_layer, "build the layer 'load_checkpoint'"),
        (_downloading_layer, "build the layer 'TorchVision'"),
    ],
)
def test_a_description_that_would_run_code_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, change: Callable[[Any, Path], None], message: str
) -> None:
    victim = tmp_path / "victim"
    path = alter(checkpoint("yolov8n"), tmp_path / "evil.pt", lambda model: change(model, victim))
    with pytest.raises(UntrustedFileError, match=message):
        Ultralytics().load(open_source(path), ExportRequest(path))
    assert not victim.exists()


def test_a_pickle_that_wants_more_than_classes_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    victim = tmp_path / "victim"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch '{victim}'",)

    path = alter(checkpoint("yolov8n"), tmp_path / "evil.pt", lambda model: setattr(model, "extra", Attack()))
    source = open_source(path)
    assert Ultralytics().recognises(source)
    with pytest.raises(UntrustedFileError, match=rf"{os.system.__module__}\.system"):
        Ultralytics().load(source, ExportRequest(path))
    assert not victim.exists()


def _other_activation(model: Any) -> None:
    import torch

    model.model[0].act = torch.nn.ReLU()


def _other_epsilon(model: Any) -> None:
    model.model[0].bn.eps = 1e-5


def _lost_layer(model: Any) -> None:
    del model.yaml["head"][2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_activation, "model.0.act is a ReLU in the file and SiLU when rebuilt"),
        (_other_epsilon, "model.0.bn.eps"),
        (_lost_layer, "can rebuild"),
    ],
)
def test_a_network_that_is_not_its_description_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = alter(checkpoint("yolov8n"), tmp_path / "other.pt", change)
    with pytest.raises(ModelFileError, match=message):
        Ultralytics().load(open_source(path), ExportRequest(path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (100, 96)}, "--imgsz 128x96"),
        ({"family": "ultralytics:end-to-end"}, "an end-to-end head"),
    ],
)
def test_requests_that_do_not_fit(checkpoint: Callable[[str], Path], fields: Any, message: str) -> None:
    path = checkpoint("yolov8n")
    with pytest.raises(SpecError, match=message):
        Ultralytics().load(open_source(path), ExportRequest(path, **fields))


def test_a_copy_under_any_name_is_recognised(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    shutil.copy(checkpoint("yolov8n"), path)
    assert Ultralytics().recognises(open_source(path))
