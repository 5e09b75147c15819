"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgedet.errors import SinkError

__all__ = ["atomic_file"]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` when the block ends well.

    The temporary name keeps the suffix, because writers choose their format by it.

    Raises:
        SinkError: if the folder is missing or not writable, or the disk is full; `path` is then as it was before.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> SinkError:
    return SinkError(
        f"room and permission to write '{path}'",
        error.strerror or str(error),
        "Choose another place, or free some space",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
