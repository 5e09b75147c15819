"""The step that every system has in common: its export, checked on the pictures that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from systems.comparison import Image

__all__ = ["export"]


def export(source: Path, folder: Path, pictures: Sequence[Image], **options: Any) -> Path:
    """Export as a user would, with the options of ``export_model``, and return the file."""
    from edgedet.export.pipeline import export_model

    shown = folder / "pictures"
    shown.mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(shown / f"{index}.png"), picture)
    exported = folder / "exported.onnx"
    # Random weights were made to answer to these pictures: in others their rounding errors may grow out of bounds.
    export_model(source, exported, pictures=shown, **options)
    return exported
