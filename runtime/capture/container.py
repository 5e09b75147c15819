"""What a video file's container says of itself, so that a file that was cut or damaged is told from one that ended.

Decoders stop at the end of the data in silence. MP4 and QuickTime (ISO/IEC 14496-12) and AVI (RIFF) announce the sizes
of their parts and the number of their frames, Matroska and WebM (RFC 8794) the size of the whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Container", "read_container"]

_MOVIE_HEADER_LIMIT = 256 << 20
_NESTED_BOXES = (b"moov", b"trak", b"mdia", b"edts")


@dataclass(frozen=True)
class Container:
    """The claims of a container.

    Attributes:
        missing_bytes: how much of what the headers announce lies beyond the end of the file.
        has_index: whether the part without which nothing can be decoded is there (MP4's ``moov``).
        counts_frames: whether the number of frames is stored, not estimated from duration and rate.
        shown: share of the recording that is played, below 1 where an edit list trims it.
    """

    missing_bytes: int = 0
    has_index: bool = True
    counts_frames: bool = False
    shown: float = 1.0


def read_container(path: str | os.PathLike[str]) -> Container:
    """Read the claims of a file; an unknown format claims nothing.

    Raises:
        OSError: if the file cannot be read.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        start = file.read(12)
        try:
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
                return _read_mp4(file, size)
            if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
                return _read_avi(file, size)
            if start[:4] == b"\x1a\x45\xdf\xa3":
                return _read_matroska(file, size)
        except (struct.error, IndexError):  # damaged headers claim nothing that could be held against the file
            return Container()
    return Container()


def _read_avi(file: BinaryIO, size: int) -> Container:
    # Beyond 1 GiB an AVI goes on with further RIFF chunks (OpenDML).
    end = 0
    while end + 8 <= size:
        file.seek(end)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF":
            break
        end += 8 + length + length % 2
    return Container(missing_bytes=max(0, end - size), counts_frames=True)


def _read_matroska(file: BinaryIO, size: int) -> Container:
    position = 0
    for _ in range(2):  # the EBML header, then the Segment with everything else
        file.seek(position)
        head = file.read(12)
        identifier = _vint_length(head[:1])
        length = _vint_length(head[identifier : identifier + 1])
        field = int.from_bytes(head[identifier : identifier + length], "big") & ((1 << 7 * length) - 1)
        if field == (1 << 7 * length) - 1:  # all ones: written live, size unknown
            return Container()
        position += identifier + length + field
    return Container(missing_bytes=max(0, position - size))


def _vint_length(first: bytes) -> int:
    return 9 - int.from_bytes(first, "big").bit_length()


def _read_mp4(file: BinaryIO, size: int) -> Container:
    position, movie = 0, b""
    while position + 8 <= size:
        file.seek(position)
        length, kind, extended = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = {0: size - position, 1: extended}.get(length, length)
        if length < 8:
            break
        if kind == b"moov" and position + length <= size and length <= _MOVIE_HEADER_LIMIT:
            file.seek(position)
            movie = file.read(length)
        position += length
    return Container(
        missing_bytes=max(0, position - size),
        has_index=bool(movie),
        counts_frames=b"mvex" not in movie,  # a fragmented file counts its frames nowhere
        shown=_shown(movie),
    )


def _shown(movie: bytes) -> float:
    """Share of the first video track that its edit list plays."""
    track: dict[bytes, bytes] = {}
    timescale = 0
    for kind, body in _boxes(movie):
        if kind == b"mvhd":
            timescale = _times(body)[0]
        elif kind == b"tkhd":
            track = {}
        elif kind in (b"elst", b"mdhd") or (kind == b"hdlr" and body[8:12] == b"vide"):
            track[kind] = body
        if {b"elst", b"mdhd", b"hdlr"} <= track.keys():
            media_timescale, media_duration = _times(track[b"mdhd"])
            if not (timescale and media_timescale and media_duration):
                return 1.0
            return min(1.0, _edited(track[b"elst"]) / timescale / (media_duration / media_timescale))
    return 1.0


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if length < 8:
            return
        body = data[position + 8 : position + length]
        if kind in _NESTED_BOXES:
            yield from _boxes(body)
        else:
            yield kind, body
        position += length


def _times(header: bytes) -> tuple[int, int]:
    """Timescale and duration of an ``mvhd`` or ``mdhd`` box."""
    layout, offset = (">IQ", 20) if header[0] == 1 else (">II", 12)
    timescale, duration = struct.unpack_from(layout, header, offset)
    return timescale, duration


def _edited(edits: bytes) -> int:
    """Sum of the edits that show media (a media time of -1 is a gap), in the movie's timescale."""
    layout, step = (">Qq", 20) if edits[0] == 1 else (">Ii", 12)
    count = struct.unpack_from(">I", edits, 4)[0]
    entries = (struct.unpack_from(layout, edits, 8 + step * index) for index in range(count))
    return sum(duration for duration, start in entries if start != -1)
