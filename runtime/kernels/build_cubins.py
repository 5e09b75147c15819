"""Builds the shipped cubins and PTX from the kernels' source: ``python -m edgedet.runtime.kernels.build_cubins``.

NVRTC 12.6 makes what it can, because its cubins and PTX load on every driver of CUDA 12.6 and later (JetPack 6 and 7,
and PCs that have not gone to 13); NVRTC 13.0 makes the devices that 12.6 does not know. Neither needs a
GPU. The wheels are in the extra "cubins", and the same source gives the same bytes each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from importlib import metadata
from pathlib import Path

import click

from edgedet.errors import EdgedetError, EngineError, MissingDependencyError
from edgedet.runtime.cuda.nvrtc import Nvrtc
from edgedet.runtime.kernels.sources import CUBINS, OPTIONS, Stage, archive, stages, write_archive

__all__ = ["TARGETS", "build", "compile_stage", "compiler_of", "main"]

_OLD, _NEW = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"

TARGETS = {
    "sm_72": _OLD,  # Jetson Xavier
    "sm_75": _OLD,  # RTX 20, T4
    "sm_86": _OLD,  # RTX 30, A10
    "sm_87": _OLD,  # Jetson Orin
    "sm_89": _OLD,  # RTX 40, L4
    "sm_90": _OLD,  # H100
    "sm_110": _NEW,  # Jetson Thor
    "sm_120": _NEW,  # RTX 50
    "compute_75": _OLD,  # PTX, for all others
}
"""Target -> the package whose NVRTC builds it."""

_VERSIONS = {_OLD: (12, 6), _NEW: (13, 0)}


def build(folder: Path, before: Path | None = None) -> dict[str, int]:
    """Build every stage for every target into a folder, with the manifest.

    Args:
        folder: to write to.
        before: a folder of the same kind; what was built there of the same source by the same compiler is taken over.

    Returns:
        Target -> size of its images in bytes.

    Raises:
        MissingDependencyError: if a package of NVRTC is not installed in the version that is wanted.
        EngineError: if a source does not compile.
    """
    compilers = {package: compiler_of(package) for package in set(TARGETS.values())}
    facts: dict[str, dict[str, dict[str, str]]] = {}
    sizes = {}
    for target, package in TARGETS.items():
        compiler = compilers[package]
        images = _kept(before, target, compiler)
        for stage in stages().values():
            if stage.name not in images:
                images[stage.name] = compile_stage(compiler, stage, target)
        write_archive(folder / f"{target}.tar.xz", images)
        sizes[target] = sum(map(len, images.values()))
        facts[target] = {
            name: {"sha256": hashlib.sha256(image).hexdigest(), "nvrtc": _version(compiler)}
            for name, image in images.items()
        }
    known = {stage.name: {"sha256": stage.sha256, "kernels": stage.kernels} for stage in stages().values()}
    text = json.dumps({"options": OPTIONS, "stages": known, "images": facts}, indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    return sizes


def _kept(before: Path | None, target: str, compiler: Nvrtc) -> dict[str, bytes]:
    """Return the images of an earlier build whose sources and compiler are the same."""
    if before is None or not (before / "manifest.json").is_file() or not (before / f"{target}.tar.xz").is_file():
        return {}
    known = json.loads((before / "manifest.json").read_text(encoding="utf-8"))
    images = {}
    for name, image in archive(before / f"{target}.tar.xz").items():
        facts = known["images"][target][name]
        same = name in stages() and stages()[name].sha256 == known["stages"][name]["sha256"]
        if same and facts == {"sha256": hashlib.sha256(image).hexdigest(), "nvrtc": _version(compiler)}:
            images[name] = image
    return images


def _version(compiler: Nvrtc) -> str:
    return ".".join(map(str, compiler.version))


def compile_stage(compiler: Nvrtc, stage: Stage, target: str) -> bytes:
    """Return the cubin or PTX text of a stage for a target ("sm_87", "compute_75")."""
    options = (*OPTIONS, f"--gpu-architecture={target}")
    # NVRTC ends PTX with a zero byte, which the driver wants and text files do not: the library adds it again.
    return compiler.compile(f"{stage.name}.cu", stage.source, stage.headers, options).rstrip(b"\0")


def compiler_of(package: str) -> Nvrtc:
    """Return the NVRTC of an installed package.

    Raises:
        MissingDependencyError: if it is not installed.
        EngineError: if it is another version than the images are built with.
    """
    wanted = _VERSIONS[package]
    try:
        files = metadata.files(package) or []
        (library,) = (path for path in files if path.name == f"libnvrtc.so.{wanted[0]}")
    except (metadata.PackageNotFoundError, ValueError) as error:
        raise MissingDependencyError(f"the package {package}", str(error), "Run: make cubins") from error
    compiler = Nvrtc(os.fspath(library.locate()))
    if compiler.version != wanted:
        raise EngineError(
            f"NVRTC {wanted[0]}.{wanted[1]} in {package}",
            f"{compiler.version[0]}.{compiler.version[1]}",
            "Install the versions of the extra: pip install 'edgedet[cubins]'",
        )
    return compiler


@click.command()
@click.option("--all", "everything", is_flag=True, help="Build also what is there and up to date")
def main(everything: bool) -> None:
    """Build the shipped cubins from the kernels beside this file."""
    CUBINS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CUBINS.parent, prefix=".cubins.") as name:
        try:
            sizes = build(Path(name), None if everything else CUBINS)
        except EdgedetError as error:
            raise click.ClickException(str(error)) from error
        for path in CUBINS.iterdir():
            if path.name not in {item.name for item in Path(name).iterdir()}:
                path.unlink()
        for path in Path(name).iterdir():
            path.replace(CUBINS / path.name)
    for target, size in sizes.items():
        packed = (CUBINS / f"{target}.tar.xz").stat().st_size
        click.echo(f"{target:<11}{size / 1024:>8.1f} KiB, packed {packed / 1024:>6.1f} KiB")
    click.echo(f"Wrote {len(stages())} stages for {len(sizes)} targets to '{CUBINS}'")


if __name__ == "__main__":
    main()
