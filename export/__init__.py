"""The exporter: checkpoint -> ONNX -> checked ONNX with its ModelSpec.

`pipeline.py` reads as the recipe; `families/` knows whose file it is.
"""
