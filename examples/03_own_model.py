"""Export a PyTorch detector of your own: save it with torch.export and say in a few lines how to feed and read it.

    python examples/03_own_model.py

The fragment is a partial ModelSpec. Heads and their parameters stand in `runtime/heads/`, one file each. The same
fragment may be passed beside any checkpoint with ``edgedet export --spec FILE.json``.
"""

from __future__ import annotations

import json

import torch

import edgedet


class BrightestCell(torch.nn.Module):
    """A "detector" that finds the brightest 16x16 cell: one box a cell, its score the mean brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, 5, cells): centre x, centre y, width, height in pixels and one score, for (B, 3, H, W) in 0..1."""
        score = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 16)
        rows, columns = score.shape[2:]
        y, x = torch.meshgrid(torch.arange(rows) * 16.0 + 8, torch.arange(columns) * 16.0 + 8, indexing="ij")
        size = torch.full_like(x, 16)
        boxes = torch.stack([x, y, size, size]).expand(len(images), 4, rows, columns)
        return torch.cat([boxes, score], 1).flatten(2)


fragment = {
    "name": "brightest-cell",
    "head": {"name": "dense_boxes", "parameters": {"layout": "channels_first", "box_format": "cxcywh"}},
    "input": {"width": 320, "height": 320, "channels": "RGB", "mean": [0, 0, 0], "std": [255, 255, 255]},
    "class_names": ["bright"],
}

program = torch.export.export(BrightestCell().eval(), (torch.zeros(1, 3, 320, 320),))
torch.export.save(program, "brightest_cell.pt2", extra_files={"edgedet.json": json.dumps(fragment)})
report = edgedet.export_model("brightest_cell.pt2", "brightest_cell.onnx")
for step in report.steps:
    print(f"{step.name:10} {step.seconds:6.2f} s  {step.detail}")
print("Try: edgedet run brightest_cell.onnx --source picture.jpg")
