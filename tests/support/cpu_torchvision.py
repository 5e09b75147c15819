"""Make torchvision's compiled operators load beside a CPU build of torch, for tests that compare with them.

torchvision's wheel is linked against CUDA libraries that only a CUDA build of torch brings; its CPU operators never
call them. Stand-ins that merely export the missing names satisfy the loader.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

__all__ = ["load_stand_ins"]


def load_stand_ins(folder: Path) -> bool:
    """Build (once per folder) and load the stand-ins; False where they are not needed or cannot be built."""
    extension = _torchvision_extension()
    if extension is None or not all(shutil.which(tool) for tool in ("nm", "readelf", "gcc")):
        return False
    absent = _absent_libraries(extension)
    if not absent:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    symbols = _undefined_cuda_symbols(extension)
    for library in absent:
        path = folder / library
        if not path.is_file():
            # The names without a library may come from any of them: the first stand-in exports them all.
            _build(path, symbols.pop(library if library in symbols else "", []))
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return True


def _torchvision_extension() -> Path | None:
    torch, torchvision = importlib.util.find_spec("torch"), importlib.util.find_spec("torchvision")
    if torch is None or torchvision is None or torch.origin is None or torchvision.origin is None:
        return None
    has_cuda = (Path(torch.origin).parent / "lib/libc10_cuda.so").exists()
    extension = Path(torchvision.origin).parent / "_C.so"
    return None if has_cuda or not extension.is_file() else extension


def _absent_libraries(extension: Path) -> list[str]:
    listing = _output("readelf", "-d", extension)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", listing)
    return [name for name in needed if "cuda" in name]


def _undefined_cuda_symbols(extension: Path) -> dict[str, list[str]]:
    """Return library -> symbols; under "" the ones whose library the dynamic symbol table does not name."""
    listing = _output("nm", "-D", "--undefined-only", extension)
    found: dict[str, list[str]] = defaultdict(list)
    for line in listing.splitlines():
        name, _, version = line.split()[-1].partition("@")
        if "cuda" in name.lower():
            found[version].append(name)
    return dict(found)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _build(path: Path, symbols: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        (folder / "names.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        (folder / "versions").write_text(f"{path.name} {{ global: *; }};\n")
        command = ["gcc", "-shared", "-fPIC", "-w", "names.c", "-o", path.name, f"-Wl,-soname,{path.name}"]
        if path.name.startswith("libcudart"):
            command.append("-Wl,--version-script=versions")
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / path.name).replace(path)
