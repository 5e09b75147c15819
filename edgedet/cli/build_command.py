"""``edgedet build``: an ONNX file to a TensorRT or TensorRT-RTX engine with its manifest."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from edgedet.errors import EngineError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgedet.export.engine.build import BuildReport
    from edgedet.export.engine.options import EngineOptions
    from edgedet.target import Target

__all__ = ["command"]

PASSPHRASE_VARIABLE = "EDGEDET_SIGN_PASSPHRASE"  # noqa: S105  # the name of a variable
"""Environment variable with the passphrase of the key that signs, for programs that cannot be asked."""


_BREAKS = 3
"""Places where a fusion was broken that are shown."""

_NODES = 2
"""Names of nodes that are listed of one kernel."""


def _batch(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise click.BadParameter(f"Expected a number of pictures such as 4, or a range such as 1..8, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _workspace(_context: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch("0*[1-9][0-9]*", text):
        raise click.BadParameter(f"Expected auto or a number of MiB, got {text!r}")
    return int(text)


def _targets(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, metavar="ENGINE", help="Where to write it [default: MODEL.engine]")
@click.option(
    "--flavour", type=click.Choice(["tensorrt", "rtx"]), help="Whose builder [default: TensorRT, else TensorRT-RTX]"
)
@click.option(
    "--target",
    "targets",
    callback=_targets,
    metavar="sm_86,...",
    help="GPUs to build for ahead of time, with rtx [default: the GPU that is here]",
)
@click.option(
    "--batch", callback=_batch, metavar="N|N..M", help="Pictures per run, of a network whose batch is dynamic"
)
@click.option("--workspace", callback=_workspace, default="auto", show_default=True, metavar="auto|MiB")
@click.option(
    "--opt-level", type=click.IntRange(0, 5), metavar="0-5", help="How long the builder may search for faster kernels"
)
@click.option(
    "--timing-cache",
    type=_FILE,
    metavar="FILE",
    help="Times of kernels for the next build [default: kept with edgedet engines, for each device]",
)
@click.option("--dla", type=click.IntRange(0, 1), metavar="0|1", help="Deep-learning accelerator of a Jetson Orin")
@click.option("--version-compatible", is_flag=True, help="Let later versions of TensorRT run it too, a little slower")
@click.option("--hardware-compatible", is_flag=True, help="Let kindred GPUs run it too, a little slower")
@click.option("--sign", type=_FILE, metavar="KEY", help="Sign it with the private key that edgedet keygen made")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Pictures on which the engine is held against ONNX Runtime [default: the package's own]",
)
@click.option(
    "--compare",
    type=_FILE,
    metavar="OTHER.onnx",
    help="The same model in another precision: time both engines on the GPU that is here, and say which pays",
)
@click.option("--verbose-layers", is_flag=True, help="List every kernel with the types that it works on")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables")
def command(
    model: Path,
    output: Path | None,
    flavour: Literal["tensorrt", "rtx"] | None,
    targets: tuple[str, ...],
    batch: tuple[int, int] | None,
    workspace: int | None,
    opt_level: int | None,
    timing_cache: Path | None,
    dla: int | None,
    version_compatible: bool,
    hardware_compatible: bool,
    sign: Path | None,
    pictures: Path | None,
    compare: Path | None,
    verbose_layers: bool,
    as_json: bool,
) -> None:
    """Build the engine of an ONNX MODEL for the GPU that is here, or ahead of time for others.

    Precision is what the file says: quantise with edgedet export --int8 first.
    """
    from edgedet.export.engine.options import EngineOptions

    options = EngineOptions(
        flavour=flavour or _choose(targets),
        targets=targets,
        batch=batch,
        optimization_level=opt_level,
        workspace=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        dla=dla,
    )
    key = None if sign is None else _private_key(sign)
    checks = _Checks(pictures, compare)
    report = _build(model, output or model.with_suffix(".engine"), options, key, checks, quiet=as_json)
    if as_json:
        record = report.to_json()
        if verbose_layers:
            record["listing"] = _listing(report)
        click.echo(json.dumps(record, indent=2))
    else:
        _print(report, verbose=verbose_layers)


def _choose(targets: tuple[str, ...]) -> Literal["tensorrt", "rtx"]:
    """Return TensorRT where it is, else TensorRT-RTX; a build ahead of time is for the latter only."""
    from edgedet.runtime.engines.tensorrt_module import find_module

    if targets:
        return "rtx"
    try:
        find_module("tensorrt")
    except MissingDependencyError:
        try:
            find_module("rtx")
        except MissingDependencyError:
            return "tensorrt"
        return "rtx"
    return "tensorrt"


def _private_key(path: Path) -> Ed25519PrivateKey:
    from edgedet.engine_store.signature import is_encrypted, read_private_key

    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is None and is_encrypted(path):
        passphrase = click.prompt(f"Passphrase of '{path}'", hide_input=True)
    return read_private_key(path, None if passphrase is None else passphrase.encode())


@dataclass(frozen=True)
class _Checks:
    """What a new engine is held against: ONNX Runtime on a folder of pictures, and another engine in speed."""

    pictures: Path | None
    compare: Path | None


def _build(
    model: Path,
    output: Path,
    options: EngineOptions,
    key: Ed25519PrivateKey | None,
    checks: _Checks,
    *,
    quiet: bool,
) -> BuildReport:
    from rich.console import Console
    from rich.progress import Progress

    from edgedet.engine_store.trust import Trust
    from edgedet.export.engine.build import build_file

    if output.suffix == ".onnx":
        raise EngineError("an engine's name for the output", f"'{output}'", "Pass -o NAME.engine")
    if options.targets and checks.compare is not None:
        raise EngineError(
            "a build for the GPU that is here, to time it",
            ", ".join(options.targets),
            "Leave out --target or --compare",
        )
    target = _target(options)
    _warn(model, options, target)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        bars: dict[str, Any] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in bars:
                bars[phase] = progress.add_task(phase, total=total)
            progress.update(bars[phase], completed=done, total=max(total, done))

        if options.targets:
            return build_file(model, output, options, target, trust=Trust(), key=key, on_progress=show)
        from edgedet.engine_store.cache import EngineCache
        from edgedet.export.engine.cached import find_or_build, timing_cache
        from edgedet.export.engine.on_device import check_on_device
        from edgedet.runtime.cuda.device import Device
        from edgedet.runtime.engines.tensorrt_module import load_module

        with Device() as device:
            against = None
            if checks.compare is not None:
                kept = find_or_build(checks.compare, options, device, Trust(), on_progress=show)
                against = kept.engine
            check = check_on_device(model, device, checks.pictures, against=against, on_progress=show)
            version = str(load_module(options.flavour).__version__)
            timed = timing_cache(EngineCache().folder, options, version, target)
            return build_file(model, output, timed, target, trust=Trust(), key=key, check=check, on_progress=show)


def _warn(model: Path, options: EngineOptions, target: Target) -> None:
    from edgedet.export.engine.known_faults import find_faults, installed_version
    from edgedet.export.onnx_file import load_onnx

    version = installed_version(options.flavour)
    for fault in find_faults(load_onnx(model), options.flavour, version, target) if version else ():
        click.echo(f"Warning: {options.flavour} {version}: {fault.what}. {fault.action} ({fault.source})", err=True)


def _target(options: EngineOptions) -> Target:
    from edgedet.target import Target

    if options.targets:
        return Target(options.targets)
    from edgedet.runtime.cuda.target import current_target

    return current_target()


def _print(report: BuildReport, *, verbose: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    manifest = report.manifest
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("Engine", f"'{report.path}', {manifest.plan_bytes / 1e6:.2f} MB")
    table.add_row("For", str(manifest.target))
    table.add_row("Built by", f"{manifest.flavour} {manifest.version} in {report.seconds:.1f} s")
    layers = report.layers
    if layers is not None:
        shares = f"{layers.int8_share:.0%} INT8, {layers.half_share:.0%} FP16, {layers.float_share:.0%} FP32"
        table.add_row("Products", f"{layers.products} convolutions and matrix products: {shares}")
        reformats = f", {len(layers.reformats)} of them only change a tensor's type" if layers.reformats else ""
        table.add_row("Kernels", f"{layers.kernels}{reformats}")
        shown = "; ".join(layers.breaks[:_BREAKS])
        more = f" and {len(layers.breaks) - _BREAKS} more" * (len(layers.breaks) > _BREAKS)
        if shown:
            table.add_row("Not fused", escape(shown + more))
    for name, figure in _checked(manifest.report):
        table.add_row(name, escape(figure))
    console.print(table)
    for warning in report.warnings:
        console.print(f"Warning: {escape(warning)}", soft_wrap=True)
    if verbose:
        console.print(_kernels(report))
    if manifest.target.gpu and "speed" not in manifest.report and "int8" in (manifest.spec or {}).get("precision", ""):
        console.print(
            "Is INT8 faster than FP16 here? edgedet export MODEL --fp16, then edgedet build --compare tells",
            soft_wrap=True,
        )
    console.print(f"Next: edgedet run '{report.path}' --source PICTURE", soft_wrap=True, markup=False)


def _checked(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was found when the engine was run."""
    parity, speed = report.get("parity"), report.get("speed")
    if parity is not None:
        yield "Answers", f"{parity['apart']:.1%} apart from ONNX Runtime's on {parity['pictures']} pictures"
    if speed is not None:
        yield "Speed", speed["verdict"]


def _kernels(report: BuildReport) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("Kernel", "Type", "Reads", "Writes", "From", box=None, pad_edge=False, header_style="bold")
    for layer in report.listing:
        reads, writes = _counted((*layer.inputs, *layer.constants)), _counted(layer.outputs)
        nodes = ", ".join(layer.nodes[:_NODES]) + (
            f" and {len(layer.nodes) - _NODES} more" * (len(layer.nodes) > _NODES)
        )
        table.add_row(*map(escape, (layer.name, layer.type, reads, writes, nodes)))
    return table


def _counted(types: tuple[str, ...]) -> str:
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in Counter(types).items())


def _listing(report: BuildReport) -> list[dict[str, Any]]:
    return [
        {
            "name": layer.name,
            "type": layer.type,
            "reads": [*layer.inputs, *layer.constants],
            "writes": list(layer.outputs),
            "nodes": list(layer.nodes),
        }
        for layer in report.listing
    ]
