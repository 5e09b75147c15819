"""Engines: what runs a network, one file a backend.

| engine | file | takes |
|---|---|---|
| onnxruntime | onnxruntime.py | .onnx, on the CPU |
"""
