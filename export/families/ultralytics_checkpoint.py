"""Ultralytics checkpoints: the network rebuilt from its own description, without executing the pickle.

A ``.pt`` of Ultralytics is a whole pickled module. Its tensors and attributes are read into empty stand-in classes; the
network is then built by the ultralytics package from the ``yaml`` dictionary among those attributes, and takes the
tensors strictly. Since that package evaluates some strings of the dictionary, only the strings that its own
configurations hold are let through. Last, every submodule must be of the class that the pickle names for it.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import copy
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgedet.errors import ModelFileError, UntrustedFileError
from edgedet.export.checkpoint import load_checkpoint, peek
from edgedet.export.families.state_dict import load_weights
from edgedet.optional import require

__all__ = ["UltralyticsCheckpoint", "is_ultralytics_pickle", "load_ultralytics"]

_BUILDERS = {"DetectionModel": "DetectionModel", "SegmentationModel": "SegmentationModel"}
# Fetches weights from the network when it is built.
_REFUSED_LAYERS = {"TorchVision"}
# Layers that a later release replaced by an equal one when it builds from the same description.
_RENAMED = {("Silence", "Identity")}
_ENVIRONMENT = {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "YOLO_VERBOSE": "False"}


@dataclass(frozen=True, eq=False)
class UltralyticsCheckpoint:
    """A network of Ultralytics and what its checkpoint says of it.

    Attributes:
        module: in eval mode and float32, as trained (not fused).
        task: Ultralytics' own word: detect, segment, ...
        class_names: in the order of their numbers.
        stride: the largest one.
        size: width and height that it was trained at.
    """

    module: Any
    task: str
    class_names: tuple[str, ...]
    stride: int
    size: tuple[int, int]


def is_ultralytics_pickle(path: Path) -> bool:
    """Tell whether a checkpoint's pickle names a network of the ultralytics package."""
    return any(name.startswith("ultralytics.nn.") for name in peek(path).globals)


def load_ultralytics(path: Path, *, trust: bool) -> UltralyticsCheckpoint:
    """Read a checkpoint.

    Args:
        path: the ``.pt`` file.
        trust: unpickle the module as it is instead of rebuilding it.

    Raises:
        UntrustedFileError: if the pickle wants more than Ultralytics' own checkpoints do, or the description holds what
            they never hold.
        ModelFileError: if it cannot be rebuilt with the installed version of the ultralytics package.
        MissingDependencyError: if the ultralytics package is not installed.
    """
    if trust:
        package()
        content = _module_in(load_checkpoint(path, trust=True), path)
        return _describe(content, content.float().eval(), path)
    saved = _module_in(load_checkpoint(path, trust=False, stand_ins=_stand_ins(path)), path)
    return _describe(saved, _rebuild(saved, path), path)


