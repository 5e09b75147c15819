"""Whether a file or folder can be made where somebody wants it, asked before the work begins."""

from __future__ import annotations

import os
from pathlib import Path

from edgedet.errors import SinkError

__all__ = ["check_place"]


def check_place(path: Path) -> None:
    """Raise SinkError unless a file or folder can be made at a path."""
    if not path.parent.is_dir():
        state = "is no folder" if path.parent.exists() else "does not exist"
        raise SinkError(
            f"a folder to hold '{path.name}'", f"'{path.parent}', which {state}", f"Run: mkdir -p '{path.parent}'"
        )
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise SinkError(f"permission to write '{path}'", "none", "Choose another place")
