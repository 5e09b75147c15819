"""What this machine has, for ``edgedet doctor``: facts read from files and package metadata, then what is missing.

Nothing heavy is imported to find a version, and CUDA is never initialised: the driver's files tell of a GPU.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from edgedet.machine import Camera, Cpu, Jetson, Nvidia, SystemTensorRT, cameras, cpu, jetson, nvidia, system_tensorrt

__all__ = [
    "EXTRAS",
    "Advice",
    "Diagnosis",
    "Extra",
    "OnnxRuntime",
    "Package",
    "PythonFacts",
    "TensorRT",
    "advise",
    "diagnose",
    "extras",
    "required_packages",
]

EXTRAS: Mapping[str, str] = {
    "torch": "export of TorchScript, torch.export and PyTorch checkpoints",
    "ultralytics": "export of Ultralytics checkpoints",
    "torchvision": "export of torchvision detectors",
    "transformers": "export of transformers detectors (DETR, RT-DETR, D-FINE)",
    "rfdetr": "export of RF-DETR checkpoints",
    "yolox": "export of YOLOX checkpoints",
    "eval": "edgedet eval",
    "proposals": "R-CNN and Fast R-CNN, for the regions that their networks look at",
    "report": "edgedet export --html",
    "cuda": "running on an NVIDIA GPU, through cuda-bindings",
    "pycuda": "running on an NVIDIA GPU, through pycuda (built with nvcc)",
    "sign": "signed engines (edgedet keygen, build --sign, --key)",
    "network": "RTSP and HTTP streams",
    "gstreamer": "GStreamer pipelines as sources, and RTSP out (python3-gi of Debian and Ubuntu does so too)",
    "mqtt": "results published to an MQTT broker",
    "supervision": "conversion to and from supervision.Detections",
}
"""Extra of edgedet -> what a user gets from it (the extras for developers are left out)."""

# One module, several distributions that bring it: any of them will do.
ALTERNATIVES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless", "opencv"),
}


@dataclass(frozen=True)
class PythonFacts:
    """The interpreter: version, place, whether it is a virtual environment, whether it sees the system's packages."""

    version: str
    prefix: str
    virtual: bool
    system_site_packages: bool


@dataclass(frozen=True)
class Package:
    """A package that is wanted, and the version that is there (None where it is not installed)."""

    name: str
    wanted: str
    version: str | None
    fits: bool


@dataclass(frozen=True)
class Extra:
    """An extra of edgedet, what it is for, and the packages that it still lacks."""

    name: str
    purpose: str
    complete: bool
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime's execution providers, best first; ``error`` says why there are none."""

    providers: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class TensorRT:
    """TensorRT's Python module: the version that this Python imports, and the ones that belong to the system."""

    version: str | None
    system: tuple[SystemTensorRT, ...]


