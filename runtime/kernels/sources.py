"""The kernels' source, and the cubins that were built of it and are shipped beside it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.errors import EngineError

__all__ = ["CUBINS", "MANIFEST", "OPTIONS", "Stage", "archive", "manifest", "read_image", "stages", "write_archive"]

_FOLDER = Path(__file__).resolve().parent

CUBINS = _FOLDER / "cubins"
"""Where the built images are: an archive for each target, ``sm_XY.tar.xz`` or ``compute_XY.tar.xz``, and their list."""

MANIFEST = CUBINS / "manifest.json"

OPTIONS = ("--std=c++17", "--fmad=false")
"""Of the compiler: a product and a sum are rounded on their own, as NumPy does; no fast maths."""

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(')
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Stage:
    """A .cu file with all that it includes.

    Args:
        name: of the file, without ".cu".
        source: its text.
        headers: name -> text of each .cuh that it includes, directly or not.
    """

    name: str
    source: bytes
    headers: Mapping[str, bytes]

    @property
    def kernels(self) -> tuple[str, ...]:
        """The names of its __global__ functions."""
        return tuple(_KERNEL.findall(self.source.decode()))

    @property
    def sha256(self) -> str:
        """Of the source, the headers and the compiler's options."""
        parts = [" ".join(OPTIONS).encode(), self.source]
        for name in sorted(self.headers):
            parts += [name.encode(), self.headers[name]]
        return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@functools.cache
def stages() -> Mapping[str, Stage]:
    """Return name -> stage of every .cu file of the package."""
    return {path.stem: _stage(path) for path in sorted(_FOLDER.glob("*.cu"))}


def _stage(path: Path) -> Stage:
    source = path.read_bytes()
    headers: dict[str, bytes] = {}
    pending = [source]
    while pending:
        for name in _INCLUDE.findall(pending.pop().decode()):
            if name not in headers:
                headers[name] = (_FOLDER / name).read_bytes()
                pending.append(headers[name])
    return Stage(path.stem, source, headers)


@functools.cache
def manifest() -> Mapping[str, Any]:
    """Return what is known of the shipped images.

    ``{"stages": {STAGE: {"sha256": of its source, "kernels": [...]}},
    "images": {TARGET: {STAGE: {"sha256": of the image, "nvrtc": its version}}}}``

    Raises:
        EngineError: if the file is missing or damaged.
    """
    try:
        read = json.loads(MANIFEST.read_text(encoding="utf-8"))
        return {"stages": dict(read["stages"]), "images": dict(read["images"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the list of the built kernels, '{MANIFEST}'", str(error), _AGAIN) from error


def read_image(target: str, stage: str) -> bytes:
    """Return a shipped cubin or PTX text.

    Args:
        target: as the manifest names it ("sm_87").
        stage: name of the .cu file.

    Raises:
        EngineError: if it is missing, or not what was built.
    """
    path = CUBINS / f"{target}.tar.xz"
    try:
        image = archive(path)[stage]
    except (OSError, EOFError, KeyError, tarfile.TarError, lzma.LZMAError) as error:
        raise EngineError(f"the built kernels of {stage} in '{path}'", f"{error!r}", _AGAIN) from error
    if hashlib.sha256(image).hexdigest() != manifest()["images"][target][stage]["sha256"]:
        raise EngineError(f"the built kernels of {stage} in '{path}' as they were built", "other bytes", _AGAIN)
    return image


def archive(path: Path) -> Mapping[str, bytes]:
    """Return stage -> image of an archive that `write_archive` wrote."""
    with tarfile.open(path, "r:xz") as members:
        return {name: member.read() for name in members.getnames() if (member := members.extractfile(name))}


def write_archive(path: Path, images: Mapping[str, bytes]) -> None:
    """Write stage -> image; the same images give the same bytes."""
    with tarfile.open(path, "w:xz", preset=9) as members:
        for name in sorted(images):
            member = tarfile.TarInfo(name)
            member.size = len(images[name])
            members.addfile(member, io.BytesIO(images[name]))


_AGAIN = "Install edgedet again; in a checkout, build them with: make cubins"
