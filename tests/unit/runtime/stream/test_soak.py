"""A few minutes of benchmarks/soak.py, which runs an hour: the same faults, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_nothing_leaks_and_nothing_is_lost_whatever_fails(root: Path, tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [sys.executable, "benchmarks/soak.py", "--frames", "20000", "--warm-up", "10000", "--json", str(report)]

    run = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert report.exists(), run.stderr
    figures = json.loads(report.read_text())
    assert run.returncode == 0 and all(figures["fine"].values()), figures
    assert figures["results"] > 19_000
    injected = figures["injected"]
    for fault in ("deaths", "openings that failed", "damaged frames", "exceptions in on_event", "sinks that failed"):
        assert injected[fault] > 5, fault
    assert figures["restarts"] > 5
