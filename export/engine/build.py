"""From an ONNX file to an engine file with its manifest: build, read back what the builder made of it, seal, write."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import DecodeError

from edgedet.engine_store.manifest import EngineManifest, sha256
from edgedet.engine_store.trust import Trust, VerifiedEngine, write_engine
from edgedet.errors import ModelFileError
from edgedet.export.engine.layers import LayerPrecision, LayerSummary, summarise_layers
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import BuiltEngine, OnProgress, build_engine
from edgedet.export.onnx_file import load_onnx
from edgedet.model_spec import ModelSpec
from edgedet.target import Target

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "BuildReport",
    "Check",
    "build_file",
    "options_record",
    "source_sha256",
]


Check = Callable[[VerifiedEngine], Mapping[str, Any]]
"""Looks at an engine that was just built, and refuses it or returns what it found, as JSON."""


@dataclass(frozen=True, eq=False)
class BuildReport:
    """An engine that was built.

    Attributes:
        path: where it is.
        manifest: what stands beside it.
        layers: what the builder made of the network; None where this flavour does not tell.
        listing: each kernel.
        warnings: what parser and builder warned of.
        seconds: that the builder took.
    """

    path: Path
    manifest: EngineManifest
    layers: LayerSummary | None
    listing: tuple[LayerPrecision, ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "path": str(self.path),
            "bytes": self.manifest.plan_bytes,
            "sha256": self.manifest.plan_sha256,
            "flavour": self.manifest.flavour,
            "version": self.manifest.version,
            "target": str(self.manifest.target),
            "seconds": round(self.seconds, 3),
            "layers": None if self.layers is None else self.layers.to_json(),
            "parity": self.manifest.report.get("parity"),
            "speed": self.manifest.report.get("speed"),
            "warnings": list(self.warnings),
        }


def build_file(
    model: Path,
    engine: Path,
    options: EngineOptions,
    target: Target,
    *,
    trust: Trust,
    key: Ed25519PrivateKey | None = None,
    check: Check | None = None,
    on_progress: OnProgress | None = None,
) -> BuildReport:
    """Build the engine of an ONNX file and write it with its manifest.

    Args:
        model: the ONNX file.
        engine: where the engine goes.
        options: how to build.
        target: the device that is built for.
        trust: whose secret seals the engine as this user's.
        key: what to sign it with, if anything.
        check: runs the engine before it is written; what it returns goes into the manifest's report.
        on_progress: told about the builder's phases.

    Raises:
        EngineError: if parser or builder refused the network, or crashed, or what `check` raises.
        MissingDependencyError: if the flavour is not installed.
        ModelFileError: if the file is not ONNX.
        SinkError: if the engine cannot be written.
    """
    source = source_sha256(model)
    built = build_engine(model, options, on_progress)
    layers = summarise_layers(built.layers) if built.layers else None
    manifest = EngineManifest(
        flavour=options.flavour,
        version=built.version,
        target=target,
        plan_sha256=sha256(built.plan),
        plan_bytes=len(built.plan),
        source=model.name,
        source_sha256=source,
        built=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        spec=_spec(model),
        options=options_record(options),
        report=_record(built, layers),
    )
    if check is not None:
        found = check(VerifiedEngine(built.plan, manifest))
        manifest = replace(manifest, report={**manifest.report, **found})
    write_engine(engine, built.plan, manifest, trust, key)
    return BuildReport(engine, manifest, layers, built.layers, built.warnings, built.seconds)


def source_sha256(model: Path) -> str:
    """Return the SHA-256 of an ONNX file, and of the files with its weights where those are beside it.

    Raises:
        ModelFileError: if one of them cannot be read.
    """
    data = _bytes_of(model)
    try:
        tensors = onnx.load_model_from_string(data).graph.initializer
    except DecodeError as error:
        raise ModelFileError("an ONNX file", f"'{model}', which cannot be parsed", "Export or copy it again") from error
    places = {
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    whole = hashlib.sha256(data)
    for place in sorted(places):
        whole.update(_bytes_of(model.parent / place))
    return whole.hexdigest()


def options_record(options: EngineOptions) -> dict[str, Any]:
    """Return the options that an engine depends on; where times of kernels are kept is not one of them."""
    return {
        "targets": list(options.targets),
        "batch": None if options.batch is None else list(options.batch),
        "optimization_level": options.optimization_level,
        "workspace": options.workspace,
        "version_compatible": options.version_compatible,
        "hardware_compatible": options.hardware_compatible,
        "dla": options.dla,
    }


def _record(built: BuiltEngine, layers: LayerSummary | None) -> Mapping[str, Any]:
    return {
        "seconds": round(built.seconds, 3),
        "workspace": built.workspace,
        "layers": None if layers is None else layers.to_json(),
        "warnings": list(built.warnings),
    }


def _spec(model: Path) -> dict[str, Any] | None:
    entries = load_onnx(model).metadata_props
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in entries})
    return None if spec is None else spec.to_json()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError("an ONNX file", f"'{path}' ({error.strerror})", "Correct the path") from error
