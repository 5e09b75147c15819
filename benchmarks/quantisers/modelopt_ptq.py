"""NVIDIA Model Optimizer's quantisation of ONNX files, with its default ranges (entropy), the rest in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize
from task import Feeds, run


def quantise(network: Path, feeds: Feeds, output: Path) -> None:
    """Quantise with the defaults, on the CPU."""
    data = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
    quantize(
        str(network),
        quantize_mode="int8",
        calibration_data=data,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(output),
    )


if __name__ == "__main__":
    run(quantise)
