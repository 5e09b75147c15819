"""The tests of this folder once more, on kernels built with AddressSanitizer and UndefinedBehaviorSanitizer.

Sanitizers must be loaded before Python is, hence the second process. A read or write outside of an array, a shift or a
conversion that C++ does not define ends it with a report, which is what fails here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from host_kernels import SANITIZE, compiler

HERE = Path(__file__).resolve().parent
RUNTIMES = ("libasan.so", "libubsan.so")


def runtime_libraries() -> list[str]:
    """Paths of the sanitizers' libraries; those that the compiler lacks it prints as bare names."""
    chosen = compiler()
    if chosen is None:
        pytest.skip("needs a C++ compiler (apt install g++)")
    asked = [
        subprocess.run([chosen, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in RUNTIMES
    ]
    paths = [done.stdout.strip() for done in asked]
    if not all(Path(path).is_absolute() for path in paths):
        pytest.skip(f"needs {' and '.join(RUNTIMES)} beside {chosen} (apt install libasan8 libubsan1, or g++)")
    return paths


def sanitized(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run Python in a process with the sanitizers in it."""
    environment = {
        **os.environ,
        SANITIZE: "1",
        "LD_PRELOAD": " ".join(runtime_libraries()),
        # Python frees little at its end, which is not what is looked for.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=HERE
    )


BUILD = """
import sys
from pathlib import Path
from host_kernels import build
kernels = build(Path(sys.argv[1]))
"""
WHOLE_NETWORKS = ("test_decode_real_outputs.py", "test_decode_examples.py")
"""Left out: they run networks, which takes longest here, and the kernels that they then run have tests of their own."""


def with_support(program: str) -> str:
    return f"import sys; sys.path.insert(0, {str(HERE.parents[2] / 'support')!r})\n{program}"


@pytest.mark.skipif(bool(os.environ.get(SANITIZE)), reason="runs in a process with sanitizers already")
def test_kernels_under_sanitizers(pytestconfig):
    assert pytestconfig.cache is not None
    built = pytestconfig.cache.mkdir("host_kernels")
    done = sanitized(["-c", with_support(BUILD), str(built)])
    assert done.returncode == 0, done.stderr[-6000:]
    files = [path for path in sorted(HERE.glob("test_*.py")) if path.name not in (Path(__file__).name, *WHOLE_NETWORKS)]

    def run(part: int) -> subprocess.CompletedProcess[str]:
        mine = [str(path) for path in files[part::2]]
        return sanitized(["-m", "pytest", "-q", "-x", "-o", f"cache_dir={built.parents[1]}", *mine])

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(run, range(2)):
            report = done.stdout[-6000:] + done.stderr[-6000:]
            assert done.returncode == 0, report
            assert "ERROR: AddressSanitizer" not in report and "runtime error:" not in report, report


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from host_kernels import build
from kernel_launches import InOrder, garbage
from edgedet.model_spec import InputSpec
from edgedet.runtime.kernels.preprocess import PICTURE, DevicePicture, PreprocessStage
from edgedet.runtime.pixel_formats import PictureFormat
kernels = build(Path(sys.argv[1]))
memory = [np.full(int(sys.argv[2]), 255, np.uint8), np.full(50, 255, np.uint8)]
source = DevicePicture(PictureFormat("NV12", 10, 10), tuple(plane.ctypes.data for plane in memory), (10, 10))
stage = PreprocessStage(InputSpec(10, 10), 1, garbage)
table = stage.table([source])[0]
table.view(PICTURE)["weights"][0, 0] *= int(sys.argv[3])
stage.pictures[:] = table
stage.launch(InOrder(kernels, 0), garbage((1, 3, 10, 10), np.float32))
print("done")
"""


@pytest.mark.parametrize(
    ("size", "factor", "found"),
    [
        (100, 1, None),
        (99, 1, "heap-buffer-overflow"),
        (100, 1000, "signed integer overflow"),
    ],
)
def test_sanitizers_find_faults(pytestconfig, size, factor, found):
    """A byte too few in a plane and a weight that overflows are reported: a green run above means something."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("host_kernels")
    done = sanitized(["-c", with_support(PROGRAM), str(folder), str(size), str(factor)])
    if found is None:
        assert done.stdout.strip() == "done", done.stderr[-3000:]
    else:
        assert found in done.stderr and "preprocess" in done.stderr
