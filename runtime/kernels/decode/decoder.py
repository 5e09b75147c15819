"""What the decoders of all heads share: the rule that selects, and how a kernel is laid over locations and pictures."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec
from edgedet.runtime.heads.activations import Activation
from edgedet.runtime.heads.grids import level_sizes
from edgedet.runtime.heads.head import BoxHead
from edgedet.runtime.heads.scores import allowed_classes, logit
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.launcher import Array, Launcher, Upload
from edgedet.runtime.selection import Selection

__all__ = [
    "MOST_LEVELS",
    "CellRange",
    "Decoder",
    "Plan",
    "ScoreRule",
    "Setting",
    "alone",
    "cell_ranges",
    "lanes",
    "suffix",
]

MOST_LEVELS = 8
"""Levels that a table by value has room for (grids.cuh: kMostLevels)."""

_THREADS_ALONE = 64
_THREADS_LANES = 256
_WARP = 32
_SUFFIXES = {"float32": "f32", "float16": "f16"}
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "sigmoid": 1, "softmax": 2}


class ScoreRule(ctypes.Structure):
    """What selects candidates (scores.cuh: ScoreRule)."""

    _fields_ = [
        ("confidence", ctypes.c_float),
        ("logit", ctypes.c_float),
        ("classes", ctypes.c_int),
        ("count", ctypes.c_int),
        ("multi_label", ctypes.c_int),
        ("activation", ctypes.c_int),
        ("background", ctypes.c_int),
    ]


@dataclass(frozen=True, eq=False)
class Setting:
    """What a decoder is built for, beside its head.

    Attributes:
        size: width and height of the network's input in pixels.
        classes: how many class names the model has.
        selection: ``confidence``, ``class_ids`` and ``multi_label`` are applied.
        upload: takes constants to the device.
    """

    size: tuple[int, int]
    classes: int
    selection: Selection
    upload: Upload

    def rule(
        self, activation: Activation = "none", background: int | None = None, *, multi_label: bool | None = None
    ) -> ScoreRule:
        """Return the rule of the selection for class scores of this kind.

        Args:
            activation: what is left to do to them.
            background: column of the background among them, or None.
            multi_label: overrides the selection's.
        """
        wanted = allowed_classes(self.selection, self.classes)
        return ScoreRule(
            confidence=self.selection.confidence,
            logit=logit(self.selection.confidence),
            classes=self.classes,
            count=self.classes if wanted is None else len(wanted),
            multi_label=int(self.selection.multi_label if multi_label is None else multi_label),
            activation=_ACTIVATIONS[activation],
            background=-1 if background is None else background,
        )

    def wanted(self) -> Array | None:
        """Return the wanted class ids on the device, int32 and sorted; None for all.

        Raises:
            SpecError: if the model has no such class.
        """
        ids = allowed_classes(self.selection, self.classes)
        return None if ids is None else self.upload(np.append(ids, -1).astype(np.int32))


@dataclass(frozen=True, eq=False)
class Plan:
    """A launch, whose tensors only are left open.

    Attributes:
        kernel: name of the __global__ function.
        grid: its blocks.
        block: its threads.
        table: the structure that it is given by value.
        locations: of a picture.
        lanes: threads a location, where the kernel asks for it.
    """

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    table: ctypes.Structure
    locations: int
    lanes: int | None = None


HeadType = TypeVar("HeadType", bound=BoxHead)


class Decoder(ABC, Generic[HeadType]):
    """Decodes one head's raw outputs on the device: the same candidates as ``BoxHead.decode``.

    Locations are written for every head, also where the reference leaves them out; ranks rise in the reference's order.

    Args:
        head: the layout.
        setting: what it is decoded for.

    Raises:
        SpecError: if a class is selected that the model does not have.
    """

    def __init__(self, head: HeadType, setting: Setting) -> None:
        self.head = head
        self.setting = setting
        self._planned: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self._plan: Plan | None = None
        self._wanted = self._wanted_classes()

    def launch(self, launcher: Launcher, outputs: Sequence[Array], candidates: CandidateList) -> None:
        """Append the candidates of a batch; nothing waits for the kernel.

        The first launch, and one with other shapes or types than the last, checks the outputs and lays the kernel out
        for them.

        Args:
            launcher: what starts the kernel.
            outputs: in the spec's order, with the batch axis where there is one, contiguous, float32 or float16.
            candidates: has been emptied for this run.

        Raises:
            SpecError: if the outputs do not fit the head, are of other types, or of more pictures than there are
                candidate lists.
        """
        plan = self._plan_for(outputs)
        if plan.grid[-1] > candidates.pictures:
            raise SpecError(
                f"outputs of at most {candidates.pictures} pictures",
                str(plan.grid[-1]),
                "Build the stages for this batch",
            )
        self._point(plan, outputs)
        lane_count = () if plan.lanes is None else (ctypes.c_int(plan.lanes),)
        launcher.launch(
            plan.kernel,
            plan.grid,
            plan.block,
            *self._tensors(outputs),
            self._wanted,
            plan.table,
            *lane_count,
            *candidates.arguments,
        )

    def most_candidates(self, outputs: Sequence[Array]) -> int:
        """Return how many candidates a picture can have at most, 1 or more, in outputs of these shapes and types.

        Raises:
            SpecError: as ``launch``.
        """
        return max(self._plan_for(outputs).locations * self._answers(), 1)

    def _answers(self) -> int:
        """Return how many candidates a location can be."""
        return self.setting.rule().count if self.setting.selection.multi_label else 1

    @abstractmethod
    def _lay_out(self, outputs: Sequence[Array]) -> Plan:
        """Return the launch for outputs of these shapes and types, which fit the head."""

    @abstractmethod
    def _tensors(self, outputs: Sequence[Array]) -> tuple[Array | None, ...]:
        """Return what the kernel is given in front of the wanted classes."""

    def _point(self, plan: Plan, outputs: Sequence[Array]) -> None:
        """Write the outputs' addresses into the plan's table, where they are not arguments."""

    def _wanted_classes(self) -> Array | None:
        return self.setting.wanted()

    def _network_outputs(self, outputs: Sequence[Array]) -> list[TensorSpec]:
        """Describe the network's own outputs, for the head's check."""
        return [TensorSpec(f"output {index}", output.shape, output.dtype.name) for index, output in enumerate(outputs)]

    def _plan_for(self, outputs: Sequence[Array]) -> Plan:
        kinds = [(output.shape, output.dtype) for output in outputs]
        if self._plan is not None and kinds == self._planned:
            return self._plan
        self.head.check(self._network_outputs(outputs), self.setting.classes, self.setting.size)
        plan = self._lay_out(outputs)
        if plan.locations * self.setting.classes >= 2**32:
            raise SpecError(
                "fewer than 2 ** 32 pairs of location and class",
                f"{plan.locations} locations and {self.setting.classes} classes",
                "Decode this model on the host",
            )
        self._plan, self._planned = plan, kinds
        return plan


def suffix(*tensors: Array) -> str:
    """Return what the kernel of these tensors' type ends with.

    Raises:
        SpecError: if they are neither all float32 nor all float16.
    """
    names = {tensor.dtype.name for tensor in tensors}
    found = names.pop()
    if names or found not in _SUFFIXES:
        raise SpecError(
            "outputs that are all float32 or all float16",
            ", ".join(tensor.dtype.name for tensor in tensors),
            "Decode this model on the host, or export it with float outputs",
        )
    return _SUFFIXES[found]


def alone(kernel: str, table: ctypes.Structure, locations: int, pictures: int) -> Plan:
    """Return the launch of a kernel with a thread a location."""
    return Plan(kernel, (_blocks(locations, _THREADS_ALONE), pictures), (_THREADS_ALONE,), table, locations)


def lanes(kernel: str, table: ctypes.Structure, locations: int, pictures: int, columns: int) -> Plan:
    """Return the launch of a kernel with several threads a location: about as many as there are columns to be read."""
    count = min(1 << max(columns - 1, 0).bit_length(), _WARP)
    grid = (_blocks(locations * count, _THREADS_LANES), pictures)
    return Plan(kernel, grid, (_THREADS_LANES,), table, locations, count)


@dataclass(frozen=True)
class CellRange:
    """The cells of one level among those of all levels."""

    first: int
    columns: int
    rows: int
    stride: int


def cell_ranges(size: tuple[int, int], strides: tuple[int, ...]) -> list[CellRange]:
    """Return where the levels' cells stand, in the order of the strides.

    Raises:
        SpecError: if there are more levels than a kernel's table has room for.
    """
    if len(strides) > MOST_LEVELS:
        raise SpecError(
            f"at most {MOST_LEVELS} levels", f"{len(strides)} head.strides", "Decode this model on the host"
        )
    sizes = level_sizes(size, strides)
    firsts = accumulate((columns * rows for columns, rows in sizes), initial=0)
    return [
        CellRange(first, columns, rows, stride)
        for first, (columns, rows), stride in zip(firsts, sizes, strides, strict=False)
    ]


def _blocks(threads: int, block: int) -> int:
    return max(-(-threads // block), 1)
