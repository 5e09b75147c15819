"""Parse and build in a process of their own: a native crash there is an error here, with the builder's last words.

`parse_network` tells what the parser thinks of a network; `build_engine` makes the engine or says which node was in
the way, why, and what to do.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from edgedet.engine_store.manifest import FLAVOURS, Flavour
from edgedet.errors import EngineError
from edgedet.export.engine.layers import LayerPrecision, read_inspection, read_listing
from edgedet.export.engine.options import BuilderAnswer, BuilderTask, EngineOptions
from edgedet.export.engine.profile import shape_ranges
from edgedet.export.onnx_file import load_onnx
from edgedet.export.rewrite import Refusal, find_refusals
from edgedet.model_spec import TensorSpec
from edgedet.runtime.engines.tensorrt_module import find_module
from edgedet.schema import from_json, to_json

__all__ = ["BuiltEngine", "OnProgress", "ParseReport", "build_engine", "parse_network"]

OnProgress = Callable[[str, int, int], None]
"""Told the phase, how many of its steps are done, and how many there are."""

_LAST_LINES = 5

_WORKSPACES = (4096, 1024, 256, 64)
"""MiB to try one after the other where the builder ran out of memory and the user named no workspace."""

_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|insufficient memory|memory allocation|alloc(ation)? failed", re.IGNORECASE
)

# What TensorRT-RTX itself lacks, and TensorRT has.
_RTX_LIMITS = {
    "NonMaxSuppression": "Export the raw head, so that edgedet's own NMS runs, or build with TensorRT",
    "RoiAlign": "Build on a machine with an NVIDIA driver, which its plugin asks for",
}
_FOR_CPU = "It was quantised for the CPU: export it again with --target tensorrt"
_ELSE = "Export the network without it, or run it with ONNX Runtime"


@dataclass(frozen=True)
class ParseReport:
    """What the parser thinks of a network.

    Attributes:
        version: of TensorRT's Python module.
        layers: number of layers, 0 where the network was refused.
        outputs: names, shapes (-1 where dynamic) and types of the outputs; empty where the network was refused.
        refusals: the nodes that were refused, none where the network was taken.
        warnings: what the parser warned of.
    """

    version: str
    layers: int
    outputs: tuple[TensorSpec, ...]
    refusals: tuple[Refusal, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BuiltEngine:
    """An engine and what the builder tells of it.

    Attributes:
        plan: the serialised engine, a plain TensorRT plan.
        version: of TensorRT's Python module.
        layers: its kernels and their precisions; empty where TensorRT does not tell.
        warnings: what parser and builder warned of.
        seconds: that parsing and building took.
        workspace: MiB that kernels may use, where it was limited; None for the builder's default.
    """

    plan: bytes
    version: str
    layers: tuple[LayerPrecision, ...]
    warnings: tuple[str, ...]
    seconds: float = 0.0
    workspace: int | None = None


def parse_network(path: Path, flavour: Flavour = "tensorrt") -> ParseReport:
    """Run the parser over an ONNX file.

    Raises:
        MissingDependencyError: if the flavour is not installed.
        ModelFileError: if the file is not ONNX.
        EngineError: if the parser crashed.
    """
    model = load_onnx(path)
    answer, _ = _run(BuilderTask(str(path.resolve()), flavour, build=False))
    return ParseReport(answer.version, answer.layers, answer.outputs, _refusals(answer, model), answer.warnings)


def build_engine(path: Path, options: EngineOptions, on_progress: OnProgress | None = None) -> BuiltEngine:
    """Build an engine from an ONNX file.

    A builder that runs out of memory is started again with less workspace, unless the user said how much it may have.

    Args:
        path: of the ONNX file.
        options: how to build.
        on_progress: told about the builder's phases.

    Raises:
        MissingDependencyError: if the flavour is not installed.
        ModelFileError: if the file is not ONNX.
        SpecError: if a dynamic input has no known shapes (see `shape_ranges`).
        EngineError: if parser or builder refused the network, which names the node, or crashed.
    """
    model = load_onnx(path)
    task = BuilderTask(
        str(path.resolve()),
        options.flavour,
        build=True,
        targets=options.targets,
        optimization_level=options.optimization_level,
        workspace=options.workspace,
        timing_cache=None if options.timing_cache is None else str(options.timing_cache.resolve()),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        dla=options.dla,
        shapes=shape_ranges(model, options.batch),
    )
    answer, plan, workspace = _with_less_and_less(task, on_progress)
    if not answer.built:
        raise _refused(path, options, answer, _refusals(answer, model))
    layers = read_listing(answer.listing) or read_inspection(answer.inspection)
    return BuiltEngine(plan, answer.version, layers, answer.warnings, answer.seconds, workspace)


def _with_less_and_less(task: BuilderTask, on_progress: OnProgress | None) -> tuple[BuilderAnswer, bytes, int | None]:
    """Run the builder, again with less workspace while it lacks memory; of several faults the last one is told."""
    steps = (None, *_WORKSPACES) if task.workspace is None else (task.workspace,)
    for workspace in steps[:-1]:
        try:
            answer, plan = _run(replace(task, workspace=workspace), on_progress)
        except _BrokenOffError as error:
            if error.signal != signal.SIGKILL:  # as the system does where memory runs out
                raise
            continue
        if answer.built or not any(_OUT_OF_MEMORY.search(text) for text in answer.errors):
            return answer, plan, workspace
    return *_run(replace(task, workspace=steps[-1]), on_progress), steps[-1]


class _BrokenOffError(EngineError):
    """The builder's process ended without an answer.

    Args:
        error: what to tell the user.
        signal: that ended it, 0 where none did.
    """

    def __init__(self, error: EngineError, signal: int) -> None:
        super().__init__(*error.args)
        self.signal = signal


def _run(task: BuilderTask, on_progress: OnProgress | None = None) -> tuple[BuilderAnswer, bytes]:
    find_module(task.flavour)
    with tempfile.TemporaryDirectory(prefix="edgedet-engine-") as name:
        folder = Path(name)
        (folder / "task.json").write_text(json.dumps(to_json(task)), encoding="utf-8")
        command = [sys.executable, "-m", "edgedet.export.engine.tensorrt", name]
        # Python looks for modules in the folder in which it starts, and ours holds none; what this process can import,
        # that one can.
        paths = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        code = _watch(command, folder, {**os.environ, "PYTHONPATH": paths}, on_progress)
        answer = folder / "answer.json"
        if code or not answer.is_file():
            raise _BrokenOffError(_broken_off(task, code, folder), max(-code, 0))
        found = from_json(BuilderAnswer, json.loads(answer.read_text(encoding="utf-8")), "answer")
        if found.fault:
            raise EngineError(*found.fault)
        return found, (folder / "engine.plan").read_bytes() if found.built else b""


def _watch(command: list[str], folder: Path, environment: dict[str, str], on_progress: OnProgress | None) -> int:
    """Run the builder's process to its end and pass on its progress; it does not outlive an interruption."""
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  # this Python and a module of this package
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    step = _progress(line)
                    if step is not None and on_progress is not None:
                        on_progress(*step)
            except BaseException:  # Ctrl-C too: no builder goes on by itself
                process.kill()
                raise
    return process.returncode


