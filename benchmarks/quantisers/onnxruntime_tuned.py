"""onnxruntime.quantization.quantize_static with what TensorRT wants and what is known to harm detectors least.

The products and residual sums only, Q/DQ on their inputs alone, symmetric int8, a scale for each channel of the
weights, biases in float; ranges by entropy, as its own TensorRT examples have it.
"""

from __future__ import annotations

from pathlib import Path

from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime_reader import Reader
from task import Feeds, run

OPERATORS = ["Conv", "ConvTranspose", "MatMul", "Gemm", "Add"]


def quantise(network: Path, feeds: Feeds, output: Path) -> None:
    """Quantise with these options."""
    quantize_static(
        str(network),
        str(output),
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": OPERATORS,
            "CalibMaxIntermediateOutputs": 1,
        },
    )


if __name__ == "__main__":
    run(quantise)
