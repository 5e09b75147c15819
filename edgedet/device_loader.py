"""Detectors on a GPU: from an engine file, or from an ONNX file whose engine is found in the cache or built once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgedet.errors import EngineError, SpecError
from edgedet.model_spec import ModelSpec

if TYPE_CHECKING:
    from edgedet.engine_store.manifest import Flavour
    from edgedet.engine_store.trust import Trust, VerifiedEngine
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.engines.device_engine import DeviceEngine
    from edgedet.runtime.gpu.detector import DeviceDetector
    from edgedet.runtime.selection import Selection

__all__ = ["ENGINE_SUFFIXES", "DeviceEngineName", "load_engine_file", "load_on_device"]

ENGINE_SUFFIXES = (".engine", ".plan")
"""Endings of files that hold a TensorRT engine."""

DeviceEngineName = Literal["tensorrt", "rtx", "onnxruntime-cuda"]

_LOG = logging.getLogger(__name__)


def load_engine_file(path: Path, selection: Selection | None, key: Path | None) -> DeviceDetector[Any]:
    """Load a built engine, verified before TensorRT sees it.

    Args:
        path: of the engine; its manifest is beside it.
        selection: thresholds and limits.
        key: public key that must have signed it; what this user built is trusted where None.

    Raises:
        UntrustedFileError: if nobody who is trusted vouches for it.
        EngineError: if it is damaged, or was built for another device or version.
        SpecError: if it was built from an ONNX file without a ModelSpec.
        MissingDependencyError: if TensorRT, or a package that speaks to CUDA, is not installed.
    """
    from edgedet.engine_store.trust import Trust, read_engine
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.engines.tensorrt import TensorRTEngine

    engine = read_engine(path, Trust.from_environment(key))
    spec = _spec_of(path, engine)
    return _detector(spec, TensorRTEngine(engine, Device()), selection)


def load_on_device(
    path: Path, spec: ModelSpec, engine: DeviceEngineName, selection: Selection | None, key: Path | None
) -> DeviceDetector[Any]:
    """Load an ONNX file on the GPU; TensorRT's engine is built now where none in the cache fits this device.

    Args:
        path: of the ONNX file.
        spec: its ModelSpec.
        engine: what is to run it.
        selection: thresholds and limits.
        key: public key that cached engines must be signed with; what this user built is trusted where None.

    Raises:
        EngineError: if the engine cannot be built, or answers otherwise than ONNX Runtime does.
        UntrustedFileError: if the engine in the cache is not this user's.
        MissingDependencyError: if something that it needs is not installed.
    """
    from edgedet.engine_store.trust import Trust
    from edgedet.runtime.cuda.device import Device
    from edgedet.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
    from edgedet.runtime.engines.tensorrt import TensorRTEngine

    device = Device()
    if engine == "onnxruntime-cuda":
        names = tuple(output.name for output in spec.outputs)
        return _detector(spec, OnnxRuntimeCudaEngine(path, device, names), selection)
    built = _find_or_build(path, engine, device, Trust.from_environment(key))
    return _detector(spec, TensorRTEngine(built, device), selection)


def _find_or_build(path: Path, flavour: Flavour, device: Device, trust: Trust) -> VerifiedEngine:
    from edgedet.engine_store.cache import EngineCache, EngineKey
    from edgedet.export.engine.build import build_file, options_record, source_sha256
    from edgedet.export.engine.on_device import check_on_device
    from edgedet.export.engine.options import EngineOptions
    from edgedet.runtime.cuda.target import target_of
    from edgedet.runtime.engines.tensorrt_module import load_module

    target = target_of(device)
    options = EngineOptions(flavour)
    version = str(load_module(flavour).__version__)
    cache = EngineCache(trust=trust)
    key = EngineKey(source_sha256(path), flavour, version, target, options_record(options))

    def build(entry: Path) -> None:
        _LOG.warning("Building an engine for %s; this takes minutes, once", target)
        build_file(path, entry, options, target, trust=trust, check=check_on_device(path, device))

    def wait() -> None:
        _LOG.warning("Another process is building this engine; waiting for it")

    return cache.get_or_build(cache.path(path.stem, key), build, wait)


def _spec_of(path: Path, engine: VerifiedEngine) -> ModelSpec:
    if engine.manifest.spec is None:
        raise SpecError(
            "an engine of an ONNX file that edgedet exported",
            f"'{path}', built from '{engine.manifest.source}' without a ModelSpec",
            "Export the model with edgedet, and build it again",
        )
    spec = ModelSpec.from_json(dict(engine.manifest.spec))
    if spec.proposals is not None:
        raise EngineError(
            "a model that looks at whole pictures",
            f"'{spec.name}', whose proposals are made on the CPU",
            "Run its ONNX file with --engine onnxruntime",
        )
    return spec


def _detector(spec: ModelSpec, engine: DeviceEngine, selection: Selection | None) -> DeviceDetector[Any]:
    from edgedet.runtime.gpu.detector import DeviceDetector

    detector: DeviceDetector[Any] = DeviceDetector(spec, engine, selection)
    if detector.decodes_on == "host":
        _LOG.info("The outputs of head '%s' are decoded on the host", spec.head.name)
    return detector
