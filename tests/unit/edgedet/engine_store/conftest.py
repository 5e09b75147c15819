"""A plan, its manifest, and a user's trust in temporary folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedet.engine_store.manifest import EngineManifest, sha256
from edgedet.engine_store.trust import Trust
from edgedet.target import Target

PLAN = bytes(range(256)) * 40
ORIN = Target(("sm_87",), "Orin", "540.4", "36.4.3", "6.2")


@pytest.fixture
def plan() -> bytes:
    """Bytes that stand for a plan: what is in them is never looked at here."""
    return PLAN


@pytest.fixture
def make_manifest() -> Callable[..., EngineManifest]:
    """Make the manifest of a plan."""

    def make(plan: bytes = PLAN, **changes: object) -> EngineManifest:
        facts: dict[str, object] = {
            "flavour": "tensorrt",
            "version": "10.3.0",
            "target": ORIN,
            "plan_sha256": sha256(plan),
            "plan_bytes": len(plan),
            "source": "modèle.onnx",
            "source_sha256": sha256(b"onnx"),
            "built": "2026-11-23T08:00:00Z",
            "options": {"optimization_level": 3},
            **changes,
        }
        return EngineManifest(**facts)  # type: ignore[arg-type]  # the fields are named above

    return make


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trust:
    """Trust of a user whose secret is in a temporary folder."""
    monkeypatch.delenv("EDGEDET_ENGINE_KEY", raising=False)
    os.umask(0o022)
    return Trust(state=tmp_path / "state")
