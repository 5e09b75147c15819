"""Export a trained model, detect in a picture, draw what was found.

python examples/01_detect.py
"""

from __future__ import annotations

from pathlib import Path

import cv2

import edgedet
from edgedet.runtime.capture import read_image
from edgedet.runtime.overlay import annotate

HERE = Path(__file__).parent
PICTURE = min((HERE / "digits" / "images").glob("*.jpg"))

report = edgedet.export_model(HERE / "models" / "digits.pt", "digits.onnx")
print(f"Exported '{report.output}', worst difference {max(item.max_rel for item in report.differences):.1e}")

with edgedet.load("digits.onnx") as detector:
    image = read_image(PICTURE)
    detections = detector(image)
    for item in detections:
        print(f"{item.class_name}  {item.score:.2f}  {[round(value) for value in item.xyxy]}")

cv2.imwrite("digits.detected.jpg", annotate(image, detections))
print("Drawn in 'digits.detected.jpg'")
