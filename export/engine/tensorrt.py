"""The builder's process: ``python -m edgedet.export.engine.tensorrt FOLDER``.

Reads FOLDER/task.json (a `BuilderTask`), writes FOLDER/answer.json (a `BuilderAnswer`), FOLDER/log.txt as it goes and
FOLDER/engine.plan. What the two flavours lack is told by what their modules have, never by their versions.

Sources: NVIDIA's TensorRT and TensorRT-RTX Python API references (Builder, OnnxParser, IBuilderConfig, ILogger).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from edgedet.errors import EdgedetError, EngineError, MissingDependencyError
from edgedet.export.engine.options import FLAVOURS, BuilderAnswer, BuilderTask, Flavour, UnsupportedNode
from edgedet.model_spec import TensorSpec
from edgedet.schema import from_json, to_json

__all__ = ["compute_capability", "find_module", "load_module", "main", "make_log", "parse_and_build"]

_RTX_LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"
_RTX_BINDINGS = "tensorrt_rtx_bindings"
_LISTING = "Layers:"


def find_module(flavour: Flavour) -> tuple[str, ...]:
    """Return the modules that bring a flavour, without importing them.

    NVIDIA's TensorRT-RTX package is one module. What package indexes have are its bindings alone, and its libraries
    inside of an execution provider for ONNX Runtime (the extra ``rtx``); both together serve as well.

    Raises:
        MissingDependencyError: if they are not installed.
    """
    choices = {"tensorrt": (("tensorrt",),), "rtx": (("tensorrt_rtx",), (_RTX_LIBRARIES, _RTX_BINDINGS))}[flavour]
    for names in choices:
        if all(importlib.util.find_spec(name) is not None for name in names):
            return names
    raise MissingDependencyError(
        f"the Python module of {FLAVOURS[flavour]}",
        "none that this Python can import",
        "Run: edgedet doctor" if flavour == "tensorrt" else "Install it with: pip install 'edgedet[rtx]'",
    )


def load_module(flavour: Flavour) -> Any:
    """Import the module of a flavour.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    names = find_module(flavour)
    if names[0] == _RTX_LIBRARIES:
        for library in _rtx_libraries():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module(names[-1])


def _rtx_libraries() -> Iterator[Path]:
    """The two libraries that the bindings are linked with; importing the package itself would alter its folder."""
    spec = importlib.util.find_spec(_RTX_LIBRARIES)
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    for stem in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
        yield next(iter(sorted(folder.glob(f"{stem}.so.*"), reverse=True)))


def compute_capability(trt: Any, target: str) -> Any:
    """Return the module's constant for a target such as ``sm_86``.

    Raises:
        EngineError: if this version does not build for it.
    """
    known = {f"sm_{name[2:]}": value for name, value in trt.ComputeCapability.__members__.items() if name[:2] == "SM"}
    if target not in known:
        raise EngineError(
            f"a target that TensorRT-RTX {trt.__version__} builds for",
            f"'{target}'",
            f"Choose among {', '.join(known)}",
        )
    return known[target]


def parse_and_build(trt: Any, task: BuilderTask, log: Any, plan: Path) -> BuilderAnswer:
    """Parse the ONNX file and, where the task says so, build it and write the plan.

    Args:
        trt: TensorRT's module.
        task: what to do.
        log: the logger of `make_log`.
        plan: where the engine goes.
    """
    # Registers the plugins that the parser turns to, such as RoiAlign's.
    trt.init_libnvinfer_plugins(log, "")
    builder = trt.Builder(log)
    # Precision lives in the ONNX file: types are those of the graph. (In TensorRT 11 the flag is the only way.)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(task.model):
        unsupported = tuple(_refused(parser.get_error(index)) for index in range(parser.num_errors))
        return _answer(trt, log, unsupported=unsupported)
    found: dict[str, Any] = {"layers": network.num_layers, "outputs": _outputs(network)}
    if not task.build:
        return _answer(trt, log, **found)
    engine = builder.build_serialized_network(network, _configuration(trt, builder, task))
    if engine is None:
        return _answer(trt, log, **found, unsupported=_named_in_errors(network, log.errors))
    plan.write_bytes(memoryview(engine))
    return _answer(trt, log, **found, listing=log.listing, built=True)


def make_log(trt: Any, file: TextIO) -> Any:
    """Return a logger that writes every message to `file` and keeps errors, warnings and the list of kernels."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is only known now
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.listing = ""

        def log(self, severity: Any, message: str) -> None:
            # Line by line, so that the last one before a crash is there.
            file.write(f"{severity.name}: {message}\n")
            file.flush()
            if message.startswith(_LISTING):
                self.listing += message.removeprefix(_LISTING)
            elif severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()


def _configuration(trt: Any, builder: Any, task: BuilderTask) -> Any:
    config = builder.create_builder_config()
    # The list of kernels names their types only in this detail.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if task.optimization_level is not None:
        config.builder_optimization_level = task.optimization_level
    if task.targets:
        config.num_compute_capabilities = len(task.targets)
        for index, target in enumerate(task.targets):
            config.set_compute_capability(compute_capability(trt, target), index)
    if task.shapes:
        profile = builder.create_optimization_profile()
        for shapes in task.shapes:
            profile.set_shape(shapes.name, shapes.smallest, shapes.typical, shapes.largest)
        config.add_optimization_profile(profile)
    return config


def _answer(trt: Any, log: Any, **found: Any) -> BuilderAnswer:
    return BuilderAnswer(
        version=trt.__version__, errors=tuple(log.errors), warnings=tuple(dict.fromkeys(log.warnings)), **found
    )


def _outputs(network: Any) -> tuple[TensorSpec, ...]:
    tensors = (network.get_output(index) for index in range(network.num_outputs))
    return tuple(TensorSpec(tensor.name, tuple(tensor.shape), tensor.dtype.name.lower()) for tensor in tensors)


def _refused(error: Any) -> UnsupportedNode:
    # Some importers do not say which node they were at, but carry its operator in their own name.
    importer = re.fullmatch(r"(?:import|check)([A-Z]\w+)", error.func())
    operator = error.node_operator() or (importer[1] if importer else "")
    return UnsupportedNode(error.node_name(), operator, error.desc())


def _named_in_errors(network: Any, errors: list[str]) -> tuple[UnsupportedNode, ...]:
    """The layer whose name stands in the first error, as the ONNX node that it came from; none where none does."""
    if not errors:
        return ()
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    named = [layer for layer in layers if re.search(rf"(?<![\w/.]){re.escape(layer.name)}(?![\w/.])", errors[0])]
    if not named:
        return ()
    layer = max(named, key=lambda layer: len(layer.name))
    node = re.match(r"\[ONNX Layer: (.*?)\]", layer.metadata)
    return (UnsupportedNode(node[1] if node else layer.name, "", errors[0]),)


def main(folder: Path) -> None:
    """Do the task of a folder."""
    task = from_json(BuilderTask, json.loads((folder / "task.json").read_text(encoding="utf-8")), "task")
    trt = load_module(task.flavour)
    with (folder / "log.txt").open("w", encoding="utf-8") as file:
        try:
            answer = parse_and_build(trt, task, make_log(trt, file), folder / "engine.plan")
        except EdgedetError as error:
            answer = BuilderAnswer(fault=error.args)
    (folder / "answer.json").write_text(json.dumps(to_json(answer)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
