"""From a model file to a detector, and from a detector and a source to a stream."""

from __future__ import annotations

import dataclasses
import logging
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edgedet.device_loader import ENGINE_SUFFIXES, load_engine_file, load_on_device
from edgedet.engine_choice import EngineName, choose_engine
from edgedet.errors import ModelFileError, SpecError
from edgedet.model_spec import ModelSpec

if TYPE_CHECKING:
    from edgedet.runtime.capture import Source
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import Policy, Stream
    from edgedet.runtime.tiled_detector import TiledDetector
    from edgedet.runtime.tiling import Tiling

__all__ = ["EngineName", "load", "open_stream"]

_LOG = logging.getLogger(__name__)


@overload
def load(
    model: str | PathLike[str],
    *,
    engine: EngineName | Literal["auto"] = "auto",
    selection: Selection | None = None,
    threads: int | None = None,
    proposals: int | None = None,
    key: str | PathLike[str] | None = None,
    tiling: None = None,
) -> Detector[Any]: ...
@overload
def load(
    model: str | PathLike[str],
    *,
    engine: EngineName | Literal["auto"] = "auto",
    selection: Selection | None = None,
    threads: int | None = None,
    proposals: int | None = None,
    key: str | PathLike[str] | None = None,
    tiling: Tiling,
) -> TiledDetector: ...
@overload
def load(
    model: str | PathLike[str],
    *,
    engine: EngineName | Literal["auto"] = "auto",
    selection: Selection | None = None,
    threads: int | None = None,
    proposals: int | None = None,
    key: str | PathLike[str] | None = None,
    tiling: Tiling | None,
) -> Detector[Any] | TiledDetector: ...
def load(
    model: str | PathLike[str],
    *,
    engine: EngineName | Literal["auto"] = "auto",
    selection: Selection | None = None,
    threads: int | None = None,
    proposals: int | None = None,
    key: str | PathLike[str] | None = None,
    tiling: Tiling | None = None,
) -> Detector[Any] | TiledDetector:
    """Load an exported model on the best engine of this machine.

    An ONNX file runs on TensorRT, TensorRT-RTX, ONNX Runtime with CUDA or ONNX Runtime on the CPU, the first of these
    that is here; TensorRT's engine is built once and kept. The log says which it is and why. A model whose INT8 is
    placed for TensorRT runs on a CPU too, as it is written and slowly; the log says so.

    Args:
        model: an ONNX file that ``edgedet export`` wrote, or an engine that ``edgedet build`` did.
        engine: ``auto``, or the name of an engine to insist on.
        selection: thresholds and limits of the detections.
        threads: threads of one run on a CPU; all processors that this process may use where None.
        proposals: at most this many regions a picture, for models that want proposals (R-CNN, Fast R-CNN); what the
            model says where None.
        key: file with the public key that engines must be signed with (see ``edgedet keygen``); that of the environment
            variable EDGEDET_ENGINE_KEY where None, and without either, only engines that this user built are loaded.
        tiling: look at pictures through tiles, where they are much larger than the network's input.

    Raises:
        ModelFileError: if the file cannot be loaded.
        UntrustedFileError: if nobody who is trusted vouches for an engine.
        EngineError: if an engine cannot be built, or was built for another device or version.
        SpecError: if it carries no ModelSpec, or one that does not fit its network, or the engine is unknown, or
            tiles are wanted of a model that answers with maps or wants proposals, or proposals of one that does not.
        MissingDependencyError: if the engine that is insisted on is not here, or the model wants proposals, and the
            package that makes them is not installed.
    """
    path = Path(model)
    if not path.is_file():
        raise ModelFileError("an exported model", f"'{path}', which does not exist", "Check the path")
    trusted = None if key is None else Path(key)
    if path.suffix in ENGINE_SUFFIXES:
        detector = _from_engine(path, engine, selection, trusted, proposals)
    else:
        detector = _from_onnx(path, engine, selection, trusted, proposals, threads)
    if tiling is None:
        return detector
    from edgedet.runtime.tiled_detector import TiledDetector

    return TiledDetector(detector, tiling)


def _from_engine(
    path: Path, engine: str, selection: Selection | None, key: Path | None, proposals: int | None
) -> Detector[Any]:
    from edgedet.engine_store.manifest import read_sidecar

    flavour = read_sidecar(path)[0].flavour
    if engine not in ("auto", flavour):
        raise SpecError(f"engine 'auto' or {flavour!r} for '{path}'", repr(engine), "Leave out --engine")
    if proposals is not None:
        raise SpecError("a model that wants proposals, to set how many", f"'{path}'", "Leave out --proposals")
    return load_engine_file(path, selection, key)


