"""Addresses of network streams."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["is_address", "without_credentials"]

_ADDRESS = re.compile(r"(rtsps?|rtmps?|udp|tcp|https?)://", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Tell whether a text is the address of a stream, not a path."""
    return _ADDRESS.match(text) is not None


def without_credentials(address: str) -> tuple[str, str]:
    """Return the address to show, and a stem for file names."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    shown = parts._replace(netloc=host, query="", fragment="").geturl()
    return shown, Path(parts.path).stem or host.replace(":", "_") or "stream"
