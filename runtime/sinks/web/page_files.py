"""The files of the page, read once: what is served stays the same while the program runs, and needs no disk."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PageFiles", "page_files"]

_FOLDER = Path(__file__).parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFiles:
    """What can be asked for.

    Attributes:
        files: path in the address -> media type and content.
        token_page: shown to those who must say a token first.
        version: changes with the files; a page of another version loads itself again.
    """

    files: dict[str, tuple[str, bytes]]
    token_page: bytes
    version: str


@functools.cache
def page_files() -> PageFiles:
    """Read the files that come with edgedet."""
    contents = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _KINDS}
    token_page = contents.pop("token.html")
    files = {f"/{name}": (_KINDS[Path(name).suffix], content) for name, content in contents.items()}
    files["/"] = files.pop("/index.html")
    digest = hashlib.sha256(b"".join(content for _, content in files.values())).hexdigest()
    return PageFiles(files, token_page, digest[:16])