def _from_onnx(
    path: Path,
    engine: EngineName | Literal["auto"],
    selection: Selection | None,
    key: Path | None,
    proposals: int | None,
    threads: int | None,
) -> Detector[Any]:
    session, spec = _open(path, threads)
    choice = choose_engine(engine, spec)
    _LOG.info("'%s' runs on %s", path, choice.reason)
    if proposals is not None:
        spec = _with_proposals(spec, proposals)
    if choice.engine != "onnxruntime":
        session.close()
        return load_on_device(path, spec, choice.engine, selection, key)
    session = _for_this_cpu(path, spec, session, threads)
    session.select_outputs([output.name for output in spec.outputs])
    return _detector(spec, session, selection)


def _open(path: Path, threads: int | None) -> tuple[OnnxRuntimeEngine, ModelSpec]:
    from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

    session = OnnxRuntimeEngine(path, threads=threads)
    spec = ModelSpec.from_metadata(session.metadata)
    if spec is None:
        raise SpecError(
            "an ONNX file that edgedet exported, with a ModelSpec in its metadata",
            f"'{path}' without one",
            f"Add it with: edgedet export '{path}' -o 'model.onnx'",
        )
    return session, spec


def _for_this_cpu(path: Path, spec: ModelSpec, session: OnnxRuntimeEngine, threads: int | None) -> OnnxRuntimeEngine:
    from edgedet.runtime.engines.onnxruntime import AS_WRITTEN, OnnxRuntimeEngine

    if "int8" in spec.precision and (spec.calibration or {}).get("target") == "tensorrt":
        _LOG.warning(
            "The INT8 of '%s' is placed for TensorRT: a CPU computes it as it is written, slower than the float model. "
            "For a CPU: edgedet export MODEL --int8 --target cpu --calib DIR",
            path,
        )
        # None of its Q/DQ stand where ONNX Runtime has integer kernels; its attempts only cost time.
        session.close()
        session = OnnxRuntimeEngine(path, threads=threads, config=AS_WRITTEN)
    return session


def _with_proposals(spec: ModelSpec, count: int) -> ModelSpec:
    if spec.proposals is None:
        raise SpecError(
            "a model that wants proposals, to set how many",
            f"'{spec.name}', which looks at whole pictures",
            "Leave out --proposals",
        )
    if not 1 <= count <= spec.proposals.count:
        raise SpecError(
            f"1 to {spec.proposals.count} proposals, as '{spec.name}' was exported for",
            str(count),
            "Correct --proposals, or set proposals.count when exporting",
        )
    return spec.replace(proposals=dataclasses.replace(spec.proposals, count=count))


def _detector(spec: ModelSpec, session: OnnxRuntimeEngine, selection: Selection | None) -> Detector[Any]:
    if spec.proposals is None:
        from edgedet.runtime.detector import Detector

        return Detector(spec, session, selection)
    from edgedet.runtime.proposal_detector import ProposalDetector

    return ProposalDetector(spec, session, selection)


def open_stream(
    detector: Detector[Any] | TiledDetector | str | PathLike[str],
    source: Source | str | int | PathLike[str],
    *,
    policy: Policy | None = None,
    selection: Selection | None = None,
) -> Stream:
    """Detect in every frame of a source, with reading, pre-processing and inference overlapped.

    Args:
        detector: a detector, tiled or plain, or the path of a model to load (closed with the stream then). A path is
            the better choice for files: the engine is then set up for frames per second.
        source: an open `Source`, or a picture, folder, glob, video file, camera index, V4L2 device, RTSP or HTTP
            address.
        policy: ``every`` frame, or the ``latest`` one; by the kind of source where None.
        selection: thresholds and limits in place of the detector's own.

    Returns:
        A context manager that yields one result a frame.
    """
    from edgedet.runtime.capture import open_source
    from edgedet.runtime.stream import Stream, schedule_for

    if not isinstance(detector, (str, PathLike)):
        chosen = detector if selection is None else detector.with_selection(selection)
        return Stream(chosen, source, policy=policy)
    frames = open_source(source) if isinstance(source, (str, int, PathLike)) else source
    try:
        schedule = schedule_for(frames, policy)
        loaded = load(detector, selection=selection, threads=schedule.threads)
    except BaseException:  # whatever it is, the source is not left open
        frames.close()
        raise
    return Stream(loaded, frames, policy=policy, owns_detector=True, in_flight=schedule.in_flight)
