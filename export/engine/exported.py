"""The last step of an export: the engine of the ONNX file that was just written, where this machine can build it.

The engine goes into the user's cache, where ``edgedet run`` on the ONNX file finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.engine_choice import ENGINES
from edgedet.engine_store.manifest import Flavour
from edgedet.errors import EdgedetError, EngineError, MissingDependencyError, SpecError
from edgedet.export.onnx_file import load_onnx
from edgedet.model_spec import ModelSpec

if TYPE_CHECKING:
    from edgedet.export.engine.build import BuildReport
    from edgedet.export.engine.process import OnProgress
    from edgedet.runtime.cuda.device import Device

__all__ = ["EngineOutcome", "check_engine_is_possible", "engine_of_export"]

_FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "rtx")


@dataclass(frozen=True, eq=False)
class EngineOutcome:
    """What became of the engine of an exported file.

    Attributes:
        detail: in one line, what was done, or why there is none and what to do.
        path: where the engine is kept; None where there is none.
        report: how it was built; None where it was not.
        verdict: whether a lower precision pays here; empty where that was not measured.
        fault: why there is no engine, where the user insisted on one.
    """

    detail: str
    path: Path | None = None
    report: BuildReport | None = None
    verdict: str = ""
    fault: EdgedetError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {
            "path": None if self.path is None else str(self.path),
            "detail": self.detail,
            "verdict": self.verdict,
            "fault": None if self.fault is None else str(self.fault),
            "build": None if self.report is None else self.report.to_json(),
        }


def check_engine_is_possible() -> None:
    """Make sure, before anything else is done, that this machine has what an engine is built with.

    Raises:
        MissingDependencyError: if it lacks something.
    """
    if _flavour() is None:
        raise MissingDependencyError(
            "TensorRT and a GPU, which --engine asks for", _lacking(), "Run: edgedet doctor, or leave out --engine"
        )


def engine_of_export(
    model: Path, spec: ModelSpec, *, insisted: bool = False, on_progress: OnProgress | None = None
) -> EngineOutcome:
    """Find or build the engine of a file that was just written; whatever goes wrong, the file stays.

    An engine in INT8 is timed against one in FP16, or in float, where that export of the same source lies beside it.

    Args:
        model: the ONNX file.
        spec: its ModelSpec.
        insisted: whether the user asked for an engine, so that there being none is a fault.
        on_progress: told about the builder's phases.
    """
    elsewhere = f"On the device: edgedet build '{model.name}'"
    unsuited = _unsuited(spec)
    flavour = _flavour()
    if unsuited is not None:
        fault: EdgedetError = SpecError("a model for TensorRT, which --engine asks for", unsuited, "Leave out --engine")
        return EngineOutcome(f"None, for ONNX Runtime runs it: {unsuited}", fault=fault if insisted else None)
    if flavour is None:
        return EngineOutcome(f"None is built here: {_lacking()}. {elsewhere}")
    from edgedet.runtime.cuda.device import Device

    try:
        with Device() as device:
            return _build(model, spec, flavour, device, on_progress)
    except (EdgedetError, OSError) as error:
        fault = error if isinstance(error, EdgedetError) else EngineError("to build an engine", str(error), elsewhere)
        return EngineOutcome(f"None was built, the ONNX file is whole: {fault}", fault=fault if insisted else None)


def _build(
    model: Path, spec: ModelSpec, flavour: Flavour, device: Device, on_progress: OnProgress | None
) -> EngineOutcome:
    from edgedet.engine_store.trust import Trust
    from edgedet.export.engine.cached import find_or_build
    from edgedet.export.engine.on_device import check_on_device
    from edgedet.export.engine.options import EngineOptions

    trust, options = Trust.from_environment(), EngineOptions(flavour)
    against = None
    other = next(_in_other_precision(model, spec), None)
    if other is not None:
        against = find_or_build(other, options, device, trust, on_progress=on_progress).engine
    check = check_on_device(model, device, against=against, on_progress=on_progress)
    kept = find_or_build(model, options, device, trust, check=check, on_progress=on_progress)
    speed = kept.engine.manifest.report.get("speed") or {}
    how = "was there already" if kept.report is None else f"built in {kept.report.seconds:.0f} s"
    return EngineOutcome(
        f"'{kept.path}', {how}; edgedet run '{model.name}' finds it", kept.path, kept.report, speed.get("verdict", "")
    )


def _flavour() -> Flavour | None:
    """Return the first flavour that this machine has all for."""
    return next((name for name in _FLAVOURS if ENGINES[name].missing() is None), None)


def _lacking() -> str:
    return ENGINES["tensorrt"].missing() or "nothing"


def _unsuited(spec: ModelSpec) -> str | None:
    """Say why a model is not for an engine; None where it is."""
    if spec.proposals is not None:
        return "its proposals are made on the CPU"
    if (spec.calibration or {}).get("target") == "cpu":
        return "its INT8 is placed for the CPU"
    return None


def _in_other_precision(model: Path, spec: ModelSpec) -> Iterator[Path]:
    """Find the export of the same source that INT8 has to be faster than, FP16 first."""
    if "int8" not in spec.precision or not spec.source_sha256:
        return
    stem = model.stem.removesuffix(".int8")
    for path in (model.with_name(f"{stem}.fp16.onnx"), model.with_name(f"{stem}.onnx")):
        if path == model or not path.is_file():
            continue
        entries = load_onnx(path).metadata_props
        found = ModelSpec.from_metadata({entry.key: entry.value for entry in entries})
        if found is not None and found.source_sha256 == spec.source_sha256 and "int8" not in found.precision:
            yield path
