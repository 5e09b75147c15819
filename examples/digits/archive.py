"""Write and read the detector as a torch.export archive which carries its own model description."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from dataset import write_file
from letterbox import PAD_VALUE
from model import DigitDetector
from source_digits import CLASS_NAMES
from torch import nn
from torch.export import Dim, ExportedProgram

DESCRIPTION_NAME = "edgedet.json"


def model_description(side: int) -> dict[str, Any]:
    """Return the part of edgedet's ModelSpec which describes a detector of this input side (pixels)."""
    return {
        "name": "digits",
        "task": "detect",
        "head": {"name": "dense_boxes", "parameters": {"layout": "channels_first", "box_format": "cxcywh"}},
        "input": {
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
        },
        "class_names": list(CLASS_NAMES),
    }


def export_detector(model: DigitDetector) -> ExportedProgram:
    """Export a copy of the model, in eval mode with fused batch norms and a dynamic batch dimension."""
    fused = DigitDetector(model.config).eval()
    fused.load_state_dict(model.state_dict())
    fused.fuse().requires_grad_(False)
    side = model.config.side
    # Two pictures: torch.export takes a sample dimension of 1 for a constant.
    sample = (torch.zeros(2, 3, side, side),)
    return torch.export.export(fused, sample, dynamic_shapes=({0: Dim("batch", min=1)},))


def save_archive(model: DigitDetector, path: Path) -> int:
    """Export the model to an archive and return its size in bytes."""
    program = _slim(export_detector(model))
    buffer = io.BytesIO()
    description = json.dumps(model_description(model.config.side), separators=(",", ":"))
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
