"""The engine of an ONNX file for the GPU that is here: found in the user's cache, or built once and kept there."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.engine_store.cache import EngineCache, EngineKey
from edgedet.engine_store.trust import Trust, VerifiedEngine
from edgedet.errors import UntrustedFileError
from edgedet.export.engine.build import BuildReport, Check, build_file, options_record, source_sha256
from edgedet.export.engine.on_device import check_on_device
from edgedet.export.engine.options import EngineOptions
from edgedet.export.engine.process import OnProgress
from edgedet.runtime.cuda.target import target_of
from edgedet.runtime.engines.tensorrt_module import load_module
from edgedet.target import Target

if TYPE_CHECKING:
    from edgedet.runtime.cuda.device import Device

__all__ = ["KeptEngine", "find_or_build", "timing_cache"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class KeptEngine:
    """An engine in the cache.

    Attributes:
        path: where it is kept.
        engine: the engine, verified.
        report: how it was built; None where it was there already.
    """

    path: Path
    engine: VerifiedEngine
    report: BuildReport | None


def find_or_build(
    model: Path,
    options: EngineOptions,
    device: Device,
    trust: Trust,
    *,
    check: Check | None = None,
    on_progress: OnProgress | None = None,
) -> KeptEngine:
    """Return the engine of an ONNX file that fits a device; it is built now where none is kept.

    Args:
        model: the ONNX file.
        options: how to build.
        device: the GPU.
        trust: whom to trust with what is kept.
        check: runs a new engine before it is kept; the comparison with ONNX Runtime where None.
        on_progress: told about the builder's phases.

    Raises:
        EngineError: if the engine cannot be built, or answers otherwise than ONNX Runtime does.
        UntrustedFileError: if nobody who is trusted vouches for the engine that is kept, or a signature is wanted and
            none is kept.
        MissingDependencyError: if the flavour is not installed.
        ModelFileError: if the file is not ONNX.
    """
    target = target_of(device)
    version = str(load_module(options.flavour).__version__)
    cache = EngineCache(trust=trust)
    path = cache.path(
        model.stem, EngineKey(source_sha256(model), options.flavour, version, target, options_record(options))
    )
    reports: list[BuildReport] = []
    timed = timing_cache(cache.folder, options, version, target)

    def build(entry: Path) -> None:
        if trust.key is not None:
            # What is built here is nobody's signature yet, and would have to be run to be checked.
            raise UntrustedFileError(
                f"an engine of '{model}' signed with key {trust.key.fingerprint}",
                "none in the cache",
                f"Build and sign one with: edgedet build '{model.name}' --sign KEY -o ENGINE, and run that",
            )
        _LOG.warning("Building an engine for %s; this takes minutes, once", target)
        chosen = check or check_on_device(model, device)
        reports.append(build_file(model, entry, timed, target, trust=trust, check=chosen, on_progress=on_progress))

    def wait() -> None:
        _LOG.warning("Another process is building this engine; waiting for it")

    engine = cache.get_or_build(path, build, wait)
    return KeptEngine(path, engine, reports[-1] if reports else None)


def timing_cache(folder: Path, options: EngineOptions, version: str, target: Target) -> EngineOptions:
    """Return the options with a file for the times of kernels, which are one device's and one version's.

    Args:
        folder: that it is kept in.
        options: how to build; a file that they name stays.
        version: of TensorRT.
        target: the device.
    """
    if options.timing_cache is not None:
        return options
    device = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{target.gpu}-{'-'.join(target.compute_capabilities)}").strip("-")
    return replace(options, timing_cache=folder / f"{options.flavour}-{version}-{device}.times")
