"""Detect in a picture, and draw what was found.

python examples/01_picture.py                         # handwritten digits, with the model that comes with edgedet
python examples/01_picture.py model.onnx photo.jpg    # your own: edgedet export makes model.onnx of a checkpoint
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

import edgedet
from edgedet.runtime.capture import read_image
from edgedet.runtime.overlay import annotate

DEMO = Path(edgedet.__file__).parent / "demo"
PICTURE = min((Path(__file__).parent / "digits" / "images").glob("*.jpg"))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", nargs="?", default=DEMO / "digits.int8.onnx", help="a file that edgedet export wrote")
parser.add_argument("picture", nargs="?", default=PICTURE)
arguments = parser.parse_args()

with edgedet.load(arguments.model) as detector:
    image = read_image(arguments.picture)
    detections = detector(image)

for item in detections:
    print(f"{item.class_name}  {item.score:.2f}  {[round(value) for value in item.xyxy]}")

out = f"{Path(arguments.picture).stem}.detected.jpg"
cv2.imwrite(out, annotate(image, detections))
print(f"Drawn in '{out}'")