def _progress(line: str) -> tuple[str, int, int] | None:
    """Read a line of progress; TensorRT itself may write other ones."""
    try:
        name, done, of = json.loads(line)
        return str(name), int(done), int(of)
    except (ValueError, TypeError):
        return None


def _refusals(answer: BuilderAnswer, model: onnx.ModelProto) -> tuple[Refusal, ...]:
    """Each refused node with its operator and what to do about it."""
    operators = {node.name: node.op_type for node in model.graph.node if node.name}
    known = find_refusals(model)
    found = []
    for item in answer.unsupported:
        operator = item.operator or operators.get(item.node, "")
        advice = [_FOR_CPU] if "zero point is not supported" in item.reason else []
        advice += [rule.action for rule in known if rule.node == item.node]
        advice += [rule.action for rule in known if rule.operator == operator]
        action = next(iter(advice), _RTX_LIMITS.get(operator, _ELSE))
        found.append(Refusal(item.node, operator, _plain(item.reason), action))
    return tuple(found)


def _refused(path: Path, options: EngineOptions, answer: BuilderAnswer, refusals: tuple[Refusal, ...]) -> EngineError:
    target = f" for {', '.join(options.targets)}" if options.targets else ""
    expected = f"a network that {FLAVOURS[options.flavour]} {answer.version} builds{target}"
    if not refusals:
        reason = _plain(answer.errors[0]) if answer.errors else "no engine, and no reason given"
        return EngineError(expected, f"'{path}': {reason}", _ELSE)
    first, more = refusals[0], len(refusals) - 1
    node = " ".join(filter(None, (first.operator or "a node", first.node and f"'{first.node}'")))
    others = f" (and {more} more)" if more else ""
    return EngineError(expected, f"'{path}', in which it refuses {node}: {first.reason}{others}", first.action)


def _broken_off(task: BuilderTask, code: int, folder: Path) -> EngineError:
    log, errors = (_lines(folder / name) for name in ("log.txt", "stderr.txt"))
    # Of a Python traceback, the last line says what happened.
    lines = [*log[-_LAST_LINES:], *errors[-1:]]
    how = _signal_name(-code) if code < 0 else f"exit code {code}"
    return EngineError(
        f"an answer of {FLAVOURS[task.flavour]}'s builder on '{task.model}'",
        f"the end of its process ({how}), after: {' | '.join(lines) or 'nothing'}",
        "Free memory if it was killed for lack of it, or try another version or optimisation level",
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.is_file() else []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _plain(message: str) -> str:
    """A message of TensorRT without the places in its own source code."""
    message = re.sub(r"^\[[^\]]*\] |^\w+::\w+: ", "", message)
    message = re.sub(r"\s*In \w+ at \S+?:\d+\b", "", message)
    return re.sub(r"\s+", " ", message).replace(" )", ")").rstrip(" .?!")
