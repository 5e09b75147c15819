"""edgedet: trained detectors and segmenters on embedded accelerators.

edgedet.export_model("model.pt", "model.onnx")      # -> ExportReport
detector = edgedet.load("model.onnx")               # -> Detector
answer = detector(image)                            # Detections, ClassMap or PanopticMap; the picture is BGR uint8
                                                    # (H, W, 3), a path, or a list of them
with edgedet.open_stream(detector, "video.mp4") as stream:
    for result in stream: ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedet.export.pipeline import export_model as export_model
    from edgedet.loader import load as load
    from edgedet.loader import open_stream as open_stream
    from edgedet.maps import ClassMap as ClassMap
    from edgedet.maps import PanopticMap as PanopticMap
    from edgedet.results import Detections as Detections

__all__ = ["ClassMap", "Detections", "PanopticMap", "__version__", "export_model", "load", "open_stream"]

__version__ = "0.1.0"

# Resolved on first use, so that importing edgedet loads neither onnxruntime nor OpenCV.
_LAZY = {
    "ClassMap": "edgedet.maps",
    "Detections": "edgedet.results",
    "PanopticMap": "edgedet.maps",
    "export_model": "edgedet.export.pipeline",
    "load": "edgedet.loader",
    "open_stream": "edgedet.loader",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgedet' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
