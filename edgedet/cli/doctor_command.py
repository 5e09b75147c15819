"""``edgedet doctor``: what is there, what is missing, and the command that adds it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import click

from edgedet.diagnosis import Diagnosis, diagnose

__all__ = ["command"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables")
def command(as_json: bool) -> None:
    """Show Python, packages, accelerators and cameras, what is missing and how to add it."""
    found = diagnose()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _print(found)


def _print(found: Diagnosis) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(found):
        facts.add_row(escape(name), escape(value))
    console.print(facts)
    console.print()
    if not found.advice:
        console.print("Nothing is missing")
        return
    console.print("Missing", style="bold")
    for item in found.advice:
        note = f" ({item.note})" if item.note else ""
        console.print(f"  {escape(item.missing)}, for {escape(item.purpose)}{escape(note)}")
        console.print(f"    {escape(item.command)}", style="cyan", soft_wrap=True)


def _facts(found: Diagnosis) -> Iterator[tuple[str, str]]:
    python = found.python
    place = f"environment '{python.prefix}'" if python.virtual else f"no virtual environment ('{python.prefix}')"
    if python.virtual and python.system_site_packages:
        place += " with the system's packages"
    yield "edgedet", found.edgedet
    yield "Python", f"{python.version}, {place}"
    yield "Platform", found.platform
    memory = "" if found.cpu.memory is None else f", {found.cpu.memory / 2**30:.1f} GiB RAM"
    yield "CPU", f"{found.cpu.model}, {found.cpu.cores} cores{memory}"
    yield "Instruction sets", " ".join(found.cpu.instruction_sets) or "none that matter here"
    if found.jetson:
        jetpack = f"JetPack {found.jetson.jetpack}" if found.jetson.jetpack else "JetPack package not installed"
        yield "Jetson", f"{found.jetson.model}, L4T {found.jetson.l4t}, {jetpack}"
    yield from _accelerators(found)
    for package in found.packages:
        wanted = "" if package.fits else f" (needs {package.wanted})"
        yield package.name, f"{package.version or 'not installed'}{wanted}"
    for extra in found.extras:
        state = "complete" if extra.complete else f"lacks {', '.join(extra.lacking)}"
        yield f"edgedet[{extra.name}]", state
    for camera in found.cameras:
        yield camera.device, camera.name + ("" if camera.readable else ", not readable by this user")
    if not found.cameras:
        yield "Cameras", "none (no /dev/video*)"


def _accelerators(found: Diagnosis) -> Iterator[tuple[str, str]]:
    card = found.nvidia
    driver = f"driver {card.driver}" if card.driver else "no driver"
    yield "NVIDIA", ", ".join([*card.gpus, driver, f"libcuda '{card.libcuda}'" if card.libcuda else "no libcuda"])
    yield "CUDA toolkit", f"{card.toolkit} in '{card.toolkit_path}'" if card.toolkit else "none"
    system = ", ".join(f"the system has {item.version} for Python {item.python}" for item in found.tensorrt.system)
    here = f"{found.tensorrt.version} in this Python" if found.tensorrt.version else "not in this Python"
    yield "TensorRT", f"{here}, {system}" if system else here
    runtime = found.onnxruntime
    yield "ONNX Runtime", f"does not load: {runtime.error}" if runtime.error else ", ".join(runtime.providers)
