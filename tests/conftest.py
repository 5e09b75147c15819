"""What all tests share: the folder of real models and pictures, where there is one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cpu_torchvision import load_stand_ins

ROOT = Path(__file__).resolve().parents[1]


OFFLINE = {"YOLO_OFFLINE": "True", "YOLO_AUTOINSTALL": "False", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Keeps the packages that tests compare with off the network and from installing others."""


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what is the same for all tests: packages that stay offline, signals, torchvision, no deadlines."""
    os.environ.update(OFFLINE)
    # Shells start background jobs with SIGINT ignored, which programs inherit: tests that send one would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("edgedet", deadline=None)
    hypothesis.settings.load_profile("edgedet")
    if config.cache is not None:
        os.environ.setdefault("YOLO_CONFIG_DIR", str(config.cache.mkdir("ultralytics")))
        os.environ.setdefault("MPLCONFIGDIR", str(config.cache.mkdir("matplotlib")))
        load_stand_ins(config.cache.mkdir("cpu_torchvision"))


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what programs keep for the user; the real one is left alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


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
