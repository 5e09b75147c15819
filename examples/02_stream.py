"""Detect in a video with reading, pre-processing and inference overlapped, and see where the time goes.

python examples/02_stream.py                      # the digits video
python examples/02_stream.py model.onnx rtsp://camera/live
"""

from __future__ import annotations

import sys
from pathlib import Path

import edgedet

HERE = Path(__file__).parent

if len(sys.argv) == 3:
    model, source = sys.argv[1:]
else:
    model, source = "digits.onnx", str(HERE / "digits" / "digits.mp4")
    edgedet.export_model(HERE / "models" / "digits.pt", model)

with edgedet.open_stream(model, source) as stream:
    for result in stream:
        names = " ".join(item.class_name for item in result.detections)
        print(f"frame {result.frame.sequence:4d}  {result.latencies.infer:5.1f} ms  {names}")
    print(stream.statistics)
