"""Runs tests/gstreamer where GStreamer is: in the system's Python, with the packages of this one."""

from __future__ import annotations

from pathlib import Path

import pytest
from system_gstreamer import needs_gstreamer_here
from system_python import run_in_system_python

from edgedet.errors import MissingDependencyError
from edgedet.optional import is_installed
from edgedet.runtime.capture import open_source

FOLDER = Path(__file__).parents[3] / "gstreamer"


@needs_gstreamer_here
@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_*.py")))
def test_in_the_systems_python(tmp_path: Path, file):
    answer = run_in_system_python(
        FOLDER / "run.py", "-k", file, "--color=no", "-o", f"cache_dir={tmp_path}", f"--basetemp={tmp_path / 'files'}"
    )
    assert answer.returncode == 0 and " passed" in answer.stdout, answer.stdout + answer.stderr
    assert "skipped" not in answer.stdout


@pytest.mark.skipif(is_installed("gi"), reason="PyGObject is installed here")
def test_without_pygobject_it_is_said_how_to_get_it():
    with pytest.raises(MissingDependencyError, match=r"python3-gi .*edgedet\[gstreamer\]"):
        open_source("gst:videotestsrc ! appsink")
