"""Write and read networks as torch.export archives which carry their own model descriptions."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import torch
from dataset import write_file
from letterbox import PAD_VALUE
from networks.backbone import fuse
from networks.recipe import Recipe
from source_digits import CLASS_NAMES
from torch import nn
from torch.export import ExportedProgram

DESCRIPTION_NAME = "edgedet.json"


def picture_input(side: int) -> dict[str, Any]:
    """Return edgedet's InputSpec of a network that takes letterboxed RGB pictures, 0..1, of this side (pixels)."""
    return {
        "width": side,
        "height": side,
        "layout": "NCHW",
        "channels": "RGB",
        "dtype": "float32",
        "mean": [0, 0, 0],
        "std": [255, 255, 255],
        "resize": "letterbox",
        "pad_value": PAD_VALUE,
        "pad_position": "center",
    }


def describe(
    name: str,
    head: dict[str, Any],
    side: int,
    task: str = "detect",
    class_names: tuple[str, ...] = tuple(CLASS_NAMES),
    **others: Any,
) -> dict[str, Any]:
    """Return the part of edgedet's ModelSpec that an archive carries; `others` are further fields of it."""
    fields = {"name": name, "task": task, "head": head, "input": picture_input(side), "class_names": list(class_names)}
    return fields | others


def export_network(recipe: Recipe, network: nn.Module) -> ExportedProgram:
    """Export a copy of a network, in eval mode with fused batch norms."""
    fused = fuse(copy.deepcopy(network).eval()).requires_grad_(False)
    # Training keeps weights channels last, which the archive cannot store as one plain block.
    fused.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return torch.export.export(fused, recipe.sample(network), dynamic_shapes=recipe.dynamic_shapes)


def save_archive(recipe: Recipe, network: nn.Module, path: Path) -> int:
    """Export a network to an archive and return its size in bytes."""
    program = _slim(export_network(recipe, network))
    buffer = io.BytesIO()
    description = json.dumps(recipe.describe(network), separators=(",", ":"))
    torch.export.save(program, buffer, extra_files={DESCRIPTION_NAME: description})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, buffer.getvalue())
    return len(buffer.getvalue())


def _slim(program: ExportedProgram) -> ExportedProgram:
    """Drop what only debugging needs: the sample input outweighs the parameters, and traces name local paths."""
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def load_archive(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the runnable module of an archive and its model description."""
    if not path.is_file():
        raise FileNotFoundError(f"no archive at {path}: make one with examples/digits/train.py")
    extra = {DESCRIPTION_NAME: ""}
    with path.open("rb") as stream:
        program = torch.export.load(stream, extra_files=extra)
    return program.module(), json.loads(extra[DESCRIPTION_NAME])
