"""Runs the tests of this folder in the Python that runs this file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    here = Path(__file__).parent
    project = ["-c", str(here.parents[1] / "pyproject.toml")]
    of_gi = ["-W", "ignore:DynamicImporter:ImportWarning"]
    sys.exit(pytest.main([*project, *of_gi, str(here), *sys.argv[1:]]))
