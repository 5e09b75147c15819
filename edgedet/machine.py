"""The hardware as the kernel and the drivers describe it in files: CPU, Jetson, NVIDIA driver, TensorRT, cameras.

Every function takes the folder that stands for ``/``, so that the tests can lay out a Jetson.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Camera",
    "Cpu",
    "Jetson",
    "Nvidia",
    "SystemTensorRT",
    "cameras",
    "cpu",
    "jetson",
    "nvidia",
    "system_tensorrt",
]

# Instruction sets that inference engines choose kernels by: x86 names first, then aarch64's.
INSTRUCTION_SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Cpu:
    """Model name, cores that this process may use, RAM in bytes, and the instruction sets that matter for inference."""

    model: str
    cores: int
    memory: int | None
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True)
class Jetson:
    """Board name, L4T release (``36.4.3``) and JetPack version where its package is installed."""

    model: str
    l4t: str
    jetpack: str | None


@dataclass(frozen=True)
class Nvidia:
    """Driver version, GPUs, the driver's user-space library and the CUDA toolkit; None for what is absent."""

    driver: str | None
    gpus: tuple[str, ...]
    libcuda: str | None
    toolkit: str | None
    toolkit_path: str | None


@dataclass(frozen=True)
class SystemTensorRT:
    """A TensorRT module among the system's packages; ``python`` is the version that it is for, or ``any``."""

    version: str
    python: str
    path: str


@dataclass(frozen=True)
class Camera:
    """A V4L2 device node, the name its driver gives, and whether this user may read it."""

    device: str
    name: str
    readable: bool


def cpu(root: Path) -> Cpu:
    """Read /proc/cpuinfo and /proc/meminfo."""
    text = _read(root / "proc/cpuinfo")
    fields = dict(re.findall(r"^([^\t:]+?)\s*:[ ]?(.*)$", text, re.MULTILINE))
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    model = fields.get("model name") or fields.get("Hardware") or platform.processor() or platform.machine()
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return Cpu(
        model=model,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=int(memory[1]) * 1024 if memory else None,
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
    )


def jetson(root: Path) -> Jetson | None:
    """Read /etc/nv_tegra_release ("# R36 (release), REVISION: 4.3, ..."); None on any other machine."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    if release is None:
        return None
    model = _read(root / "proc/device-tree/model").rstrip("\0\n") or "an NVIDIA Jetson"
    return Jetson(model, f"{release[1]}.{release[2]}", _debian_version(root, "nvidia-jetpack"))


def nvidia(root: Path) -> Nvidia:
    """Read the driver's /proc files, look for libcuda and for a CUDA toolkit; load neither."""
    driver = re.search(r"Kernel Module\D*?(?:for \S+)?\s+(\d+\.[\d.]+)", _read(root / "proc/driver/nvidia/version"))
    information = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    models = (re.search(r"^Model:\s*(.+)$", _read(path), re.MULTILINE) for path in information)
    toolkit = next(_toolkits(root), (None, None))
    return Nvidia(
        driver=driver[1] if driver else None,
        gpus=tuple(match[1].strip() for match in models if match),
        libcuda=_libcuda(root),
        toolkit=toolkit[0],
        toolkit_path=toolkit[1],
    )


def system_tensorrt(root: Path) -> tuple[SystemTensorRT, ...]:
    """Find TensorRT modules that belong to the system (JetPack's apt packages), newest first."""
    found = []
    for folder in sorted((root / "usr/lib").glob("python3*/dist-packages"), reverse=True):
        if not (folder / "tensorrt").is_dir():
            continue
        version = next(
            (_version_of(path) for path in sorted(folder.glob("tensorrt-*.*-info"), reverse=True)), "unknown"
        )
        # Debian's folder for every Python 3 is plain "python3"; the compiled module's suffix then names the version.
        python = folder.parent.name.removeprefix("python")
        suffix = next((folder / "tensorrt").glob("*.cpython-3*.so"), None)
        if suffix is not None and (match := re.search(r"cpython-3(\d+)", suffix.name)):
            python = f"3.{match[1]}"
        found.append(SystemTensorRT(version, python if "." in python else "any", str(folder / "tensorrt")))
    return tuple(found)


def cameras(root: Path) -> tuple[Camera, ...]:
    """List the V4L2 nodes in the order of their numbers (a camera may have several: pictures, metadata)."""
    nodes = sorted((root / "dev").glob("video*"), key=lambda node: (len(node.name), node.name))
    return tuple(
        Camera(
            device=f"/dev/{node.name}",
            name=_read(root / "sys/class/video4linux" / node.name / "name").strip() or "unknown",
            readable=os.access(node, os.R_OK | os.W_OK),
        )
        for node in nodes
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _debian_version(root: Path, package: str) -> str | None:
    status = _read(root / "var/lib/dpkg/status")
    entry = re.search(rf"^Package: {re.escape(package)}\n(?:.+\n)*?Version: (\S+)", status, re.MULTILINE)
    return entry[1] if entry else None


def _libcuda(root: Path) -> str | None:
    places = (
        "usr/lib/*-linux-gnu",
        "usr/lib/*-linux-gnu/tegra",
        "usr/lib/*-linux-gnu/nvidia",
        "usr/lib/wsl/lib",
        "usr/lib64",
    )
    for place in places:
        for path in sorted(root.glob(f"{place}/libcuda.so.1")):
            return str(path)
    return ctypes.util.find_library("cuda") if root == Path("/") else None


def _toolkits(root: Path) -> Iterator[tuple[str, str]]:
    compiler = shutil.which("nvcc") if root == Path("/") else None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") if root == Path("/") else None
    folders = [Path(home)] if home else []
    folders += [Path(compiler).resolve().parents[1]] if compiler else []
    folders += [root / "usr/local/cuda", *sorted((root / "usr/local").glob("cuda-*"), reverse=True)]
    for folder in folders:
        version = _toolkit_version(folder)
        if version is not None:
            yield version, str(folder)


def _toolkit_version(folder: Path) -> str | None:
    try:
        version = json.loads(_read(folder / "version.json"))["cuda"]["version"]
        return str(version)
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    define = re.search(r"#define CUDA_VERSION (\d+)", _read(folder / "include/cuda.h"))
    return f"{int(define[1]) // 1000}.{int(define[1]) % 1000 // 10}" if define else None


def _version_of(info: Path) -> str:
    return info.name.removeprefix("tensorrt-").removesuffix(".dist-info").removesuffix(".egg-info").partition("-py")[0]
