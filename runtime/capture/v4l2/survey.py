"""What the cameras of this machine can do: formats, controls, and which memory modes work, by trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.errors import EdgedetError
from edgedet.runtime.capture.v4l2.controls import CameraControl, read_controls
from edgedet.runtime.capture.v4l2.dmabuf_memory import DmabufMemory
from edgedet.runtime.capture.v4l2.formats import FORMATS, Mode
from edgedet.runtime.capture.v4l2.layout import Layout
from edgedet.runtime.capture.v4l2.memory import BufferMemory, MemoryRefusedError
from edgedet.runtime.capture.v4l2.mmap_memory import MmapMemory
from edgedet.runtime.capture.v4l2.negotiation import try_memory
from edgedet.runtime.capture.v4l2.node import NoCameraError, Node
from edgedet.runtime.capture.v4l2.options import CameraOptions
from edgedet.runtime.capture.v4l2.userptr_memory import UserptrMemory

__all__ = ["CameraReport", "MemoryTrial", "survey", "survey_camera"]

_TRIAL = CameraOptions(buffers=2)


@dataclass(frozen=True)
class MemoryTrial:
    """Whether a memory mode works.

    Attributes:
        mode: ``mmap``, ``userptr``, ``dmabuf`` (import), or ``export`` (of the driver's buffers as DMA buffers).
        works: as tried, with the format that is set now.
        copies: of each frame in user space, to have it in such memory: 1 where it does not work and it must be copied
            out of the driver's buffers. None where nothing helps.
        reason: why it does not work.
    """

    mode: str
    works: bool
    copies: int | None
    reason: str = ""


@dataclass(frozen=True)
class CameraReport:
    """What one device can do.

    Attributes:
        device: its path.
        card, driver, bus: what the kernel calls them.
        modes: formats, sizes and rates; those with ``code`` in `FORMATS` can be read.
        memory: the memory modes; empty where the camera is in use.
        controls: exposure and the like.
        problem: why it could not be looked at, or not wholly.
    """

    device: str
    card: str = ""
    driver: str = ""
    bus: str = ""
    modes: tuple[Mode, ...] = ()
    memory: tuple[MemoryTrial, ...] = ()
    controls: tuple[CameraControl, ...] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes."""
        data = dataclasses.asdict(self)
        for mode in data["modes"]:
            mode["readable"] = mode["code"] in FORMATS
        return data


def survey(folder: Path = Path("/dev")) -> tuple[CameraReport, ...]:
    """Look at every camera, by number; nodes that take no pictures (metadata, codecs) are left out."""
    nodes = sorted(folder.glob("video*"), key=lambda path: (len(path.name), path.name))
    reports = (survey_camera(path) for path in nodes)
    return tuple(report for report in reports if report is not None)


def survey_camera(path: Path) -> CameraReport | None:
    """Look at one camera without changing its settings; None where the device takes no pictures."""
    try:
        node = Node(path)
    except NoCameraError:
        return None
    except EdgedetError as error:
        return CameraReport(str(path), problem=str(error))
    try:
        report = CameraReport(
            device=str(path), card=node.card, driver=node.driver, bus=node.bus, controls=read_controls(node)
        )
        try:
            report = dataclasses.replace(report, modes=tuple(node.modes()))
            return dataclasses.replace(report, memory=_trials(node))
        except EdgedetError as error:
            return dataclasses.replace(report, problem=str(error))
    finally:
        node.close()


def _trials(node: Node) -> tuple[MemoryTrial, ...]:
    layout = node.current()
    if layout is None:
        return ()
    mmap = _trial(node, layout, "mmap", lambda: MmapMemory(node, layout, _TRIAL.buffers), None)
    copied = 1 if mmap.works else None
    return (
        mmap,
        _trial(node, layout, "userptr", lambda: UserptrMemory(node, layout, _TRIAL.buffers), copied),
        _trial(node, layout, "dmabuf", lambda: DmabufMemory(node, layout, _TRIAL.buffers), copied),
        _export_trial(node, layout, copied) if mmap.works else MemoryTrial("export", False, copied, mmap.reason),
    )


def _trial(node: Node, layout: Layout, mode: str, make: Callable[[], BufferMemory], copies: int | None) -> MemoryTrial:
    try:
        _, queue = try_memory(node, layout, make, _TRIAL, node.path)
    except MemoryRefusedError as error:
        return MemoryTrial(mode, False, copies, str(error))
    queue.stop()
    node.stream_off()
    node.forget_buffers()
    return MemoryTrial(mode, True, 0)


def _export_trial(node: Node, layout: Layout, copies: int | None) -> MemoryTrial:
    memory = MmapMemory(node, layout, _TRIAL.buffers)
    works = bool(memory.export(0))
    del memory
    node.forget_buffers()
    return MemoryTrial("export", works, 0 if works else copies, "" if works else "EXPBUF: the driver cannot")
