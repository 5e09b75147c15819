"""Detectors on a GPU: from an engine file, or from an ONNX file whose engine is found in the cache or built once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgedet.errors import EngineError, SpecError
from edgedet.model_spec import ModelSpec

if TYPE_CHECKING:
    from edgedet.engine_store.trust import VerifiedEngine
    from edgedet.runtime.engines.device_engine import DeviceEngine
    from edgedet.runtime.engines.tensorrt import TensorRTEngine
    from edgedet.runtime.gpu.detector import DeviceDetector
    from edgedet.runtime.selection import Selection

__all__ = ["ENGINE_SUFFIXES", "DeviceEngineName", "load_engine_file", "load_on_device"]

ENGINE_SUFFIXES = (".engine", ".plan")
"""Endings of files that hold a TensorRT engine."""

DeviceEngineName = Literal["tensorrt", "rtx", "onnxruntime-cuda"]

_LOG = logging.getLogger(__name__)


def load_engine_file(
    path: Path, selection: Selection | None, key: Path | None, batch: int | None = None
) -> DeviceDetector[Any]:
    """Load a built engine, verified before TensorRT sees it.

    Args:
        path: of the engine; its manifest is beside it.
        selection: thresholds and limits.
        key: public key that must have signed it; what this user built is trusted where None.
        batch: pictures of a run, where the network takes any number; as few as the engine takes where None.

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
    _check_batch(spec, batch)
    return _on_tensorrt(spec, TensorRTEngine(engine, Device()), selection, batch)


def load_on_device(
    path: Path,
    spec: ModelSpec,
    engine: DeviceEngineName,
    selection: Selection | None,
    key: Path | None,
    batch: int | None = None,
) -> DeviceDetector[Any]:
    """Load an ONNX file on the GPU; TensorRT's engine is built now where none in the cache fits this device.

    Args:
        path: of the ONNX file.
        spec: its ModelSpec.
        engine: what is to run it.
        selection: thresholds and limits.
        key: public key that cached engines must be signed with; what this user built is trusted where None.
        batch: pictures of a run, where the network takes any number; one where None.

    Raises:
        EngineError: if the engine cannot be built, or answers otherwise than ONNX Runtime does.
        UntrustedFileError: if the engine in the cache is not this user's.
        MissingDependencyError: if something that it needs is not installed.
    """
    from edgedet.runtime.cuda.device import Device

    _check_batch(spec, batch)
    device = Device()
    if engine == "onnxruntime-cuda":
        from edgedet.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine

        names = tuple(output.name for output in spec.outputs)
        return _detector(spec, OnnxRuntimeCudaEngine(path, device, names), selection, batch)
    from edgedet.engine_store.trust import Trust
    from edgedet.export.engine.cached import find_or_build
    from edgedet.export.engine.options import EngineOptions
    from edgedet.runtime.engines.tensorrt import TensorRTEngine

    options = EngineOptions(engine, batch=None if batch is None else (batch, batch))
    kept = find_or_build(path, options, device, Trust.from_environment(key))
    return _on_tensorrt(spec, TensorRTEngine(kept.engine, device), selection, batch)


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


def _check_batch(spec: ModelSpec, batch: int | None) -> None:
    if batch is not None and spec.input.batch is not None:
        raise SpecError(
            f"no batch for '{spec.name}', which takes {spec.input.batch} at once", str(batch), "Leave it out"
        )


def _on_tensorrt(
    spec: ModelSpec, engine: TensorRTEngine, selection: Selection | None, batch: int | None
) -> DeviceDetector[Any]:
    if batch is None and spec.input.batch is None:
        batch = engine.profile(engine.inputs[0].name)[0][0]
    return _detector(spec, engine, selection, batch)


def _detector(
    spec: ModelSpec, engine: DeviceEngine, selection: Selection | None, batch: int | None
) -> DeviceDetector[Any]:
    from edgedet.runtime.gpu.detector import DeviceDetector

    detector: DeviceDetector[Any] = DeviceDetector(spec, engine, selection, batch=batch or 1)
    if detector.decodes_on == "host":
        _LOG.info("The outputs of head '%s' are decoded on the host", spec.head.name)
    return detector
