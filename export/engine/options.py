"""What an engine is built from and for, and what the builder's process answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgedet.engine_store.manifest import Flavour
from edgedet.errors import EngineError, SpecError
from edgedet.model_spec import TensorSpec

__all__ = ["BuilderAnswer", "BuilderTask", "EngineOptions", "ShapeRange", "UnsupportedNode"]


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that a dynamic input may have: its name, the smallest, the one to be fastest at, the largest."""

    name: str
    smallest: tuple[int, ...]
    typical: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True)
class EngineOptions:
    """How to build an engine.

    Attributes:
        flavour: ``tensorrt``, which builds for the GPU that is there, or ``rtx``, which also builds for GPUs that are
            not and needs none itself.
        targets: the GPUs to build for by compute capability (``sm_86``), for ``rtx`` only; the one that is there where
            empty.
        batch: fewest and most pictures per run, for a network whose batch is dynamic; 1 where None.
        optimization_level: how long the builder may search, 0 to 5; its own default where None.
        workspace: MiB that a kernel may use beside its tensors. Where None, the builder's default, and less and less
            should it run out of memory.
        timing_cache: file with the times of kernels that earlier builds measured; read if it is there, and written.
        version_compatible: whether later versions of TensorRT are to run the engine too, at some cost in speed.
        hardware_compatible: whether other GPUs of its compute capability, or of newer ones where the module knows no
            closer kinship, are to run it too, at some cost in speed.
        dla: core of the deep-learning accelerator to run on, with the GPU for what it lacks; the GPU alone where None.
    """

    flavour: Flavour = "tensorrt"
    targets: tuple[str, ...] = ()
    batch: tuple[int, int] | None = None
    optimization_level: int | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla: int | None = None

    def __post_init__(self) -> None:
        wrong = [target for target in self.targets if not re.fullmatch(r"sm_\d{2,3}", target)]
        if wrong:
            raise EngineError("compute capabilities such as 'sm_86'", f"'{wrong[0]}'", "Correct the targets")
        if self.targets and self.flavour != "rtx":
            raise EngineError(
                "no targets for TensorRT, which builds for the GPU that is there",
                ", ".join(self.targets),
                "Leave them out, or build with TensorRT-RTX",
            )
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1]:
            raise SpecError("a batch from 1 upwards", f"{self.batch[0]} to {self.batch[1]}", "Correct the batch")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise EngineError("an optimisation level of 0 to 5", str(self.optimization_level), "Correct --opt-level")
        if self.workspace is not None and self.workspace < 1:
            raise EngineError("a workspace of 1 MiB or more", str(self.workspace), "Correct --workspace")


@dataclass(frozen=True)
class UnsupportedNode:
    """A node that parser or builder refused: its name, its operator (empty where they do not say), and their reason."""

    node: str
    operator: str
    reason: str


@dataclass(frozen=True)
class BuilderTask:
    """What the builder's process is to do.

    Attributes:
        model: absolute path of the ONNX file.
        flavour: whose parser and builder.
        build: whether to build after parsing.
        targets, optimization_level, workspace, version_compatible, hardware_compatible, dla: as in `EngineOptions`.
        timing_cache: absolute path of the file, or None.
        shapes: of each dynamic input.
    """

    model: str
    flavour: Flavour
    build: bool
    targets: tuple[str, ...] = ()
    optimization_level: int | None = None
    workspace: int | None = None
    timing_cache: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla: int | None = None
    shapes: tuple[ShapeRange, ...] = ()


@dataclass(frozen=True)
class BuilderAnswer:
    """What the builder's process found.

    Attributes:
        version: of TensorRT's Python module.
        layers: number of layers in the parsed network, 0 where it was refused.
        outputs: of the parsed network.
        unsupported: the nodes that were refused.
        errors, warnings: every message of that severity, in order.
        listing: the builder's own list of kernels, empty where nothing was built, or it makes none.
        inspection: what the engine inspector tells of the kernels, as JSON text; empty where the builder lists them.
        built: whether the plan was written.
        seconds: that parsing and building took.
        fault: expected, got and action, where the task itself asks for what there is not.
    """

    version: str = ""
    layers: int = 0
    outputs: tuple[TensorSpec, ...] = ()
    unsupported: tuple[UnsupportedNode, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    listing: str = ""
    inspection: str = ""
    built: bool = False
    seconds: float = 0.0
    fault: tuple[str, ...] = ()
