"""QuantisationRequest: what precision the user asked for, on which pictures, and how much it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedet.errors import ExportError
from edgedet.export.quantisation.placement import Target
from edgedet.export.quantisation.ranges import Method

__all__ = ["Precision", "QuantisationRequest"]

Precision = Literal["int8", "float16", "int8+float16"]
"""``int8`` leaves what is not quantised in float32, ``int8+float16`` in float16."""


@dataclass(frozen=True)
class QuantisationRequest:
    """A lower precision as it was asked for.

    Attributes:
        precision: what to write.
        calib: folder of the pictures that ranges are taken from; for float16 alone the package's own where None.
        data: labelled set that decides (see ``edgedet eval --data``); the float network's own answers on the
            calibration pictures where None.
        max_drop: points of the metric (hundredths) that may be lost.
        target: the engine that the Q/DQ are placed for.
        method: how ranges are chosen; ``auto`` tries several and takes the one that changes the answers least.
        calib_cache: folder in which the statistics of the pictures are kept for another time; none where None.
        calib_count: how many of the calibration pictures to use, evenly spread; all where None.
        keep_float: patterns (as in a shell) of the names of nodes that stay in float.
        min_int8: share of the multiply-accumulates, 0..1, that must end in INT8 layers.
        force: write the network even where it loses more than it may.
    """

    precision: Precision
    calib: Path | None = None
    data: Path | None = None
    max_drop: float = 1.0
    target: Target = "tensorrt"
    method: Method | Literal["auto"] = "auto"
    calib_cache: Path | None = None
    calib_count: int | None = None
    keep_float: tuple[str, ...] = ()
    min_int8: float = 0.5
    force: bool = False

    def __post_init__(self) -> None:
        if self.calib is None and self.precision != "float16":
            raise ExportError(
                "a folder of pictures such as the camera will give", "--int8 without one", "Pass --calib DIR"
            )
        if self.target == "cpu" and self.precision != "int8":
            raise ExportError(
                "a precision that ONNX Runtime runs fast on a CPU (--int8)",
                "--fp16 with --target cpu",
                "Leave out --fp16, or pass --target tensorrt",
            )
        if self.max_drop < 0:
            raise ExportError("a --max-drop of 0 points or more", str(self.max_drop), "Pass --max-drop 1.0, say")
