"""What all tests share: the folder of real models and pictures, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from cpu_torchvision import load_stand_ins

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Let torchvision load beside a CPU build of torch, and no test fail for being slow on a busy machine."""
    hypothesis.settings.register_profile("edgedet", deadline=None)
    hypothesis.settings.load_profile("edgedet")
    if config.cache is not None:
        load_stand_ins(config.cache.mkdir("cpu_torchvision"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real models and labelled pictures that are not part of the project; the test is skipped where they are absent."""
    folder = Path(os.environ.get("EDGEDET_SHARED", ROOT.parent / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip("needs the folder of real models (set EDGEDET_SHARED)")
    return folder
