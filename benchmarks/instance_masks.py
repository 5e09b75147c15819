"""What instance masks cost after the engine: many objects in one picture, on one processor core.

The network is made of constants: its two outputs are those of a YOLO-seg model at 640x640 (8400 locations with boxes,
80 class scores and 32 mask coefficients; 32 prototypes of 160x160) that sees as many objects as are asked for, each at
several locations, as a trained model would. So every contestant decodes, suppresses and makes the same masks, and
nothing but that is timed. Contestants run in processes of their own and take turns.

- ``edgedet``: ``Detector.postprocess``, masks at the picture's own resolution.
- ``ultralytics, native``: its predictor with retina_masks, whose masks have the picture's resolution too.
- ``ultralytics``: its predictor as it is by default: masks at the network's resolution.

``memory`` is the highest rise of resident memory while one picture is post-processed, result included.

    python benchmarks/instance_masks.py --json masks.json
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from processes import Part, Turn, keep_to, serve
from report import environment, median, show, spread, write_report
from rich.table import Table
from scene import picture

from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, TensorSpec

SIZE = 640
CLASSES = 80
COEFFICIENTS = 32
CONFIDENCE = 0.25
IOU = 0.7
STRIDES = (8, 16, 32)
LOCATIONS_AN_OBJECT = 5
RUNS_A_TURN = 3
WARM_UP = 1

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


class Contestant(Protocol):
    """Something that makes masks."""

    def postprocess(self) -> Any:
        """Post-process the picture once."""

    def count(self, found: Any) -> tuple[int, int]:
        """Return how many objects an answer has, and how many pixels are set in all their masks."""


def main() -> None:
    """Measure every contestant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each contestant")
    parser.add_argument("--picture", default="1920x1080", metavar="WxH", help="size of the picture")
    parser.add_argument("--objects", type=int, default=300, help="objects in it")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--tries", type=int, default=5, help="how often to repeat a turn that other programs disturb")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        _contest(*arguments.part)
        return
    with tempfile.TemporaryDirectory() as folder:
        report = {"environment": environment(1), **_scenario(Path(folder), arguments)}
    show(_table(report))
    write_report(arguments.json, report)


class Edgedet:
    """edgedet's detector, as ``edgedet.load`` makes it."""

    def __init__(self, model: Path, image: Image, objects: int) -> None:
        import edgedet
        from edgedet.runtime.selection import Selection

        selection = Selection(confidence=CONFIDENCE, iou=IOU, max_detections=objects)
        detector = edgedet.load(model, threads=1, selection=selection)
        raw = detector.infer(detector.preprocess([image]))
        self.postprocess = lambda: detector.postprocess(raw)[0]

    def count(self, found: Any) -> tuple[int, int]:
        """See ``Contestant.count``."""
        return len(found), int(found.masks.area.sum())


class Ultralytics:
    """ultralytics' own predictor on the outputs of the ONNX file, with masks at the network's resolution."""

    native = False

    def __init__(self, model: Path, image: Image, objects: int) -> None:
        os.environ.update(YOLO_OFFLINE="True", YOLO_AUTOINSTALL="False")
        # It imports torchvision, whose wheel may not load beside a CPU build of torch.
        sys.path.append(str(Path(__file__).parents[1] / "tests/support"))
        importlib.import_module("cpu_torchvision").load_stand_ins(model.parent / "stand_ins")
        import torch
        from ultralytics import YOLO

        torch.set_num_threads(1)
        yolo: Any = YOLO(str(model), task="segment")
        settings: dict[str, Any] = {
            "conf": CONFIDENCE, "iou": IOU, "max_det": objects, "imgsz": SIZE, "device": "cpu", "verbose": False,
            "rect": False, "retina_masks": self.native,
        }  # fmt: skip
        yolo.predict(image, **settings)
        predictor = yolo.predictor
        prepared = predictor.preprocess([image])
        outputs = predictor.inference(prepared)
        # Non-maximum suppression writes into what it is given.
        self.postprocess = lambda: predictor.postprocess([output.clone() for output in outputs], prepared, [image])[0]

    def count(self, found: Any) -> tuple[int, int]:
        """See ``Contestant.count``; objects whose mask would be empty are left out."""
        return len(found), int((found.masks.data > 0).sum())


class UltralyticsNative(Ultralytics):
    """The same with masks at the picture's resolution."""

    native = True


CONTESTANTS: dict[str, Callable[[Path, Image, int], Contestant]] = {
    "edgedet": Edgedet,
    "ultralytics, native": UltralyticsNative,
    "ultralytics": Ultralytics,
}
"""Name -> class."""


def _contest(name: str, model: str, picture_file: str, objects: str) -> None:
    """Be one contestant, in a process of its own."""
    keep_to(1)
    contestant = CONTESTANTS[name](Path(model), np.load(picture_file), int(objects))
    for _ in range(WARM_UP):
        contestant.postprocess()
    objects_found, area = contestant.count(contestant.postprocess())
    facts = {"objects": objects_found, "mask_pixels": area, "memory_mb": round(_rise(contestant), 1)}
    serve(lambda runs: {**facts, "ms": [_timed(contestant) for _ in range(runs)]})


def _timed(contestant: Contestant) -> float:
    start = time.perf_counter()
    contestant.postprocess()
    return (time.perf_counter() - start) * 1e3


