"""A text file that grows piece by piece, for the sinks that write text."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
from edgedet.runtime.sinks.place import check_place

__all__ = ["TextFile", "json_text"]


def json_text(value: Any) -> str:
    """Return a value as JSON on one line.

    Raises:
        SinkError: if it holds a number that is not finite, which JSON cannot say.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise SinkError("finite boxes and scores", "NaN or infinity", "Check the model, or export it again") from error


class TextFile:
    """Writes to a file that gets its name when it is closed, or at once to a pipe, a device, or standard output.

    ``wrote`` is the quoted path of a regular file once it has its name.

    Args:
        path: a path, or ``-`` for standard output, which is flushed after every piece.
        tail: ends the file.

    Raises:
        SinkError: if nothing can be written there. While writing: if the disk is full; the file is then kept up to the
            last whole piece.
    """

    def __init__(self, path: str | os.PathLike[str], tail: str = "") -> None:
        self._path = Path(path)
        self._tail = tail.encode()
        self.wrote: str | None = None
        self._files = ExitStack()
        self._whole = 0
        self._open = True
        self._direct = self._path.exists() and not self._path.is_file()
        self._raw = None if str(path) == "-" else self._open_file()

    def write(self, piece: str) -> bool:
        """Append text; False where the reader of a pipe has gone."""
        data = piece.encode()
        try:
            self._write(data)
        except BrokenPipeError:
            self._abandon()
            return False
        except OSError as error:
            self._keep_whole_pieces()
            raise SinkError(
                f"room to write {self._place}",
                f"{error.strerror} after {self._whole} bytes",
                "Free some space, or choose another place",
            ) from error
        self._whole += len(data)
        return True

    def close(self) -> None:
        """Write the tail and give the file its name; calling it again does nothing."""
        if self._open:
            self.write(self._tail.decode())
            self._publish()

    def _write(self, data: bytes) -> None:
        if self._raw is None:
            sys.stdout.write(data.decode())
            sys.stdout.flush()
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._raw.write(rest) or 0 :]

    def _open_file(self) -> io.FileIO:
        if self._path.is_dir():
            raise SinkError("a file to write to", f"the folder {self._place}", "Name a file in it")
        check_place(self._path)
        target = self._path if self._direct else self._files.enter_context(atomic_file(self._path))
        try:
            # Without a buffer, so that a full disk shows at the piece that it belongs to.
            return self._files.enter_context(io.FileIO(target, "w"))
        except OSError as error:
            raise SinkError(
                f"permission to write {self._place}", f"{error.strerror}", "Choose another place"
            ) from error

    def _keep_whole_pieces(self) -> None:
        self._open = False
        if self._raw is None or self._direct:
            self._abandon()
            return
        try:
            self._raw.truncate(self._whole)
            self._raw.seek(self._whole)
            self._write(self._tail)
        except OSError:  # not even the tail fits
            self._files.__exit__(*sys.exc_info())
            return
        self._publish()

    def _publish(self) -> None:
        self._open = False
        self._files.close()
        if self._raw is not None and not self._direct:
            self.wrote = self._place

    @property
    def _place(self) -> str:
        return "standard output" if str(self._path) == "-" else f"'{self._path}'"

    def _abandon(self) -> None:
        """Let go of a pipe, a device or standard output that takes no more."""
        self._open = False
        self._files.close()
        if self._raw is None:
            # Python flushes standard output on exit, which would fail once more.
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
