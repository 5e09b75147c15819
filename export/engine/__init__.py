"""ONNX file to engine, through the parser and builder of TensorRT or TensorRT-RTX.

| file | what it is |
|---|---|
| process.py | `parse_network`, `build_engine`: starts the builder's process, puts its errors in words |
| options.py | what is asked for, and what the two processes tell each other |
| profile.py | the shapes of dynamic inputs, from the ModelSpec |
| tensorrt.py | the builder's process: the only file that calls TensorRT |
| layers.py | what TensorRT tells of an engine's kernels: which runs in which precision, what broke a fusion |
| build.py | an engine file with its manifest |
| on_device.py, parity.py, timing.py | a new engine held against ONNX Runtime, and in speed against another one |
| cached.py | the engine of an ONNX file for the GPU that is here, found or built once |
| exported.py | the last step of an export |
| known_faults.py | combinations of version, device and network that are known to go wrong |

Nothing is imported here, so that the builder's process loads no more than it needs.
"""