def _rise(contestant: Contestant) -> float:
    """Highest resident memory while one picture is post-processed, over that before it, in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs have freed goes back to the system
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the highest value so far
    before = _memory("VmRSS")
    found = contestant.postprocess()
    rise = _memory("VmHWM") - before
    del found
    return rise


def _scenario(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    width, height = map(int, arguments.picture.split("x"))
    np.save(folder / "picture.npy", picture(width, height))
    onnx.save(_network(_outputs(width, height, arguments.objects)), folder / "network.onnx")
    with contextlib.ExitStack() as stack:
        parts, failures = _start(stack, folder, arguments)
        rounds = [
            {part.name: part.turn(RUNS_A_TURN, arguments.tries) for part in parts} for _ in range(arguments.rounds)
        ]
    return {
        "picture": arguments.picture,
        "objects_wanted": arguments.objects,
        "contestants": {part.name: _summary([turn[part.name] for turn in rounds]) for part in parts},
        **({"failures": failures} if failures else {}),
    }


def _start(
    stack: contextlib.ExitStack, folder: Path, arguments: argparse.Namespace
) -> tuple[list[Part], dict[str, str]]:
    """Start the contestants; one that is not installed leaves the others' figures untouched."""
    parts, failures = [], {}
    files = str(folder / "network.onnx"), str(folder / "picture.npy"), str(arguments.objects)
    for name in arguments.contestants:
        part = stack.enter_context(Part(name, ["--part", name, *files], folder, 1))
        try:
            part.ask(0)
            parts.append(part)
        except RuntimeError as error:
            failures[name] = str(error)
    return parts, failures


def _summary(turns: list[Turn]) -> dict[str, Any]:
    times = [value for turn in turns for value in turn.answer["ms"]]
    facts = {key: turns[-1].answer[key] for key in ("objects", "mask_pixels", "memory_mb")}
    return {
        **facts,
        "runs": len(times),
        "postprocess_ms": spread(times),
        "foreign_share": median([turn.foreign for turn in turns]),
    }


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['picture']}, {report['objects_wanted']} objects, one core")
    for column in ("", "objects", "mask pixels", "ms", "quartiles", "memory MB", "others"):
        table.add_column(column, justify="right")
    for name, values in report["contestants"].items():
        times = values["postprocess_ms"]
        table.add_row(
            name,
            str(values["objects"]),
            f"{values['mask_pixels']:,}",
            f"{times['median']:.1f}",
            f"{times['q1']:.1f} to {times['q3']:.1f}",
            f"{values['memory_mb']:.1f}",
            f"{values['foreign_share']:.0%}",
        )
    for name, failure in report.get("failures", {}).items():
        table.add_row(name, failure)
    return table


def _outputs(width: int, height: int, objects: int) -> tuple[FloatArray, FloatArray]:
    """Return what a YOLO-seg model answers for so many objects: (1, 4+C+M, A) and (1, M, 160, 160)."""
    random = np.random.default_rng(0)
    locations = sum((SIZE // stride) ** 2 for stride in STRIDES)
    scale = SIZE / max(width, height)
    # Sides from a fortieth to an eighth of the picture's width, small ones as frequent as large ones.
    sides = SIZE * np.exp(random.uniform(np.log(1 / 40), np.log(1 / 8), (2, objects)))
    margin = np.array([(SIZE - width * scale) / 2, (SIZE - height * scale) / 2])[:, None]
    centres = random.uniform(margin, SIZE - margin, (2, objects))
    boxes = random.uniform(10, 100, (4, locations))
    scores = random.uniform(0, 0.05, (CLASSES, locations))
    coefficients = random.normal(size=(COEFFICIENTS, locations))
    fires = random.permutation(locations)[: objects * LOCATIONS_AN_OBJECT]
    which = np.arange(len(fires)) % objects
    boxes[:, fires] = np.concatenate([centres, sides])[:, which] + random.normal(0, 0.4, (4, len(fires)))
    scores[random.integers(0, CLASSES, objects)[which], fires] = random.uniform(0.4, 0.95, len(fires))
    noise = random.normal(size=(COEFFICIENTS, SIZE // 4, SIZE // 4)).astype(np.float32)
    prototypes = np.stack([cv2.GaussianBlur(layer, (0, 0), 3) for layer in noise])
    return np.concatenate([boxes, scores, coefficients])[None].astype(np.float32), prototypes[None]


def _network(outputs: tuple[FloatArray, FloatArray]) -> onnx.ModelProto:
    """Answer with these two tensors, whatever the picture; described for edgedet and for ultralytics."""
    names = ("output0", "output1")
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_value"], [name]) for name in names],
        "constants",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, output.shape)
            for name, output in zip(names, outputs, strict=True)
        ],
        [numpy_helper.from_array(output, f"{name}_value") for name, output in zip(names, outputs, strict=True)],
    )
    spec = ModelSpec(
        name="constants",
        task="instance",
        head=HeadSpec("dense_boxes", {"mask_coefficients": COEFFICIENTS}),
        input=InputSpec(width=SIZE, height=SIZE),
        outputs=tuple(TensorSpec(n, o.shape, "float32") for n, o in zip(names, outputs, strict=True)),
        class_names=tuple(map(str, range(CLASSES))),
    )
    theirs = {
        "names": str({index: str(index) for index in range(CLASSES)}),
        "stride": "32",
        "task": "segment",
        "imgsz": str([SIZE, SIZE]),
        "batch": "1",
        "channels": "3",
        "end2end": "False",
    }
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {**spec.to_metadata(), **theirs})
    return model


def _memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
