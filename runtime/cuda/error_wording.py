"""What to do about the errors of CUDA's driver."""

from __future__ import annotations

from edgedet.errors import CudaError, MissingDependencyError

__all__ = ["cuda_error", "no_driver"]

_LOST = (
    "The GPU is lost to this process: start it again, and report the error with the model and the picture if it returns"
)
_ACTIONS = {
    "CUDA_ERROR_OUT_OF_MEMORY": "Use a smaller batch or input, or free memory that other programs hold (nvidia-smi)",
    "CUDA_ERROR_NO_DEVICE": "Run edgedet doctor to see what the driver finds, or run on the CPU",
    "CUDA_ERROR_INVALID_DEVICE": "Choose a device that edgedet doctor lists",
    "CUDA_ERROR_NOT_PERMITTED": "Give the user access to the device (in a container: --gpus all, or --runtime nvidia)",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "Restart the machine, so that the kernel's driver is the one of libcuda",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "Remove CUDA's forward compatibility package, or update the driver",
    "CUDA_ERROR_NOT_FOUND": "Install edgedet again; where it is a checkout, build the kernels with: make cubins",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "Install NVRTC, so that the kernels are compiled on this machine",
    "CUDA_ERROR_INVALID_IMAGE": "Install edgedet again: the kernels' file is damaged or newer than the driver",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "Update the NVIDIA driver, or install NVRTC of its CUDA version",
    "CUDA_ERROR_NOT_SUPPORTED": "Use another way: this device or driver does not offer it (edgedet doctor shows both)",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "Report it with the device's name: a kernel wants more than the device has",
    "CUDA_ERROR_INVALID_CONTEXT": "Work in 'with device.current():', and not after the device was closed",
    "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED": "Register the memory once, and keep what register() returned",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _LOST,
    "CUDA_ERROR_LAUNCH_FAILED": _LOST,
    "CUDA_ERROR_LAUNCH_TIMEOUT": _LOST,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _LOST,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _LOST,
    "CUDA_ERROR_ASSERT": _LOST,
    "CUDA_ERROR_ECC_UNCORRECTABLE": _LOST,
}
_REPORT = "Run again with CUDA_LAUNCH_BLOCKING=1 to find the call, and report it with what edgedet doctor shows"


def cuda_error(doing: str, name: str, description: str) -> CudaError:
    """Word an error of the driver.

    Args:
        doing: what was asked, as an infinitive ("to allocate 12 bytes").
        name: of the CUresult.
        description: what cuGetErrorString says of it.
    """
    return CudaError(f"CUDA {doing}", f"{name} ({description})", _ACTIONS.get(name, _REPORT))


def no_driver(reason: object) -> MissingDependencyError:
    """Word that there is no libcuda.

    Args:
        reason: what the provider says of it.
    """
    return MissingDependencyError(
        "the NVIDIA driver (libcuda.so.1)",
        f"an error in loading it ({reason})",
        "Install the driver of the GPU, or run on the CPU; edgedet doctor shows what is there",
    )
