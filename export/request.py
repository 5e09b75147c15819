"""ExportRequest: what the user asked for, before anything is known about the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet.errors import ExportError
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.model_spec import Task

__all__ = ["ExportRequest"]

_SUFFIXES: Mapping[str, str] = {"int8": ".int8", "float16": ".fp16", "int8+float16": ".int8"}


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """One export as it was asked for; None means "what the source itself says, or the family's default".

    Attributes:
        source: the checkpoint or ONNX file, or a folder that holds one.
        output: the ONNX file to write; where None, ``<source's stem>.onnx`` in the current folder, or
            ``<stem>.edgedet.onnx`` where that is the source itself.
        family: name of a family, with a variant after a colon where it needs one (``torchvision:ssd300_vgg16``), or
            ``package.module:factory`` for a module of the user's own.
        task: what the model is to answer with, where its family leaves the choice (a query mask network answers with
            instances or a panoptic map).
        size: width and height of the network's input in pixels.
        batch: pictures per run, or ``dynamic``.
        class_names: one name per class id.
        opset: version of the ONNX operator set to write.
        keep_nms: leave NonMaxSuppression in an ONNX graph that ends in it.
        trust: whether a pickle of the source may be executed.
        anchors: anchor boxes that the file itself does not carry; what they mean is the family's convention.
        fragment: partial ModelSpec that wins over what the family says.
        pictures: folder of real pictures for the comparison with the source; the package's own where None.
        report: JSON file to write the report to.
        html: HTML page to write about what quantisation did (extra ``report``).
        quantisation: the lower precision that is wanted, or None.
        engine: whether to build the TensorRT engine too; None means where TensorRT and a GPU are.

    Raises:
        ExportError: if a page is wanted without a lower precision.
    """

    source: Path
    output: Path | None = None
    family: str | None = None
    task: Task | None = None
    size: tuple[int, int] | None = None
    batch: int | Literal["dynamic"] | None = None
    class_names: tuple[str, ...] | None = None
    opset: int | None = None
    keep_nms: bool = False
    trust: bool = False
    anchors: npt.NDArray[np.float32] | None = None
    fragment: Mapping[str, Any] = field(default_factory=dict)
    pictures: Path | None = None
    report: Path | None = None
    html: Path | None = None
    quantisation: QuantisationRequest | None = None
    engine: bool | None = False

    def __post_init__(self) -> None:
        if self.html is not None and self.quantisation is None:
            raise ExportError(
                "--int8 or --fp16, which the page is about", "--html alone", "Say which precision is wanted"
            )

    def output_of(self, source: Path) -> Path:
        """Return the file to write for a source; an ONNX source that lies there keeps its name."""
        suffix = "" if self.quantisation is None else _SUFFIXES[self.quantisation.precision]
        output = self.output or Path(f"{source.stem}{suffix}.onnx")
        taken = self.output is None and output.exists() and output.samefile(source)
        return Path(f"{source.stem}.edgedet.onnx") if taken else output

    @property
    def family_name(self) -> str | None:
        """The family without its variant."""
        return None if self.family is None else self.family.partition(":")[0]

    @property
    def variant(self) -> str | None:
        """What stands after the family's colon."""
        return None if self.family is None else self.family.partition(":")[2] or None
