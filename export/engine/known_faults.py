"""Combinations of version, device and network that are known to go wrong, told before an hour is lost on them.

Versions are compared here and nowhere else: a fault belongs to the versions that have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import onnx
from packaging.specifiers import SpecifierSet

from edgedet.engine_store.manifest import Flavour
from edgedet.target import Target

__all__ = ["FAULTS", "KnownFault", "find_faults", "installed_version"]

Concerns = Callable[[onnx.ModelProto], bool]


@dataclass(frozen=True)
class KnownFault:
    """A fault of some versions.

    Attributes:
        flavour: whose.
        versions: that have it, as pip writes them.
        capabilities: compute capabilities on which it was seen; any where empty.
        concerns: tells whether a network may meet it.
        what: happens then.
        action: what to do.
        source: where it is described.
    """

    flavour: Flavour
    versions: str
    capabilities: tuple[str, ...]
    concerns: Concerns
    what: str
    action: str
    source: str


def _operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def _int8_with_top_k(model: onnx.ModelProto) -> bool:
    return {"QuantizeLinear", "TopK"} <= _operators(model)


def _deformable_attention(model: onnx.ModelProto) -> bool:
    return "GridSample" in _operators(model)


FAULTS: tuple[KnownFault, ...] = (
    KnownFault(
        flavour="tensorrt",
        versions="==10.3.*",
        capabilities=(),
        concerns=_int8_with_top_k,
        what="the builder crashes on INT8 networks that choose their best boxes themselves (YOLO26)",
        action="Export the raw head (without --keep-nms), or update to JetPack 7.2",
        source="measured on YOLO26 in INT8 with its end-to-end head",
    ),
    KnownFault(
        flavour="tensorrt",
        versions="==10.13.*",
        capabilities=("sm_110",),
        concerns=_deformable_attention,
        what="RT-DETR's engines answer with wrong boxes on AGX Thor",
        action="Look at the comparison with ONNX Runtime after the build, or update to JetPack 7.2",
        source="github.com/ultralytics/ultralytics/issues/22873",
    ),
)


def find_faults(model: onnx.ModelProto, flavour: Flavour, version: str, target: Target) -> tuple[KnownFault, ...]:
    """Return the faults that a build may meet.

    Args:
        model: the network.
        flavour: whose builder.
        version: of it.
        target: the device that is built for.
    """
    return tuple(
        fault
        for fault in FAULTS
        if fault.flavour == flavour
        and SpecifierSet(fault.versions).contains(version, prereleases=True)
        and (not fault.capabilities or set(fault.capabilities) & set(target.compute_capabilities))
        and fault.concerns(model)
    )


def installed_version(flavour: Flavour) -> str | None:
    """Return the version of a flavour that is installed, without importing it; None where nothing tells."""
    for name in {"tensorrt": ("tensorrt",), "rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings")}[flavour]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
