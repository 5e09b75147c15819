"""The newest result in POSIX shared memory, for firmware in another process and any language.

``/dev/shm/NAME`` (``shm_open("/NAME")`` in C). Little-endian, version 1:

| offset | type | what |
|---|---|---|
| 0 | char[8] | ``EDGEDET`` and a zero byte |
| 8 | uint32 | version of the layout: 1 |
| 12 | uint32 | size of this header: 128 |
| 16 | uint32 | size of a record: 32 |
| 20 | uint32 | capacity: records there is room for |
| 24 | uint64 | sequence lock: odd while a result is being written |
| 32 | uint64 | process id of the writer; 0 once it has ended |
| 40 | uint64 | results written so far |
| 48 | int64 | when this one was written, nanoseconds of CLOCK_MONOTONIC |
| 56 | int64 | timestamp of the frame, nanoseconds (cameras: CLOCK_MONOTONIC) |
| 64 | uint64 | number of the frame in its source |
| 72 | uint32 | frames lost or skipped before this one |
| 76 | uint32 | width of the frame in pixels |
| 80 | uint32 | height |
| 84 | uint32 | records that follow |
| 88 | uint32 | objects found; more than records where there was no room for all |
| 92 | 36 bytes | zero |
| 128 | record[capacity] | the objects, best score first |

A record: float32 left, top, right, bottom (pixels of the frame), float32 score, int32 class id, int64 track id (-1
where nothing tracks).

To read (a sequence lock, as in the Linux kernel): read the lock until it is even; copy; read the lock again; if it has
changed, start over. The writer never waits for a reader, and any number may read.

The name is gone when the writer ends, and the writer's process id 0: who reads opens the memory again. Of a writer that
was killed the memory stays, and the next one goes on in it, so that nobody need open it again; whether a writer lives,
`kill(id, 0)` tells.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edgedet.errors import SinkError
from edgedet.results import Detections
from edgedet.runtime.stream import StreamResult

__all__ = ["RECORD", "SharedMemoryReader", "SharedMemorySink", "SharedResult"]

_MAGIC = b"EDGEDET\0"
_VERSION = 1
_FIXED = struct.Struct("<8s4I")
_LOCK = struct.Struct("<Q")
_WRITER = struct.Struct("<Q")
_RESULT = struct.Struct("<QqqQ5I")
_LOCK_AT, _WRITER_AT, _RESULT_AT, _HEADER_SIZE = 24, 32, 40, 128
_FOLDER = Path("/dev/shm")  # noqa: S108  # not a temporary file: where shm_open of Linux's C libraries looks
_MOST_TRIES = 1000

RECORD = np.dtype([("xyxy", "<f4", 4), ("score", "<f4"), ("class_id", "<i4"), ("track_id", "<i8")])
"""One object; 32 bytes."""


@dataclass(frozen=True, eq=False)
class SharedResult:
    """A result as a reader sees it; the fields are those of the layout.

    Attributes:
        records: (N,) of dtype ``RECORD``.
    """

    results: int
    written_ns: int
    timestamp_ns: int
    frame: int
    dropped: int
    width: int
    height: int
    found: int
    writer: int
    records: npt.NDArray[np.void]


class SharedMemorySink:
    """Writes the newest detections into shared memory; masks are left out.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        capacity: most objects.

    Raises:
        SinkError: if the name is no name, somebody else writes there, or there is no shared memory.
    """

    delivery: Final = "newest"
    pixels: Final = False
    wrote: Final = None

    def __init__(self, name: str, capacity: int = 300) -> None:
        self._capacity = capacity
        self._results = 0
        self._fence = _Fence()
        self._path = _path(name)
        size = _HEADER_SIZE + capacity * RECORD.itemsize
        try:
            self._fd = _open_for_writing(self._path, size)
            self._map = mmap.mmap(self._fd, size)
        except OSError as error:
            busy = isinstance(error, BlockingIOError)
            got = "one that another edgedet writes" if busy else f"{error.strerror}"
            raise SinkError(f"shared memory '{self._path}'", got, "Choose another name for --shm") from error
        (self._lock,) = _LOCK.unpack_from(self._map, _LOCK_AT)
        self._lock += self._lock % 2  # a writer that died in the middle left it odd
        self._publish(_RESULT.pack(*[0] * 9), b"", writer=os.getpid())
        _FIXED.pack_into(self._map, 0, _MAGIC, _VERSION, _HEADER_SIZE, RECORD.itemsize, capacity)

    def write(self, result: StreamResult) -> bool:
        """Replace what is there; see ``Sink.write``.

        Raises:
            SpecError: if the model answers with maps.
        """
        records = _records(result.detections)
        kept = records[: self._capacity]
        frame = result.frame
        self._results += 1
        fields = (frame.sequence, result.dropped, frame.width, frame.height, len(kept), len(records))
        head = _RESULT.pack(self._results, time.monotonic_ns(), frame.timestamp_ns, *fields)
        self._publish(head, kept.tobytes(), writer=os.getpid())
        return True

    def close(self) -> None:
        """Say that the writer has ended, and take the name away; calling it again does nothing."""
        if self._map.closed:
            return
        _WRITER.pack_into(self._map, _WRITER_AT, 0)
        self._map.close()
        if _is_named(self._fd, self._path):
            self._path.unlink()
        os.close(self._fd)

    def _publish(self, head: bytes, records: bytes, *, writer: int) -> None:
        _LOCK.pack_into(self._map, _LOCK_AT, self._lock + 1)
        self._fence.order()
        _WRITER.pack_into(self._map, _WRITER_AT, writer)
        self._map[_RESULT_AT : _RESULT_AT + len(head)] = head
        self._map[_HEADER_SIZE : _HEADER_SIZE + len(records)] = records
        self._fence.order()
        self._lock += 2
        _LOCK.pack_into(self._map, _LOCK_AT, self._lock)


class SharedMemoryReader:
    """Reads what a ``SharedMemorySink`` writes; a context manager.

    Args:
        name: see there.

    Raises:
        SinkError: if there is no such shared memory, or it is laid out differently.
    """

    def __init__(self, name: str) -> None:
        path = _path(name)
        self._fence = _Fence()
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is empty"
            raise SinkError(f"shared memory '{path}'", reason, "Start: edgedet run MODEL --shm NAME") from error
        fixed = _FIXED.unpack_from(self._map, 0) if len(self._map) >= _HEADER_SIZE else ()
        if fixed[:4] != (_MAGIC, _VERSION, _HEADER_SIZE, RECORD.itemsize):
            self._map.close()
            raise SinkError(f"layout {_VERSION} in '{path}'", "another one", "Use the same version on both sides")

    def read(self) -> SharedResult | None:
        """Return a copy of the newest result; None where there is none yet.

        Raises:
            SinkError: if the writer died in the middle of a result.
        """
        for _ in range(_MOST_TRIES):
            (before,) = _LOCK.unpack_from(self._map, _LOCK_AT)
            self._fence.order()
            (writer,) = _WRITER.unpack_from(self._map, _WRITER_AT)
            fields = _RESULT.unpack_from(self._map, _RESULT_AT)
            records = self._map[_HEADER_SIZE : _HEADER_SIZE + fields[7] * RECORD.itemsize]
            self._fence.order()
            if before % 2 == 0 and _LOCK.unpack_from(self._map, _LOCK_AT) == (before,):
                return _shared_result(fields, writer, records)
            time.sleep(0.0001)
        raise SinkError("a result that is finished", "one that its writer left half written", "Start the writer again")

    def close(self) -> None:
        """Let go of the memory."""
        self._map.close()

    def __enter__(self) -> SharedMemoryReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Fence:
    """A memory barrier, which Python has none of: on ARM stores and loads of one thread pass each other else.

    A lock is released with release and taken with acquire semantics. What stands before the release cannot sink below
    it, what stands after the taking cannot rise above it, and ARMv8 keeps the two themselves in order (RCsc).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def order(self) -> None:
        """Keep what stands before from what stands after."""
        self._lock.release()
        self._lock.acquire()


