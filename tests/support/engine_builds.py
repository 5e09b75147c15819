"""Networks through TensorRT-RTX's own parser and builder, which need neither GPU nor driver."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgedet.errors import MissingDependencyError
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import BuiltEngine, build_engine, parse_network
from edgedet.export.rewrite import hide_initializers, run_passes
from edgedet.runtime.engines.tensorrt_module import find_module

__all__ = ["LIMITS", "TARGET", "build_or_limit", "is_there", "needs_rtx", "write_rewritten"]

TARGET = "sm_86"

LIMITS: dict[str, set[str]] = {
    # torchvision's own two-stage detectors select boxes by lists of places, as many as there are. Behind those wait
    # RoiAlign, whose plugin asks for an NVIDIA driver, and NonMaxSuppression, which RTX has no kernel for.
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"NonZero"},
    "maskrcnn_resnet50_fpn": {"NonZero"},
}
"""Networks that RTX refuses, and every operator that its parser names; all others are built."""


def is_there() -> bool:
    """Tell whether TensorRT-RTX is installed."""
    try:
        find_module("rtx")
    except MissingDependencyError:
        return False
    return True


needs_rtx = pytest.mark.skipif(not is_there(), reason="needs TensorRT-RTX (the extra rtx, for x86-64 Linux)")


def build_or_limit(name: str, path: Path) -> BuiltEngine | None:
    """Build a network, or see it refused for the operators that stand in `LIMITS`, and for no other."""
    if name not in LIMITS:
        return build_engine(path, EngineOptions("rtx", (TARGET,)))
    assert {item.operator for item in parse_network(path, "rtx").refusals} == LIMITS[name]
    return None


def write_rewritten(model: onnx.ModelProto, path: Path) -> Path:
    """Write a traced network as the exporter would: with what TensorRT lacks rewritten."""
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    hide_initializers(rewritten)
    run_passes(rewritten)
    onnx.save(rewritten, path)
    return path
