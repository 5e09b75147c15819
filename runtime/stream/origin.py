"""Origin: an open source, and how to open it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from edgedet.errors import SourceError, SpecError
from edgedet.runtime.capture import CameraOptions, NetworkOptions, Source, kind_of_source, open_source
from edgedet.runtime.capture.source import OnBroken, Returning

__all__ = ["Origin", "SourceLike", "close_all", "open_all"]

SourceLike: TypeAlias = "Source | Origin | str | os.PathLike[str] | int"
"""An open source, one that can be opened again, or what ``open_source`` takes."""

_CAMERAS = ("camera", "device")
_NETWORK = ("network",)


@dataclass(frozen=True, eq=False)
class Origin:
    """An open source, and how to open it again.

    Attributes:
        source: open.
        reopen: returns it anew; None where nobody knows how.
    """

    source: Source
    reopen: Callable[[], Source] | None = None


def open_all(
    sources: SourceLike | Sequence[SourceLike],
    on_broken: OnBroken = None,
    camera: CameraOptions | None = None,
    network: NetworkOptions | None = None,
) -> list[Origin]:
    """Open one or more sources, those that are not open yet.

    Args:
        sources: one, or several.
        on_broken: as for ``open_source``.
        camera: what is wanted of the cameras among them.
        network: what is wanted of the network streams among them.

    Raises:
        SpecError: if there is none.
        SourceError: if one cannot be opened, after the others were closed; or if there are options for a camera or a
            network stream, and none that they could be for.
    """
    wanted: Sequence[SourceLike] = sources if isinstance(sources, (list, tuple)) else (sources,)
    if not wanted:
        raise SpecError("at least one source", "none", "Name a source")
    opened: list[Origin] = []
    try:
        _check_options(wanted, camera, network)
        for each in wanted:  # one by one: those before are closed where one fails
            options = (camera if _is_one_of(_CAMERAS, each) else None, network if _is_one_of(_NETWORK, each) else None)
            opened.append(_open(each, on_broken, *options))
    except BaseException:
        close_all([origin.source for origin in opened])
        close_all([source for source in map(_already_open, wanted[len(opened) :]) if source is not None])
        raise
    return opened


def close_all(sources: Sequence[Source]) -> None:
    """Close sources that nobody reads."""
    for source in sources:
        source.close()


def _check_options(wanted: Sequence[SourceLike], camera: CameraOptions | None, network: NetworkOptions | None) -> None:
    """Refuse options that no source is there for."""
    for what, options, kinds in (("camera", camera, _CAMERAS), ("network stream", network, _NETWORK)):
        if options is not None and not any(_is_one_of(kinds, each) for each in wanted):
            got = ", ".join(repr(_name(each)) for each in wanted)
            raise SourceError(f"a {what} to open, for the options of a {what}", got, "Leave these options out")


def _open(
    source: SourceLike, on_broken: OnBroken, camera: CameraOptions | None, network: NetworkOptions | None
) -> Origin:
    if isinstance(source, Origin):
        return source
    if isinstance(source, (str, int, os.PathLike)):
        reopen = partial(open_source, source, on_broken, camera, network)
        opened = reopen()
        return Origin(opened, opened.reopener() if isinstance(opened, Returning) else reopen)
    return Origin(source)


def _already_open(source: SourceLike) -> Source | None:
    if isinstance(source, Origin):
        return source.source
    return None if isinstance(source, (str, int, os.PathLike)) else source


def _is_one_of(kinds: Sequence[str], source: SourceLike) -> bool:
    if isinstance(source, (str, int, os.PathLike)):
        return kind_of_source(str(source)) in kinds
    return False


def _name(source: SourceLike) -> str:
    opened = _already_open(source)
    return str(source) if opened is None else opened.name
