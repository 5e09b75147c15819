"""ONNX file to engine, through the parser and builder of TensorRT or TensorRT-RTX.

| file | what it is |
|---|---|
| process.py | `parse_network`, `build_engine`: starts the builder's process, puts its errors in words |
| options.py | what is asked for, and what the two processes tell each other |
| profile.py | the shapes of dynamic inputs, from the ModelSpec |
| tensorrt.py | the builder's process: the only file that calls TensorRT |
| layers.py | the builder's own list of kernels: which runs in which precision |

Nothing is imported here, so that the builder's process loads no more than it needs.
"""
