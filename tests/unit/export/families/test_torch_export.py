"""torch.export archives with the lecture's heads in their own description, from the file to the boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import edgedet
from edgedet.cli.export_command import command

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SIZE = 64
BOX = (20, 8, 44, 56)


class BrightSpot(torch.nn.Module):
    """y = [p_c, b_x, b_y, b_h, b_w, bright, dark] of a bright rectangle, from the moments of the brightness."""

    def forward(self, picture: Any) -> Any:
        grey = picture.mean(dim=1)
        at = torch.arange(SIZE, dtype=grey.dtype) + 0.5
        p_c = grey.amax(dim=(1, 2))
        centers, extents = [], []
        for axis in (1, 2):
            weight = grey.sum(dim=axis)
            weight = weight / weight.sum(dim=1, keepdim=True)
            center = (weight * at).sum(dim=1)
            variance = (weight * (at - center[:, None]) ** 2).sum(dim=1)
            centers.append(center / SIZE)
            extents.append(torch.sqrt(12 * variance + 1) / SIZE)  # of n equal values in a row it is (n * n - 1) / 12
        return torch.stack([p_c, *centers, *extents[::-1], p_c, 1 - p_c], dim=1)


class Separate(BrightSpot):
    """The same as class scores and a box."""

    def forward(self, picture: Any) -> Any:
        y = super().forward(picture)
        return y[:, 5:], y[:, [1, 2, 4, 3]]


class BrightCells(torch.nn.Module):
    """A 4 x 4 grid of cells: p_c is the brightness, the box is the cell, 1.5 cells high."""

    def forward(self, picture: Any) -> Any:
        p_c = torch.nn.functional.avg_pool2d(picture.mean(dim=1, keepdim=True), SIZE // 4)
        half, one = torch.full_like(p_c, 0.5), torch.ones_like(p_c)
        return torch.cat([p_c, half, half, 1.5 * one, one, p_c, 1 - p_c], dim=1)


class BrightWindows(torch.nn.Module):
    """A linear classifier of 16 x 16 pixels as a convolution: bright or dark, at every eighth pixel."""

    def forward(self, picture: Any) -> Any:
        bright = torch.nn.functional.avg_pool2d(picture.mean(dim=1, keepdim=True), 16, stride=8)
        return torch.cat([20 * bright - 17.5, 0 * bright], dim=1)


# A module, its head, class names, and what it finds in a picture that is bright in BOX.
CASES = {
    "vector": (
        BrightSpot(),
        {"name": "localizer", "parameters": {"layout": "vector", "box_format": "cxcyhw", "objectness": True}},
        ["bright", "dark"],
        [BOX],
    ),
    "separate": (
        Separate(),
        {"name": "localizer", "parameters": {"box_format": "cxcywh"}},
        ["bright", "dark"],
        [BOX],
    ),
    "grid": (
        BrightCells(),
        {"name": "grid_cells", "parameters": {"layout": "NCHW"}},
        ["bright", "dark"],
        [(x, y, x + 16, y + 24) for x in (16, 32) for y in (12, 28)],  # the four cells that are .75 bright
    ),
    "windows": (
        BrightWindows(),
        {"name": "class_windows", "parameters": {"window": [16, 16], "stride": [8, 8], "background": 1}},
        ["bright"],
        [(24, top, 40, top + 16) for top in (8, 16, 24, 32, 40)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_from_the_archive_to_the_boxes(case: str, tmp_path: Path) -> None:
    module, head, names, expected = CASES[case]
    description = {
        "task": "localize" if head["name"] == "localizer" else "detect",
        "head": head,
        "class_names": names,
        "input": {"width": SIZE, "height": SIZE, "mean": [0, 0, 0], "std": [255, 255, 255], "pad_value": 0},
    }
    program = torch.export.export(module.eval(), (torch.rand(1, 3, SIZE, SIZE),))
    archive, output = tmp_path / "lecture.pt2", tmp_path / "lecture.onnx"
    torch.export.save(program, archive, extra_files={"edgedet.json": json.dumps(description)})
    result = CliRunner().invoke(command, [str(archive), "-o", str(output)])
    assert result.exit_code == 0, result.output
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    with edgedet.load(output, threads=1) as detector:
        found = detector(image)
        assert (detector.spec.task, detector.spec.head.name) == (description["task"], head["name"])
        assert detector.spec.family == "torch_export"
    assert {item.class_name for item in found} == {"bright"}
    np.testing.assert_allclose(sorted(found.xyxy.tolist()), sorted(expected), atol=1e-3)
