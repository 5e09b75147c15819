"""NNCF's post-training quantisation: symmetric activations, fast bias correction."""

from __future__ import annotations

from pathlib import Path

import nncf
import onnx
from task import Feeds, run


def quantise(network: Path, feeds: Feeds, output: Path) -> None:
    """Quantise with NNCF's preset for speed, which is the symmetric one."""
    quantised = nncf.quantize(
        onnx.load(network),
        nncf.Dataset(list(feeds)),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(feeds),
    )
    onnx.save(quantised, output)


if __name__ == "__main__":
    run(quantise)