@dataclass(frozen=True)
class Advice:
    """Something that is missing: what for, and the command that adds it."""

    missing: str
    purpose: str
    command: str
    note: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that ``edgedet doctor`` found."""

    edgedet: str
    python: PythonFacts
    platform: str
    cpu: Cpu
    jetson: Jetson | None
    nvidia: Nvidia
    tensorrt: TensorRT
    onnxruntime: OnnxRuntime
    packages: tuple[Package, ...]
    extras: tuple[Extra, ...]
    cameras: tuple[Camera, ...]
    advice: tuple[Advice, ...]


def diagnose(root: Path = Path("/")) -> Diagnosis:
    """Look at this machine.

    Args:
        root: where the machine's files hang; another folder only in tests.
    """
    found = Diagnosis(
        edgedet=metadata.version("edgedet"),
        python=_python(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu(root),
        jetson=jetson(root),
        nvidia=nvidia(root),
        tensorrt=TensorRT(_installed("tensorrt"), system_tensorrt(root)),
        onnxruntime=_onnxruntime(),
        packages=required_packages(),
        extras=extras(),
        cameras=cameras(root),
        advice=(),
    )
    return Diagnosis(**{**vars(found), "advice": tuple(advise(found))})


def required_packages() -> tuple[Package, ...]:
    """Return what edgedet itself depends on."""
    return tuple(
        _package(item) for item in _requirements() if item.marker is None or item.marker.evaluate({"extra": ""})
    )


def extras() -> tuple[Extra, ...]:
    """Return the extras a user can install, with what each still lacks."""
    known = metadata.metadata("edgedet").get_all("Provides-Extra") or []
    return tuple(
        Extra(name, purpose, not (lacking := _lacking(name)), lacking)
        for name, purpose in EXTRAS.items()
        if name in known
    )


def advise(found: Diagnosis) -> Iterator[Advice]:
    """Yield what is missing, the weightiest first, each with the command that adds it."""
    for package in found.packages:
        if not package.fits:
            wanted = f"{package.name}{package.wanted}"
            yield Advice(wanted, "everything", f"pip install '{wanted}'", f"installed: {package.version or 'none'}")
    if found.onnxruntime.error:
        command = "pip install --force-reinstall onnxruntime"
        yield Advice("a working ONNX Runtime", "inference on the CPU", command, found.onnxruntime.error)
    if _has_gpu(found):
        yield from _advise_gpu(found)
    for camera in found.cameras:
        if not camera.readable:
            yield Advice(
                f"permission to read {camera.device}",
                "live cameras",
                'sudo usermod -aG video "$USER"',
                "then log in again",
            )
            break
    for extra in found.extras:
        if not extra.complete:
            yield Advice(", ".join(extra.lacking), extra.purpose, f"pip install 'edgedet[{extra.name}]'")


def _has_gpu(found: Diagnosis) -> bool:
    return found.jetson is not None or found.nvidia.driver is not None or found.nvidia.libcuda is not None


def _advise_gpu(found: Diagnosis) -> Iterator[Advice]:
    if found.nvidia.libcuda is None:
        command = "sudo apt install nvidia-jetpack" if found.jetson else "sudo ubuntu-drivers install"
        yield Advice("libcuda.so.1", "anything on the GPU", command, "the driver's user-space library")
    if "CUDAExecutionProvider" not in found.onnxruntime.providers and not found.jetson:
        command = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        yield Advice("CUDAExecutionProvider", "ONNX Runtime on the GPU", command)
    if found.tensorrt.version is None:
        yield _advise_tensorrt(found)


def _advise_tensorrt(found: Diagnosis) -> Advice:
    purpose = "TensorRT engines"
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    matching = [item for item in found.tensorrt.system if item.python in (running, "any")]
    if matching:
        note = f"TensorRT {matching[0].version} belongs to the system, in '{matching[0].path}'; install edgedet there"
        command = f"python{running} -m venv --system-site-packages .venv"
        return Advice("tensorrt in this Python", purpose, command, note)
    if found.tensorrt.system:
        other = found.tensorrt.system[0]
        note = f"the system's TensorRT {other.version} is for Python {other.python}; install edgedet there"
        command = f"python{other.python} -m venv --system-site-packages .venv"
        return Advice("tensorrt in this Python", purpose, command, note)
    if found.jetson:
        note = (
            "on a Jetson it comes with JetPack; then make the environment with python3 -m venv --system-site-packages"
        )
        return Advice("tensorrt", purpose, "sudo apt install nvidia-jetpack", note)
    return Advice("tensorrt", purpose, "pip install tensorrt")


def _python() -> PythonFacts:
    virtual = sys.prefix != sys.base_prefix
    return PythonFacts(platform.python_version(), sys.prefix, virtual, not virtual or _sees_system(Path(sys.prefix)))


def _sees_system(prefix: Path) -> bool:
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.replace(" ", "").lower() == "include-system-site-packages=true" for line in lines)


def _requirements() -> list[Requirement]:
    return [Requirement(text) for text in metadata.requires("edgedet") or ()]


def _lacking(extra: str) -> tuple[str, ...]:
    lacking: dict[str, None] = {}
    for item in _requirements():
        if item.marker is None or item.marker.evaluate({"extra": ""}) or not item.marker.evaluate({"extra": extra}):
            continue
        if item.name == "edgedet":
            lacking |= dict.fromkeys(name for nested in sorted(item.extras) for name in _lacking(nested))
        elif not _package(item).fits:
            lacking[f"{item.name}{item.specifier}"] = None
    return tuple(lacking)


def _package(item: Requirement) -> Package:
    for name in (item.name, *ALTERNATIVES.get(item.name, ())):
        version = _installed(name)
        if version is not None:
            return Package(name, str(item.specifier), version, _fits(version, item))
    return Package(item.name, str(item.specifier), None, False)


def _fits(version: str, item: Requirement) -> bool:
    try:
        return item.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _onnxruntime() -> OnnxRuntime:
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        return OnnxRuntime((), str(error))
    return OnnxRuntime(tuple(module.get_available_providers()))
