"""onnxruntime.quantization.quantize_static as it comes."""

from __future__ import annotations

from pathlib import Path

from onnxruntime.quantization import quantize_static
from onnxruntime_reader import Reader
from task import Feeds, run


def quantise(network: Path, feeds: Feeds, output: Path) -> None:
    """Quantise with the defaults."""
    quantize_static(str(network), str(output), Reader(feeds))


if __name__ == "__main__":
    run(quantise)
