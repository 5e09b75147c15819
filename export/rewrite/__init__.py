"""Graph passes on an ONNX model, in the order in which they run; each says how many places it touched.

| pass | what it does |
|---|---|
| initializers.py | takes weights off the list of inputs, drops unused ones |
| input_shape.py | fixes or frees the batch axis, fixes the picture size |
| opset.py | converts to another operator set version |
"""

from __future__ import annotations

from edgedet.export.rewrite.initializers import hide_initializers
from edgedet.export.rewrite.input_shape import InputShape, set_input_shape
from edgedet.export.rewrite.opset import convert_opset

__all__ = ["InputShape", "convert_opset", "hide_initializers", "set_input_shape"]
