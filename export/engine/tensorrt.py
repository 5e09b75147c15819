"""The builder's process: ``python -m edgedet.export.engine.tensorrt FOLDER``.

Reads FOLDER/task.json (a `BuilderTask`), writes FOLDER/answer.json (a `BuilderAnswer`), FOLDER/log.txt as it goes,
FOLDER/engine.plan, and a line of JSON to standard output for each step of progress. What versions and flavours lack is
told by what their modules have, never by their version numbers.

Networks are strongly typed everywhere: the flag is there from TensorRT 10.0 on (in 11 it says what is so anyway), and
precision is what the ONNX file says, which is what its accuracy was measured with. The flags FP16 and INT8 of a weakly
typed network, which 10.3 would also take, let the builder choose other types for what is left in float.

TensorRT's builder does not list its kernels: the new engine is loaded and asked, in this same process, so that one
which crashes when it is loaded is refused here.

Sources: NVIDIA's TensorRT and TensorRT-RTX Python API references (Builder, OnnxParser, IBuilderConfig, ILogger,
IProgressMonitor, ITimingCache, EngineInspector).
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from edgedet.atomic_file import atomic_file
from edgedet.errors import EdgedetError, EngineError
from edgedet.export.engine.options import BuilderAnswer, BuilderTask, UnsupportedNode
from edgedet.model_spec import TensorSpec
from edgedet.runtime.engines.tensorrt_module import load_module, make_log
from edgedet.schema import from_json, to_json

__all__ = [
    "compute_capability",
    "configure",
    "inspect",
    "main",
    "make_progress",
    "parse_and_build",
]


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


def parse_and_build(trt: Any, task: BuilderTask, log: Any, plan: Path, progress: Any = None) -> BuilderAnswer:
    """Parse the ONNX file and, where the task says so, build it and write the plan.

    Args:
        trt: TensorRT's module.
        task: what to do.
        log: the logger of `make_log`.
        plan: where the engine goes.
        progress: the monitor of `make_progress`, or None.
    """
    started = time.monotonic()
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
    config = configure(trt, builder, task)
    if progress is not None:
        config.progress_monitor = progress
    engine = builder.build_serialized_network(network, config)
    found["seconds"] = time.monotonic() - started
    if engine is None:
        return _answer(trt, log, **found, unsupported=_named_in_errors(network, log.errors))
    plan.write_bytes(memoryview(engine))
    if task.timing_cache is not None:
        with atomic_file(Path(task.timing_cache)) as temporary:
            temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))
    # TensorRT-RTX has told already; what was built ahead of time cannot be loaded here.
    inspection = "" if log.listing or task.targets else inspect(trt, plan.read_bytes(), task, log)
    return _answer(trt, log, **found, listing=log.listing, inspection=inspection, built=True)


def inspect(trt: Any, plan: bytes, task: BuilderTask, log: Any) -> str:
    """Return what TensorRT's engine inspector tells of a new engine, as JSON text; empty where it cannot be loaded.

    Args:
        trt: TensorRT's module.
        plan: the engine that was just built.
        task: that it was built for.
        log: the logger of `make_log`.
    """
    runtime = trt.Runtime(log)
    if task.version_compatible:
        runtime.engine_host_code_allowed = True
    if task.dla is not None:
        runtime.DLA_core = task.dla
    engine = runtime.deserialize_cuda_engine(plan)
    inspector = None if engine is None else engine.create_engine_inspector()
    if inspector is None:
        return ""
    if task.shapes:
        # Of tensors whose shape depends on the input's, types and formats are told only where that is known.
        context = engine.create_execution_context()
        if context is not None:
            for shapes in task.shapes:
                context.set_input_shape(shapes.name, shapes.typical)
            inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def make_progress(trt: Any, file: TextIO) -> Any:
    """Return a monitor that writes each step of the outermost phases as a line of JSON: name, done, of how many."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]  # the base is only known now
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                self._tell(phase_name, 0)

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.steps:
                self._tell(phase_name, self.steps.pop(phase_name), finished=True)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                self._tell(phase_name, step + 1)
            return True  # go on building

        def _tell(self, name: str, done: int, *, finished: bool = False) -> None:
            of = done if finished else self.steps[name]
            file.write(json.dumps([name, done, of]) + "\n")
            file.flush()

    return Progress()


def configure(trt: Any, builder: Any, task: BuilderTask) -> Any:
    """Return the builder's configuration for a task.

    Raises:
        EngineError: if this version or device lacks what the task asks for.
    """
    config = builder.create_builder_config()
    # The list of kernels names their types only in this detail.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if task.optimization_level is not None:
        config.builder_optimization_level = task.optimization_level
    if task.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, task.workspace << 20)
    if task.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if task.hardware_compatible:
        levels = trt.HardwareCompatibilityLevel
        # The closer kinship costs less speed; versions before it was there know the wider one only.
        closest = "SAME_COMPUTE_CAPABILITY" if hasattr(levels, "SAME_COMPUTE_CAPABILITY") else "AMPERE_PLUS"
        config.hardware_compatibility_level = getattr(levels, closest)
    if task.dla is not None:
        _use_dla(trt, builder, config, task.dla)
    if task.timing_cache is not None:
        path = Path(task.timing_cache)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        # Times of another device or version are of no use: start anew then.
        if cache is None or not config.set_timing_cache(cache, False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
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


def _use_dla(trt: Any, builder: Any, config: Any, core: int) -> None:
    there = builder.num_DLA_cores
    if core >= there:
        raise EngineError(
            f"deep-learning accelerator {core}",
            f"{there} of them that TensorRT {trt.__version__} can use here",
            "Leave out --dla, which Jetson Orin and Xavier have, and versions 11.0 to 11.3 do not support",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


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
            progress = make_progress(trt, sys.stdout) if task.build else None
            answer = parse_and_build(trt, task, make_log(trt, file), folder / "engine.plan", progress)
        except EdgedetError as error:
            answer = BuilderAnswer(fault=error.args)
    (folder / "answer.json").write_text(json.dumps(to_json(answer)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
