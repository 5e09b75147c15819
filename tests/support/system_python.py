"""The system's Python, which sees packages of the system that no virtual environment does, with ours beside them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

__all__ = ["SYSTEM_PYTHON", "has_same_python", "run_in_system_python"]

SYSTEM_PYTHON = "/usr/bin/python3"

# Packages of this environment first, then what .pth files in it add (an editable install).
_BESIDE = """
import json, site, sys
folders, program = json.loads(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
sys.path[:0] = folders
for folder in folders:
    site.addsitedir(folder)
exec(compile(open(program).read(), program, "exec"), {"__name__": "__main__", "__file__": program})
"""


@functools.cache
def has_same_python() -> bool:
    """Whether it is of this version, so that compiled packages of this environment run there."""
    ask = "import sys; print(sys.implementation.cache_tag)"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return done.stdout.strip() == sys.implementation.cache_tag


def run_in_system_python(program: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program there with the packages that this process has; `has_same_python` says whether that works."""
    folders = [each for each in sys.path if each.endswith("site-packages")]
    folders.append(str(Path(__file__).parent))
    command = [SYSTEM_PYTHON, "-c", _BESIDE, json.dumps(folders), str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
