"""Other tools that quantise ONNX networks, one program each, run by the interpreter that has the tool installed."""
