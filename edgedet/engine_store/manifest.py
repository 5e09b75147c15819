"""EngineManifest: what an engine was built from, by and for, as a JSON file beside the plan (``model.engine.json``).

The engine itself is a plain TensorRT plan that trtexec and others load. The file beside it holds the manifest and its
seals: an Ed25519 signature, and a code that only the user who built it can make (see `trust.py`). Both are made of the
manifest's canonical form, JSON in UTF-8 with sorted keys and without white space; it names the plan by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgedet.errors import EngineError, SpecError
from edgedet.schema import from_json, to_json
from edgedet.target import Target

__all__ = [
    "FLAVOURS",
    "FORMAT",
    "EngineManifest",
    "Flavour",
    "Seals",
    "Signature",
    "read_sidecar",
    "sha256",
    "sidecar_of",
    "sidecar_text",
]

Flavour = Literal["tensorrt", "rtx"]

FLAVOURS: Mapping[Flavour, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
"""Flavour -> its name in words."""

FORMAT = 1

_LARGEST = 64 << 20
"""Bytes of a manifest at most; a spec with its anchors takes a few hundred kilobytes."""


@dataclass(frozen=True)
class EngineManifest:
    """What an engine was built from, by and for.

    Attributes:
        flavour: ``tensorrt`` or ``rtx`` (TensorRT-RTX).
        version: of TensorRT's Python module that built it.
        target: the device that it was built for.
        plan_sha256: of the plan, in hexadecimal.
        plan_bytes: its size.
        source: name of the ONNX file.
        source_sha256: of that file.
        built: when, in UTC (ISO 8601).
        spec: the ModelSpec as JSON; None where the ONNX file has none.
        options: of the builder, as JSON.
        report: what the builder told of layers and precisions, and what was measured, as JSON.
        format: of this file.
    """

    flavour: Flavour
    version: str
    target: Target
    plan_sha256: str
    plan_bytes: int
    source: str
    source_sha256: str
    built: str
    spec: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def canonical(self) -> bytes:
        """Return the bytes that are signed."""
        text = json.dumps(to_json(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()


@dataclass(frozen=True)
class Signature:
    """An Ed25519 signature of a manifest: fingerprint of the public key, and the 64 bytes as hexadecimal."""

    key: str
    value: str


@dataclass(frozen=True)
class Seals:
    """What vouches for a manifest: a signature, and the code of the user who built it; empty where there is none."""

    signature: Signature | None = None
    own: str = ""


@dataclass(frozen=True)
class _Sidecar:
    manifest: Mapping[str, Any]
    seals: Seals


def sidecar_of(engine: Path) -> Path:
    """Return where the manifest of an engine file is kept."""
    return engine.with_name(f"{engine.name}.json")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sidecar_text(manifest: EngineManifest, seals: Seals) -> str:
    """Return the file beside the plan."""
    return json.dumps({"manifest": to_json(manifest), "seals": to_json(seals)}, indent=1, ensure_ascii=False) + "\n"


def read_sidecar(engine: Path) -> tuple[EngineManifest, Seals]:
    """Read the manifest of an engine file and its seals; neither is verified.

    Raises:
        EngineError: if there is none, or it is not one.
    """
    path = sidecar_of(engine)
    try:
        if path.stat().st_size > _LARGEST:
            raise _broken(path, f"{path.stat().st_size} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineError(
            f"the engine's manifest, '{path}'",
            "no such file",
            "Copy it from where the engine was built, or build the engine here with: edgedet build MODEL.onnx",
        ) from error
    except OSError as error:
        raise EngineError(f"to read '{path}'", error.strerror or str(error), "Check its permissions") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _broken(path, str(error)) from error
    try:
        sidecar = from_json(_Sidecar, document, "the sidecar")
        found = sidecar.manifest.get("format")
        if found != FORMAT:
            raise _broken(path, f"format {found!r}")
        return from_json(EngineManifest, sidecar.manifest, "manifest"), sidecar.seals
    except SpecError as error:
        raise _broken(path, f"{error.expected}: {error.got}") from error


def _broken(path: Path, why: str) -> EngineError:
    return EngineError(
        f"an engine's manifest of format {FORMAT} in '{path}'",
        why,
        "Build the engine again with: edgedet build MODEL.onnx",
    )