@functools.cache
def package() -> ModuleType:
    """Import the ultralytics package without its network checks, installations and settings file."""
    if "ultralytics" in sys.modules:
        return require("ultralytics.nn.tasks", extra="ultralytics", purpose="exporting Ultralytics checkpoints")
    with _environment():
        return require("ultralytics.nn.tasks", extra="ultralytics", purpose="exporting Ultralytics checkpoints")


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    wanted = dict(_ENVIRONMENT)
    if "YOLO_CONFIG_DIR" not in os.environ:
        # The package writes its settings while it is imported, and reads them back later in the process.
        wanted["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="edgedet-ultralytics-")
        atexit.register(shutil.rmtree, wanted["YOLO_CONFIG_DIR"], ignore_errors=True)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _stand_ins(path: Path) -> dict[str, type]:
    torch = require("torch", extra="ultralytics", purpose="exporting Ultralytics checkpoints")

    def build(self: Any, *_arguments: Any, **_keywords: Any) -> None:
        torch.nn.Module.__init__(self)

    names = (name for name in peek(path).globals if name.startswith(("ultralytics.", "torch.nn.modules.")))
    return {name: type(name.rpartition(".")[2], (torch.nn.Module,), {"__init__": build}) for name in names}


def _module_in(content: Any, path: Path) -> Any:
    torch = require("torch", extra="ultralytics", purpose="exporting Ultralytics checkpoints")
    if isinstance(content, Mapping):
        content = content.get("ema") or content.get("model")
    if isinstance(content, torch.nn.Module) and hasattr(content, "yaml") and hasattr(content, "model"):
        return content
    raise ModelFileError(
        "an Ultralytics checkpoint with a network under 'ema' or 'model'",
        f"'{path}' without one",
        "Use the best.pt or last.pt that training wrote",
    )


def _rebuild(saved: Any, path: Path) -> Any:
    tasks = package()
    builder = type(saved).__name__
    if builder not in _BUILDERS:
        raise ModelFileError(
            f"a {' or '.join(_BUILDERS)} of Ultralytics",
            f"'{path}', a {builder}",
            "Export detection and segmentation models (YOLOv3u to YOLO26)",
        )
    description = copy.deepcopy(saved.yaml)
    _check_description(description, path)
    try:
        module = getattr(tasks, builder)(cfg=description, ch=description.get("channels", 3), verbose=False)
    except Exception as error:  # the package's builder raises whatever an unknown layer or argument leads to
        raise _not_rebuilt(path, f"{type(error).__name__}: {error}") from error
    try:
        load_weights(module, {name: tensor.float() for name, tensor in saved.state_dict().items()}, path)
    except ModelFileError as error:
        raise _not_rebuilt(path, error.got) from error
    _check_same_layers(saved, module, path)
    return module.float().eval()


def _not_rebuilt(path: Path, reason: str) -> ModelFileError:
    import ultralytics

    return ModelFileError(
        f"an Ultralytics checkpoint that version {ultralytics.__version__} of the package can rebuild",
        f"'{path}' ({reason})",
        "Install the version that it was trained with, or pass --trust to unpickle it as it is, "
        "if you know where the file comes from",
    )


def _check_same_layers(saved: Any, built: Any, path: Path) -> None:
    """Hold the rebuilt network against what the pickle names: other layers would take the same tensors."""
    # Activations are shared between layers; whether they still are in the file does not matter.
    expected = dict(saved.named_modules(remove_duplicate=False))
    found = dict(built.named_modules(remove_duplicate=False))
    for name in sorted(expected.keys() | found.keys()):
        old, new = (type(modules[name]).__name__ if name in modules else "nothing" for modules in (expected, found))
        if old != new and (old, new) not in _RENAMED:
            raise _not_rebuilt(path, f"{name} is a {old} in the file and {new} when rebuilt")
        for attribute in ("eps", "stride", "padding", "dilation", "groups", "negative_slope", "reg_max", "nc"):
            was = getattr(expected.get(name), attribute, None)
            if isinstance(was, (int, float, tuple)) and was != getattr(found[name], attribute, was):
                raise _not_rebuilt(path, f"{name}.{attribute} is {was} in the file and another when rebuilt")


def _check_description(description: Any, path: Path) -> None:
    """Let through only what Ultralytics' own configurations hold: its builder looks names up and evaluates strings."""
    torch = require("torch", extra="ultralytics", purpose="exporting Ultralytics checkpoints")
    modules = require("ultralytics.nn.modules", extra="ultralytics", purpose="exporting Ultralytics checkpoints")
    if not isinstance(description, dict) or not description.get("backbone") or not description.get("head"):
        raise _not_rebuilt(path, "its yaml attribute has no backbone and head")
    activation = description.get("activation")
    if activation is not None and not _is_activation(activation):
        raise _strange(path, f"evaluate {activation!r} as an activation")
    for layer in [*description["backbone"], *description["head"]]:
        name = layer[2] if isinstance(layer, (list, tuple)) and len(layer) == 4 else None
        if not isinstance(name, str):
            raise _not_rebuilt(path, f"{layer!r} is no layer of a network description")
        found = getattr(torch.nn, name[3:], None) if name.startswith("nn.") else getattr(modules, name, None)
        is_layer = isinstance(found, type) and issubclass(found, torch.nn.Module)
        if name in _REFUSED_LAYERS or (not is_layer and name != "Silence"):
            raise _strange(path, f"build the layer {name!r}")


def _is_activation(text: Any) -> bool:
    """Tell whether a string is the likes of ``nn.ReLU()`` or ``torch.nn.LeakyReLU(0.1)``."""
    if not isinstance(text, str):
        return False
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return ast.unparse(call.func.value) in ("nn", "torch.nn") and all(isinstance(a, ast.Constant) for a in arguments)


def _strange(path: Path, wish: str) -> UntrustedFileError:
    return UntrustedFileError(
        "a network description like Ultralytics' own",
        f"'{path}', which wants to {wish}",
        "Export from a file whose origin you know; --trust unpickles it as it is",
    )


def _describe(saved: Any, module: Any, path: Path) -> UltralyticsCheckpoint:
    names = saved.names if isinstance(saved.names, dict) else dict(enumerate(saved.names))
    stride = int(max(float(value) for value in module.stride))
    trained = (getattr(saved, "args", None) or {}) if isinstance(getattr(saved, "args", None), dict) else {}
    size = trained.get("imgsz") or 640
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    task = getattr(saved, "task", None) or ("segment" if type(saved).__name__.startswith("Segm") else "detect")
    return UltralyticsCheckpoint(
        module=module,
        task=str(task),
        class_names=tuple(str(names[key]) for key in sorted(names)),
        stride=stride,
        # Training rounds its size up to a multiple of the stride.
        size=(-(-width // stride) * stride, -(-height // stride) * stride),
    )
