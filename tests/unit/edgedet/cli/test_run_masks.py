"""``edgedet run`` with a network of masks: JSON lines, COCO results and pictures have them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.cli.main import main
from edgedet.masks import Masks
from edgedet.results import Detections


def test_masks_go_every_way_out(
    mask_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    assert cv2.imwrite("in/7.png", np.full((128, 128, 3), 255, np.uint8))
    ways = ["--json", "out.jsonl", "--coco", "out.json", "--out", "drawn"]
    monkeypatch.setattr("sys.argv", ["edgedet", "run", str(mask_model), "--source", "in", *ways, "--threads", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None), capsys.readouterr().err
    assert "1 picture, 2 objects: 1 dog, 1 cat" in capsys.readouterr().out
    expected = np.zeros((2, 128, 128), np.bool_)
    expected[0, 16:48, 16:48] = expected[1, 60:120, 20:48] = True
    (line,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
    from_json = Masks.from_rle([item["mask"] for item in line["detections"]], 128, 128)
    from_coco = Detections.from_coco(json.loads(Path("out.json").read_text())).masks
    assert from_coco is not None
    for masks in (from_json, from_coco):
        np.testing.assert_array_equal(masks.bitmaps(), expected)
    drawn = cv2.imread("drawn/7.png")
    assert (drawn[40, 40] != 255).any(), "tinted inside the mask"
    assert (drawn[40, 60] == 255).all(), "in the box and not in the mask"
