"""The project's kernels on one device: the cubin that fits it, else PTX, else compiled on this machine and kept."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.atomic_file import atomic_file
from edgedet.errors import CudaError, EngineError, SinkError
from edgedet.runtime.cuda.nvrtc import Nvrtc, find_nvrtc
from edgedet.runtime.kernels.sources import OPTIONS, Stage, manifest, read_image, stages

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["KernelLibrary", "fitting_targets"]

_LOG = logging.getLogger(__name__)

_DOES_NOT_FIT = {
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_INVALID_IMAGE",
    "CUDA_ERROR_INVALID_PTX",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
}

_JETSON = {(7, 2), (8, 7), (11, 0)}
"""Compute capabilities of Jetsons: NVIDIA promises nothing about their cubins on PCs, nor the other way round."""


class KernelLibrary:
    """The kernels of a device, loaded a stage at a time when one of its kernels is first asked for.

    Args:
        device: that they run on.
    """

    def __init__(self, device: Device) -> None:
        self._device = weakref.ref(device)  # the device owns the library
        self._modules: dict[str, Any] = {}
        self._lock = threading.Lock()

    def function(self, name: str) -> Any:
        """Return a kernel for the driver's `launch`; an object of its own each time, for one thread.

        Args:
            name: of the __global__ function.

        Raises:
            EngineError: if there is no such kernel, its file is damaged, or nothing runs on this device.
        """
        device = self._device()
        assert device is not None
        stage = _stage_of(name)
        with self._lock, device.current():
            if stage.name not in self._modules:
                module = self._modules[stage.name] = _load(device, stage)
                unload = functools.partial(device.driver.unload_module, module)
                device.ownership.add("module", self, unload)
            return device.driver.get_function(self._modules[stage.name], name)


def fitting_targets(capability: tuple[int, int], integrated: bool, targets: Iterable[str]) -> list[str]:
    """Return the targets whose images may run on a device, best first.

    Args:
        capability: of the device, (major, minor).
        integrated: whether it is a Jetson's, or another that shares the host's memory.
        targets: that there are ("sm_87" for a cubin, "compute_75" for PTX).
    """
    major, minor = capability
    known = set(targets)
    # A cubin runs on devices of its major version with the same or a higher minor one.
    lower = [] if integrated else [other for other in range(minor - 1, -1, -1) if (major, other) not in _JETSON]
    fitting = [f"sm_{major}{number}" for number in (minor, *lower)]
    fitting += sorted(
        (name for name in known if name.startswith("compute_") and int(name[8:]) <= 10 * major + minor), reverse=True
    )
    return [target for target in fitting if target in known]


def _stage_of(kernel: str) -> Stage:
    for stage in stages().values():
        if kernel in stage.kernels:
            return stage
    raise EngineError(
        "the name of one of edgedet's kernels", f"'{kernel}'", "Install edgedet again if it asked for this itself"
    )


def _load(device: Device, stage: Stage) -> Any:
    known = manifest()
    reasons = []
    if known["stages"].get(stage.name, {}).get("sha256") == stage.sha256:
        for target in fitting_targets(device.capability, device.integrated, known["images"]):
            image = read_image(target, stage.name)
            try:
                return device.driver.load_module(image + b"\0" if target.startswith("compute_") else image)
            except CudaError as error:
                if error.name not in _DOES_NOT_FIT:
                    raise
                reasons.append(f"{target}: {error.name}")
        reasons = reasons or ["none was built for it"]
    else:
        reasons.append("the source was changed since they were built")
    _LOG.info("No built kernels of %s run on %s (%s)", stage.name, device.name, "; ".join(reasons))
    return device.driver.load_module(_compiled(device, stage, "; ".join(reasons)))


def _compiled(device: Device, stage: Stage, reasons: str) -> bytes:
    """Compile a stage for a device, or take what was compiled before."""
    compiler = find_nvrtc(device.driver.version())
    if compiler is None:
        capability = ".".join(map(str, device.capability))
        raise EngineError(
            f"built kernels for {device.name} (compute capability {capability}), or NVRTC to compile them",
            f"neither ({reasons})",
            "Install NVRTC of the driver's CUDA version (pip install nvidia-cuda-nvrtc; for CUDA 12, "
            "nvidia-cuda-nvrtc-cu12); in a checkout: make cubins",
        )
    target = _target(compiler, device.capability)
    key = hashlib.sha256(f"{stage.sha256} {target} {compiler.version}".encode()).hexdigest()
    path = _cache() / f"{stage.name}-{target}-{key[:16]}.{'cubin' if target.startswith('sm_') else 'ptx'}"
    if path.is_file():
        return path.read_bytes()
    options = (*OPTIONS, f"--gpu-architecture={target}")
    image = compiler.compile(f"{stage.name}.cu", stage.source, stage.headers, options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            temporary.write_bytes(image)
    except (OSError, SinkError) as error:
        _LOG.warning("The compiled kernels are not kept: %s", error)
    return image


def _target(compiler: Nvrtc, capability: tuple[int, int]) -> str:
    """Return the device's own architecture, or PTX of the newest below it that the compiler knows."""
    number = 10 * capability[0] + capability[1]
    if number in compiler.architectures:
        return f"sm_{number}"
    below = [known for known in compiler.architectures if known < number]
    if not below:
        raise EngineError(
            f"an NVRTC that compiles for compute capability {capability[0]}.{capability[1]}",
            f"NVRTC {compiler.version[0]}.{compiler.version[1]}, which does not",
            "Install an older NVRTC, or run on the CPU",
        )
    return f"compute_{max(below)}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgedet" / "kernels"
