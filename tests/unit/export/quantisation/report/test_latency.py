"""Both networks take turns, as many as there is time for, and the progress reaches its end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.export.onnx_file import load_onnx
from edgedet.export.quantisation.report import latency
from edgedet.model_spec import ModelSpec


@pytest.mark.parametrize(("seconds", "turns"), [(0.0, latency.FEWEST_TURNS), (60.0, latency.MOST_TURNS)])
def test_turns_end_with_the_time_or_their_number(write_model, tmp_path, monkeypatch, seconds, turns):
    monkeypatch.setattr(latency, "SECONDS", seconds)
    model = load_onnx(write_model())
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    picture = tmp_path / "picture.png"
    assert cv2.imwrite(str(picture), np.full((64, 64, 3), 200, np.uint8))
    seen = []
    found = latency.measure_latency(spec, model, model, Path(picture), lambda done, of: seen.append((done, of)))
    assert found.turns == turns and found.threads == 1
    assert found.float_ms > 0 and found.quantised_ms > 0
    assert seen[0] == (1, latency.MOST_TURNS) and seen[-1] == (latency.MOST_TURNS, latency.MOST_TURNS)
    assert found.to_json()["speedup"] == pytest.approx(found.float_ms / found.quantised_ms, abs=1e-3)
    assert found.engine.startswith("ONNX Runtime ")
