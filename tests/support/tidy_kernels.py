"""Runs clang-tidy over the CUDA kernels, once as code of the device and once as code of the host (see .clang-tidy).

Neither a GPU nor NVIDIA's toolkit is needed: what the kernels use of CUDA is declared in cuda_on_clang/. The paths that
clang's static analyzer follows take most of the time; it follows them on the device's side only, where the code is the
same but for a few lines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "runtime" / "kernels"
DECLARATIONS = Path(__file__).resolve().parent / "cuda_on_clang" / "declarations.cuh"

_COMPILE = (
    "-xcuda", "-nocudainc", "-nocudalib", "--cuda-gpu-arch=sm_75", "-Xclang", "-std=c++17", "-D__CUDACC__",
    f"-include{DECLARATIONS}",
)  # fmt: skip


def tidy(program: str, source: Path, side: str, *, analyse: bool) -> str | None:
    """Return what clang-tidy finds in a file as code of a side ("host" or "device"), or None."""
    command = [program, "--quiet", str(source)]
    if not analyse:
        command.append("--checks=-clang-analyzer-*")
    done = subprocess.run(
        [*command, "--", f"--cuda-{side}-only", *_COMPILE], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return None if done.returncode == 0 else done.stdout + done.stderr


def main() -> int:
    """Check all kernels, or those that are named; return 1 where something is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, help="kernels to check (default: all)")
    parser.add_argument("--program", default="clang-tidy", help="path of clang-tidy")
    parser.add_argument("--quick", action="store_true", help="without the static analyzer: seconds, not minutes")
    arguments = parser.parse_args()
    sources = [source.resolve() for source in arguments.sources] or sorted(KERNELS.glob("*.cu"))
    tasks = [(source, side) for source in sources for side in ("device", "host")]

    def check(task: tuple[Path, str]) -> str | None:
        source, side = task
        return tidy(arguments.program, source, side, analyse=side == "device" and not arguments.quick)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [report for report in pool.map(check, tasks) if report is not None]
    for report in found:
        sys.stdout.write(report)
    sys.stdout.write(
        f"{len(sources)} kernels checked as code of the device and of the host, {len(found)} with findings\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
