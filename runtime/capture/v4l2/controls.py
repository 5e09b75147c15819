"""The knobs of a camera: exposure, focus, white balance, whatever its driver has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgedet.errors import SourceError
from edgedet.runtime.capture.v4l2 import ioctls, structs
from edgedet.runtime.capture.v4l2.node import Node

__all__ = ["CameraControl", "read_controls", "set_controls"]

_NEXT = 0x80000000
_DISABLED, _READ_ONLY, _WRITE_ONLY = 0x0001, 0x0004, 0x0040
_KINDS = {1: "integer", 2: "boolean", 3: "menu", 4: "button", 8: "bitmask", 9: "number menu"}
_MENU, _NUMBER_MENU = 3, 9


@dataclass(frozen=True)
class CameraControl:
    """A control and its value now.

    Attributes:
        name: as v4l2-ctl has it: lower case, words joined by underscores.
        number: the driver's.
        kind: integer, boolean, menu, number menu, button or bitmask.
        lowest, highest, step, default: what it may be set to.
        value: now; None for a button.
        choices: of a menu, by value.
        writable: whether it can be set.
    """

    name: str
    number: int
    kind: str
    lowest: int
    highest: int
    step: int
    default: int
    value: int | None
    choices: Mapping[int, str]
    writable: bool

    def __str__(self) -> str:
        span = f"{self.lowest} to {self.highest}"
        if self.choices:
            span = ", ".join(f"{value} ({text})" for value, text in self.choices.items())
        return f"{self.name}: {span}; {self.value} now"


def read_controls(node: Node) -> tuple[CameraControl, ...]:
    """List the controls that are numbers, switches, menus or buttons."""
    return tuple(_controls(node))


def set_controls(node: Node, wanted: Mapping[str, int]) -> None:
    """Set controls by name, in the order given, and check that the driver kept the values.

    Raises:
        SourceError: if there is no such control, or the driver refuses or changes a value.
    """
    if not wanted:
        return
    known = {control.name: control for control in read_controls(node)}
    for name, value in wanted.items():
        control = known.get(control_name(name))
        if control is None:
            raise SourceError(
                f"a control of '{node.path}' ({', '.join(known) or 'it has none'})", repr(name), "Choose one of these"
            )
        request = structs.Control(id=control.number, value=value)
        try:
            ioctls.call(node.fd, ioctls.S_CTRL, request)
        except OSError as error:
            raise SourceError(str(control), f"{value} ({error.strerror})", "Choose another value") from error
        if control.kind != "button" and request.value != value:
            raise SourceError(str(control), f"{value}, of which the driver made {request.value}", "Choose that value")


def control_name(text: str) -> str:
    """Make a name of a control's title: "Exposure Time, Absolute" is exposure_time_absolute."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _controls(node: Node) -> Iterator[CameraControl]:
    number = _NEXT
    while True:
        query = structs.QueryControl(id=number)
        try:
            ioctls.call(node.fd, ioctls.QUERYCTRL, query)
        except OSError:
            return
        if query.type in _KINDS and not query.flags & _DISABLED:
            yield _control(node, query)
        number = query.id | _NEXT


def _control(node: Node, query: structs.QueryControl) -> CameraControl:
    kind = _KINDS[query.type]
    value: int | None = None
    if kind != "button" and not query.flags & _WRITE_ONLY:
        request = structs.Control(id=query.id)
        try:
            ioctls.call(node.fd, ioctls.G_CTRL, request)
            value = request.value
        except OSError:
            value = None
    return CameraControl(
        name=control_name(bytes(query.name).decode(errors="replace")),
        number=query.id,
        kind=kind,
        lowest=query.minimum,
        highest=query.maximum,
        step=query.step,
        default=query.default_value,
        value=value,
        choices=dict(_choices(node, query)),
        writable=not query.flags & _READ_ONLY,
    )


def _choices(node: Node, query: structs.QueryControl) -> Iterator[tuple[int, str]]:
    if query.type not in (_MENU, _NUMBER_MENU):
        return
    for value in range(query.minimum, query.maximum + 1):
        item = structs.MenuItem(id=query.id, index=value)
        try:
            ioctls.call(node.fd, ioctls.QUERYMENU, item)
        except OSError:  # menus have gaps
            continue
        name = bytes(item.name)
        text = name.partition(b"\0")[0].decode(errors="replace")
        yield value, str(int.from_bytes(name[:8], "little")) if query.type == _NUMBER_MENU else text
