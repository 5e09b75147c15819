"""Runs a new engine on the GPU that is here and holds it against ONNX Runtime, and others, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.engine_store.trust import VerifiedEngine
from edgedet.export.engine.build import Check
from edgedet.export.engine.parity import compare_engines, parity_pictures
from edgedet.export.engine.process import OnProgress
from edgedet.export.engine.timing import Clock, compare_speed, time_on_stream
from edgedet.export.onnx_file import load_onnx
from edgedet.export.quantisation.judge import target_engine
from edgedet.model_spec import ModelSpec
from edgedet.runtime.engines.tensorrt import TensorRTEngine

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["check_on_device"]


def check_on_device(
    model: Path,
    device: Device,
    pictures: Path | None = None,
    *,
    against: VerifiedEngine | None = None,
    clock: Clock = time_on_stream,
    on_progress: OnProgress | None = None,
) -> Check:
    """Return the check of an engine that was built for this device.

    Args:
        model: the ONNX file that it was built from.
        device: the GPU.
        pictures: folder of pictures to compare on; the package's own where None.
        against: engine of the same model in another precision, to time it against; none where None.
        clock: takes the time.
        on_progress: told how far the timing is.
    """

    def check(engine: VerifiedEngine) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        candidate = TensorRTEngine(engine, device)
        try:
            if engine.manifest.spec is not None:
                found["parity"] = _parity(ModelSpec.from_json(dict(engine.manifest.spec)), candidate)
            if against is not None:
                found["speed"] = _speed(candidate, against)
        finally:
            candidate.close()
        return found

    def _parity(spec: ModelSpec, candidate: TensorRTEngine) -> Mapping[str, Any]:
        reference = target_engine(spec, load_onnx(model))
        try:
            parity = compare_engines(spec, reference, candidate, parity_pictures(pictures))
        finally:
            reference.close()
        parity.check(str(model))
        return parity.to_json()

    def _speed(candidate: TensorRTEngine, against: VerifiedEngine) -> Mapping[str, Any]:
        other = TensorRTEngine(against, device)
        try:
            return compare_speed(candidate, other, clock=clock, on_progress=on_progress).to_json()
        finally:
            other.close()

    return check
