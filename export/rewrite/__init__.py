"""Graph passes on an ONNX model, in the order in which they run; each says how many places it touched.

| pass | what it does |
|---|---|
| nms_tail.py | cuts NonMaxSuppression off the end, before any family looks at the graph |
| initializers.py | takes weights off the list of inputs, drops unused ones |
| input_shape.py | fixes or frees the batch axis, fixes the picture size |
| opset.py | converts to another operator set version |
| passes.py | runs those that replace what TensorRT refuses: |
| - constants.py | NonZero, Unique and their like of a constant become its value |
| - max_unpool.py | max pooling that remembers places, and its unpooling, become comparisons within windows |
| - resize.py | antialiased and cropping Resize become a matrix product an axis |
| - scatter.py | scatters to constant places become Gather, and arithmetic where they reduce |
| - sequences.py | parts of a split that are picked out of a sequence are sliced instead |
| - topk.py | TopK keeps no more than is read |

What is left is named by ``find_refusals`` in tensorrt.py, a table of what TensorRT refuses and what to do about it.
"""

from __future__ import annotations

from edgedet.export.rewrite.initializers import hide_initializers
from edgedet.export.rewrite.input_shape import InputShape, set_input_shape
from edgedet.export.rewrite.nms_tail import NMS_KEY, NMS_OUTPUTS, NmsTail, cut_nms_tail, find_nms_tail
from edgedet.export.rewrite.opset import convert_opset
from edgedet.export.rewrite.passes import PASSES, run_passes
from edgedet.export.rewrite.tensorrt import RULES, Refusal, find_refusals, summarise

__all__ = [
    "NMS_KEY",
    "NMS_OUTPUTS",
    "PASSES",
    "RULES",
    "InputShape",
    "NmsTail",
    "Refusal",
    "convert_opset",
    "cut_nms_tail",
    "find_nms_tail",
    "find_refusals",
    "hide_initializers",
    "run_passes",
    "set_input_shape",
    "summarise",
]