def _open_for_writing(path: Path, size: int) -> int:
    """Open the memory, or make it, and lock it against other writers.

    Raises:
        BlockingIOError: if somebody else writes there.
        OSError: if it cannot be made.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_named(fd, path):  # the writer before has just taken the name away
                os.close(fd)
                continue
            if os.fstat(fd).st_size not in (0, size):  # a dead writer's, of another size, which readers have mapped
                path.unlink()
                os.close(fd)
                continue
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.close(fd)
            raise
        return fd


def _is_named(fd: int, path: Path) -> bool:
    """Tell whether a name still stands for an open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _path(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}", name):
        raise SinkError("a name of letters, digits, '.', '_' and '-'", repr(name), "Write for example --shm camera0")
    return _FOLDER / name


def _records(found: Detections) -> npt.NDArray[np.void]:
    records = np.zeros(len(found), RECORD)
    records["xyxy"] = found.xyxy
    records["score"] = found.score
    records["class_id"] = found.class_id
    records["track_id"] = -1 if found.track_id is None else found.track_id
    return records


def _shared_result(fields: tuple[int, ...], writer: int, records: bytes) -> SharedResult | None:
    results, written_ns, timestamp_ns, frame, dropped, width, height, _, found = fields
    if not results:
        return None
    table = np.frombuffer(records, RECORD)
    return SharedResult(results, written_ns, timestamp_ns, frame, dropped, width, height, found, writer, table)
