"""What an engine is built from and for, and what the builder's process answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgedet.errors import EngineError, SpecError
from edgedet.model_spec import TensorSpec

__all__ = ["FLAVOURS", "BuilderAnswer", "BuilderTask", "EngineOptions", "Flavour", "ShapeRange", "UnsupportedNode"]

Flavour = Literal["tensorrt", "rtx"]

FLAVOURS: Mapping[Flavour, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}
"""Flavour -> its name in words."""


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
    """

    flavour: Flavour = "tensorrt"
    targets: tuple[str, ...] = ()
    batch: tuple[int, int] | None = None
    optimization_level: int | None = None

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
        targets: compute capabilities, as in `EngineOptions`.
        optimization_level: as in `EngineOptions`.
        shapes: of each dynamic input.
    """

    model: str
    flavour: Flavour
    build: bool
    targets: tuple[str, ...] = ()
    optimization_level: int | None = None
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
        listing: the builder's own list of kernels, empty where nothing was built.
        built: whether the plan was written.
        fault: expected, got and action, where the task itself asks for what there is not.
    """

    version: str = ""
    layers: int = 0
    outputs: tuple[TensorSpec, ...] = ()
    unsupported: tuple[UnsupportedNode, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    listing: str = ""
    built: bool = False
    fault: tuple[str, ...] = ()
