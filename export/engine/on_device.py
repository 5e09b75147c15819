"""Runs a new engine on the GPU that is here and holds it against ONNX Runtime, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.engine_store.trust import VerifiedEngine
from edgedet.export.engine.build import Check
from edgedet.export.engine.parity import compare_engines, parity_pictures
from edgedet.export.onnx_file import load_onnx
from edgedet.export.quantisation.judge import target_engine
from edgedet.model_spec import ModelSpec
from edgedet.runtime.engines.tensorrt import TensorRTEngine

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["check_on_device"]


def check_on_device(model: Path, device: Device, pictures: Path | None = None) -> Check:
    """Return the check of an engine that was built for this device.

    Args:
        model: the ONNX file that it was built from.
        device: the GPU.
        pictures: folder of pictures to compare on; the package's own where None.
    """

    def check(engine: VerifiedEngine) -> Mapping[str, Any]:
        if engine.manifest.spec is None:
            return {}
        spec = ModelSpec.from_json(dict(engine.manifest.spec))
        reference = target_engine(spec, load_onnx(model))
        candidate = TensorRTEngine(engine, device)
        try:
            parity = compare_engines(spec, reference, candidate, parity_pictures(pictures))
        finally:
            candidate.close()
            reference.close()
        parity.check(str(model))
        return {"parity": parity.to_json()}

    return check
