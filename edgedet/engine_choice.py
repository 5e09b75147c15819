"""Which engine runs a model here, and why: the order that `edgedet.load` tries, and what each engine needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedet.errors import MissingDependencyError, SpecError
from edgedet.machine import nvidia
from edgedet.model_spec import ModelSpec
from edgedet.optional import is_installed

__all__ = ["ENGINES", "EngineChoice", "EngineName", "choose_engine"]

EngineName = Literal["tensorrt", "rtx", "onnxruntime-cuda", "onnxruntime"]

Need = Callable[[], str | None]
"""Says what is missing, or None."""


@dataclass(frozen=True)
class EngineChoice:
    """An engine and why it was chosen.

    Attributes:
        engine: its name.
        reason: why this one, and what spoke against those before it.
    """

    engine: EngineName
    reason: str


@dataclass(frozen=True)
class _Candidate:
    """An engine that may run a model.

    Attributes:
        title: in words.
        missing: says what it lacks on this machine.
        command: what adds it.
    """

    title: str
    missing: Need
    command: str


def _no_gpu() -> str | None:
    if nvidia(Path("/")).libcuda is None:
        return "no NVIDIA driver"
    if not (is_installed("pycuda") or is_installed("cuda")):
        return "neither cuda-bindings nor pycuda"
    return None


def _no_flavour(flavour: Literal["tensorrt", "rtx"]) -> str | None:
    from edgedet.runtime.engines.tensorrt_module import find_module

    try:
        find_module(flavour)
    except MissingDependencyError as error:
        return f"{error.expected} is not installed"
    return None


def _no_cuda_provider() -> str | None:
    import onnxruntime

    lacks = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    return "onnxruntime was built without CUDA" if lacks else None


ENGINES: dict[EngineName, _Candidate] = {
    "tensorrt": _Candidate("TensorRT", lambda: _no_gpu() or _no_flavour("tensorrt"), "edgedet doctor"),
    "rtx": _Candidate("TensorRT-RTX", lambda: _no_gpu() or _no_flavour("rtx"), "edgedet doctor"),
    "onnxruntime-cuda": _Candidate(
        "ONNX Runtime with CUDA", lambda: _no_gpu() or _no_cuda_provider(), "pip install onnxruntime-gpu"
    ),
    "onnxruntime": _Candidate("ONNX Runtime on the CPU", lambda: None, ""),
}
"""Engines in the order in which they are tried."""


def choose_engine(wanted: EngineName | Literal["auto"], spec: ModelSpec) -> EngineChoice:
    """Choose the engine for a model.

    Args:
        wanted: an engine to insist on, or ``auto`` for the first that this machine has.
        spec: of the model.

    Raises:
        SpecError: if there is no engine of that name, or it cannot run this kind of model.
        MissingDependencyError: if the engine is insisted on, and this machine lacks something that it needs.
    """
    if wanted != "auto" and wanted not in ENGINES:
        raise SpecError(f"engine to be 'auto' or one of {', '.join(ENGINES)}", repr(wanted), "Use one of these")
    if spec.proposals is not None:
        return _for_proposals(wanted, spec)
    if wanted == "auto" and (spec.calibration or {}).get("target") == "cpu":
        return EngineChoice("onnxruntime", "ONNX Runtime on the CPU, which the model's INT8 is placed for")
    if wanted != "auto":
        return _insist(wanted)
    against: list[str] = []
    for name, candidate in ENGINES.items():
        lacking = candidate.missing()
        if lacking is None:
            return EngineChoice(name, "; ".join([f"the first that is here: {candidate.title}", *against]))
        against.append(f"not {candidate.title}: {lacking}")
    raise AssertionError("ONNX Runtime on the CPU lacks nothing")


def _insist(name: EngineName) -> EngineChoice:
    candidate = ENGINES[name]
    lacking = candidate.missing()
    if lacking is not None:
        raise MissingDependencyError(
            f"{candidate.title}, which was asked for", lacking, f"Run: {candidate.command}, or leave out --engine"
        )
    return EngineChoice(name, f"asked for: {candidate.title}")


def _for_proposals(wanted: str, spec: ModelSpec) -> EngineChoice:
    if wanted not in ("auto", "onnxruntime"):
        raise SpecError(
            "engine 'onnxruntime' for a model with a proposal stage",
            f"{wanted!r} for '{spec.name}'",
            "Leave out --engine: its proposals are made on the CPU",
        )
    return EngineChoice("onnxruntime", "the model's proposal stage runs on the CPU")
