"""From a model file to a detector, and from a detector and a source to a stream."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edgedet.device_loader import ENGINE_SUFFIXES, load_engine_file, load_on_device
from edgedet.engine_choice import EngineName, choose_engine
from edgedet.errors import ModelFileError, SpecError
from edgedet.model_spec import ModelSpec

if TYPE_CHECKING:
    from edgedet.runtime.capture import CameraOptions, NetworkOptions
    from edgedet.runtime.detector import Detector
    from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import BatchSize, Policy, Recovery, SourceLike, Stream
    from edgedet.runtime.tiled_detector import TiledDetector
    from edgedet.runtime.tiling import Tiling
    from edgedet.runtime.tracking import Tracking

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
    batch: int | None = None,
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
    batch: int | None = None,
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
    batch: int | None = None,
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
    batch: int | None = None,
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
        batch: pictures of a run on a GPU, for a model that takes any number; what a run lacks of it costs time all the
            same. As few as its engine takes where None: one, unless it was built for more.
        key: file with the public key that engines must be signed with (see ``edgedet keygen``); that of the environment
            variable EDGEDET_ENGINE_KEY where None, and without either, only engines that this user built are loaded.
        tiling: look at pictures through tiles, where they are much larger than the network's input.

    Raises:
        ModelFileError: if the file cannot be loaded.
        UntrustedFileError: if nobody who is trusted vouches for an engine.
        EngineError: if an engine cannot be built, or was built for another device or version.
        SpecError: if it carries no ModelSpec, or one that does not fit its network, or the engine is unknown, or
            tiles are wanted of a model that answers with maps or wants proposals, or proposals of one that does not,
            or a batch of one that has its own or runs on a CPU.
        MissingDependencyError: if the engine that is insisted on is not here, or the model wants proposals, and the
            package that makes them is not installed.
    """
    path = Path(model)
    if not path.is_file():
        raise ModelFileError("an exported model", f"'{path}', which does not exist", "Check the path")
    trusted = None if key is None else Path(key)
    if path.suffix in ENGINE_SUFFIXES:
        detector = _from_engine(path, engine, selection, trusted, proposals, batch)
    else:
        detector = _from_onnx(path, engine, selection, trusted, proposals, threads, batch)
    if tiling is None:
        return detector
    from edgedet.runtime.tiled_detector import TiledDetector

    return TiledDetector(detector, tiling)


def _from_engine(
    path: Path,
    engine: str,
    selection: Selection | None,
    key: Path | None,
    proposals: int | None,
    batch: int | None,
) -> Detector[Any]:
    from edgedet.engine_store.manifest import read_sidecar

    flavour = read_sidecar(path)[0].flavour
    if engine not in ("auto", flavour):
        raise SpecError(f"engine 'auto' or {flavour!r} for '{path}'", repr(engine), "Leave out --engine")
    if proposals is not None:
        raise SpecError("a model that wants proposals, to set how many", f"'{path}'", "Leave out --proposals")
    return load_engine_file(path, selection, key, batch)


def _from_onnx(
    path: Path,
    engine: EngineName | Literal["auto"],
    selection: Selection | None,
    key: Path | None,
    proposals: int | None,
    threads: int | None,
    batch: int | None,
) -> Detector[Any]:
    session, spec = _open(path, threads)
    choice = choose_engine(engine, spec)
    _LOG.info("'%s' runs on %s", path, choice.reason)
    if proposals is not None:
        spec = _with_proposals(spec, proposals)
    if choice.engine != "onnxruntime":
        session.close()
        return load_on_device(path, spec, choice.engine, selection, key, batch)
    if batch is not None:
        raise SpecError(
            "an engine on a GPU, to set the batch", choice.reason, "Leave it out: a list of pictures runs as one"
        )
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
    source: SourceLike | Sequence[SourceLike],
    *,
    policy: Policy | None = None,
    batch: BatchSize = "auto",
    camera: CameraOptions | None = None,
    network: NetworkOptions | None = None,
    tracking: Tracking | None = None,
    recovery: Recovery | None = None,
    selection: Selection | None = None,
    engine: EngineName | Literal["auto"] = "auto",
    key: str | PathLike[str] | None = None,
    tiling: Tiling | None = None,
) -> Stream:
    """Detect in every frame of one or more sources, with reading, pre-processing and inference overlapped.

        with edgedet.open_stream("model.onnx", "/dev/video0") as stream:
            for result in stream: ...
        async with edgedet.open_stream("model.onnx", ["rtsp://gate", "rtsp://yard"]) as stream:
            async for result in stream: ...

    Args:
        detector: a detector, tiled or plain, or the path of a model to load (closed with the stream then). A path is
            the better choice: the engine is then set up for frames per second, or for the fastest answer, by the kind
            of source.
        source: an open `Source`, or a picture, folder, glob, video file, camera index, V4L2 device, RTSP or HTTP
            address; or a list of these, whose frames go through one engine.
        policy: ``latest``: the newest frame whenever the model is free; ``every`` frame; ``rate=N``: at most N results
            a second of each source. By default ``latest`` for cameras and network streams, else ``every``.
        batch: frames that are inferred in one run at most, where the network takes several. ``auto``: as many as there
            are sources, or what the network is fixed to.
        camera: what is wanted of the cameras among the sources.
        network: what is wanted of the network streams among the sources.
        tracking: gives objects identities over time (``result.detections.track_id``). The confidence of the selection
            decides what starts a track; weaker detections only continue one.
        recovery: what to do about cameras and network streams that fail; by default they are opened again, with
            growing waits, for ever.
        selection: thresholds and limits in place of the detector's own.
        engine: see `load`.
        key: see `load`.
        tiling: see `load`.

    Returns:
        A context manager that yields one result a frame, also asynchronously.

    Raises:
        SourceError: if a source cannot be opened.
        SpecError: if the policy or the batch does not exist or does not fit, objects are to be tracked by a model that
            finds none, or a detector that is loaded already is to be loaded otherwise. Also what `load` raises.
    """
    from edgedet.runtime.selection import Selection
    from edgedet.runtime.stream import Stream, close_all, open_all, schedule_for

    loads = isinstance(detector, (str, PathLike))
    if not loads and (engine != "auto" or key is not None or tiling is not None):
        got = "a detector that is loaded already"
        raise SpecError("the path of a model, to load it as wanted", got, "Pass engine, key and tiling to load")
    origins = open_all(source, camera=camera, network=network)
    try:
        schedule = schedule_for([origin.source for origin in origins], policy)
        if tracking is not None:
            present = Selection() if isinstance(detector, (str, PathLike)) else detector.selection
            tracking, selection = tracking.with_selection(selection or present)
        if isinstance(detector, (str, PathLike)):
            chosen = load(
                detector, engine=engine, selection=selection, threads=schedule.threads, key=key, tiling=tiling
            )
        else:
            chosen = detector if selection is None else detector.with_selection(selection)
    except BaseException:  # whatever it is, no source is left open
        close_all([origin.source for origin in origins])
        raise
    try:
        return Stream(
            chosen,
            origins,
            policy=policy,
            owns_detector=loads,
            in_flight=schedule.in_flight if loads else None,
            batch=batch,
            tracking=tracking,
            recovery=recovery,
        )
    except BaseException:  # whatever it is, a model that was loaded here is not left open
        if loads:
            chosen.close()
        raise
