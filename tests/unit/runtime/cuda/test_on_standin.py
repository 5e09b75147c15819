"""Runs on_standin/ beside the stand-in for libcuda, once with each provider, unmodified as pip installs it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import standin_driver
from host_kernels import HostKernels

TESTS = Path(__file__).resolve().parent / "on_standin"
PACKAGES = {
    "cuda-bindings": ("cuda", "needs cuda-bindings: pip install 'edgedet[cuda]'"),
    "pycuda": ("pycuda", "needs pycuda, which is built with nvcc: pip install 'edgedet[pycuda]'"),
}


@pytest.mark.parametrize("provider", PACKAGES)
def test_the_host_path(provider: str, standin: Path, host_kernels: HostKernels, tmp_path: Path):
    package, reason = PACKAGES[provider]
    if importlib.util.find_spec(package) is None:
        pytest.skip(reason)
    environment = standin_driver.environment(standin, host_kernels, report=str(tmp_path / "report.json"))
    environment |= {standin_driver.PROVIDER: provider, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "pytest", "-rs", "-o", f"cache_dir={tmp_path / 'pytest'}", str(TESTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 60, done.stdout
