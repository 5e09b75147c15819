"""ModelSpec: how to feed a network and how to read it, as JSON in the metadata of the ONNX file.

The exporter writes it, the runtime needs nothing else. A head is named here with its parameters as plain JSON; what
they mean stands in ``runtime/heads/<name>.py``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgedet.errors import SpecError
from edgedet.schema import from_json, to_json

__all__ = [
    "METADATA_KEY",
    "Channels",
    "DType",
    "Downscale",
    "HeadSpec",
    "InputSpec",
    "Layout",
    "ModelSpec",
    "PadPosition",
    "ProposalFeed",
    "ProposalSpec",
    "Resize",
    "Task",
    "TensorSpec",
    "merge_fragment",
]

METADATA_KEY = "edgedet.spec"
"""Key of the ONNX metadata property that holds the ModelSpec as JSON."""

SPEC_FORMAT = 1

Task = Literal["detect", "instance", "semantic", "panoptic", "localize"]
Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR", "GRAY"]
DType = Literal["float32", "float16", "uint8", "int8"]
Resize = Literal["letterbox", "stretch"]
PadPosition = Literal["center", "bottom_right"]
Downscale = Literal["bilinear", "area"]
ProposalFeed = Literal["crops", "boxes"]


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the network's input tensor.

    Attributes:
        width: network input width in pixels (the default one where ``dynamic_size`` is set).
        height: network input height in pixels.
        name: name of the input tensor.
        batch: pictures per run, or None where any number goes.
        dynamic_size: whether other multiples of ``size_multiple`` may be used for width and height.
        size_multiple: what width and height must be divisible by; the largest stride of the network.
        layout: order of the tensor's axes.
        channels: order of the colour channels in the tensor.
        dtype: element type of the tensor.
        mean: subtracted from each channel, in 0..255 pixel units and in the tensor's channel order.
        std: divides each channel after that, in the same units.
        resize: ``letterbox`` keeps the aspect ratio and pads, ``stretch`` fills the input.
        pad_value: value of padded pixels before normalisation, 0..255.
        pad_position: where the picture sits in a letterbox (``center``, or padded at the ``bottom_right``).
        downscale: how pictures are shrunk to less than half: ``bilinear`` looks at four pixels for each of the input's,
            as most networks were trained; ``area`` averages all that it covers, so that small objects neither flicker
            nor vanish.
    """

    width: int
    height: int
    name: str = "images"
    batch: int | None = 1
    dynamic_size: bool = False
    size_multiple: int = 1
    layout: Layout = "NCHW"
    channels: Channels = "RGB"
    dtype: DType = "float32"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    resize: Resize = "letterbox"
    pad_value: int = 114
    pad_position: PadPosition = "center"
    downscale: Downscale = "bilinear"

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise SpecError("a network input of at least 1x1", f"{self.width}x{self.height}", "Pass --imgsz WxH")
        if self.batch is not None and self.batch < 1:
            raise SpecError("a batch of at least 1", str(self.batch), "Pass --batch N or --batch dynamic")
        if any(value == 0 for value in self.std):
            raise SpecError("an input.std without zeros", str(self.std), "Use 1 where nothing is to be divided")
        if not 0 <= self.pad_value <= 255:
            raise SpecError(
                "an input.pad_value in 0..255", str(self.pad_value), "Use the grey value before normalisation"
            )


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (-1 where dynamic) and element type of a network's tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class HeadSpec:
    """Name of a raw output layout and its parameters (see ``runtime/heads/<name>.py``)."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProposalSpec:
    """The stage in front of a two-stage network that does not propose regions itself (R-CNN, Fast R-CNN).

    Attributes:
        feed: what the network is given. ``crops``: each region of the picture, warped to ``input.width`` x
            ``input.height``, is a picture of its own (R-CNN). ``boxes``: the picture, and beside it the regions as a
            second input (R, 4), float32 xyxy in pixels of the network's input (Fast R-CNN).
        method: what proposes regions (see ``runtime/proposals/<method>.py``).
        parameters: of the method; what is not given has its default.
        count: at most this many regions a picture, the best ones.
        context: pixels of the warped crop, on each of its sides, that show what is around the region; for ``crops``.
        tensor: name of the input that takes the regions; for ``boxes``.
    """

    feed: ProposalFeed
    method: Literal["selective_search"] = "selective_search"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    count: int = 2000
    context: int = 0
    tensor: str = "proposals"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SpecError("a proposals.count of at least 1", str(self.count), "Use 2000, as the papers do")
        if self.context < 0:
            raise SpecError("a proposals.context of at least 0", str(self.context), "Use 16, as the R-CNN paper does")
        if self.context and self.feed == "boxes":
            raise SpecError(
                "a proposals.context for crops only", f"{self.context} with feed 'boxes'", "Leave out proposals.context"
            )

    def check_input(self, image: InputSpec) -> None:
        """Hold the network's picture input against the feed.

        Raises:
            SpecError: if crops are not stretched or are all context, or boxes go with more than one picture.
        """
        if self.feed == "boxes" and image.batch != 1:
            raise SpecError(
                "an input.batch of 1 beside proposals.feed 'boxes', which are of one picture",
                "any batch" if image.batch is None else str(image.batch),
                "Pass --batch 1, or export the network again with one picture",
            )
        if self.feed == "crops" and image.resize != "stretch":
            raise SpecError(
                "input.resize 'stretch' beside proposals.feed 'crops', which are warped to the network's input",
                repr(image.resize),
                "Correct input.resize in the spec",
            )
        if 2 * self.context >= min(image.width, image.height):
            raise SpecError(
                f"a proposals.context below half of the input's {image.width}x{image.height}",
                str(self.context),
                "Use fewer pixels of context",
            )


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to run a network and to read its answer.

    Attributes:
        name: what the user calls the model; taken from the source file's name where it carries none.
        task: what the model answers with.
        head: the layout of the raw outputs.
        input: how pictures are fed.
        outputs: the output tensors that the head reads, in the order in which it reads them.
        class_names: one name per class id.
        proposals: the stage that proposes regions to the network, or None where it looks at whole pictures.
        family: which family of the exporter it came from (provenance only: the runtime never looks at it).
        precision: ``float32``, ``float16``, ``int8`` or a mix such as ``int8+float16``.
        calibration: how the ranges of a quantised model were found, or None.
        source_sha256: SHA-256 of the file that was exported, lower-case hexadecimal.
    """

    name: str
    task: Task
    head: HeadSpec
    input: InputSpec
    outputs: tuple[TensorSpec, ...]
    class_names: tuple[str, ...]
    proposals: ProposalSpec | None = None
    family: str = ""
    precision: str = "float32"
    calibration: Mapping[str, Any] | None = None
    source_sha256: str = ""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise SpecError("at least one output tensor in the spec", "none", "List the outputs that the head reads")
        if self.proposals is not None:
            self.proposals.check_input(self.input)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a JSON object, with its format number."""
        return {"format": SPEC_FORMAT, **to_json(self)}

    @classmethod
    def from_json(cls, value: object) -> ModelSpec:
        """Read a spec from parsed JSON.

        Raises:
            SpecError: if a field is missing, unknown or of the wrong type, or the format is newer than this package.
        """
        if not isinstance(value, Mapping):
            raise SpecError("a ModelSpec as a JSON object", type(value).__name__, "Export the model again")
        fields = dict(value)
        version = fields.pop("format", SPEC_FORMAT)
        if version != SPEC_FORMAT:
            raise SpecError(
                f"a ModelSpec of format {SPEC_FORMAT}",
                f"format {version!r}",
                "Upgrade edgedet, or export the model again",
            )
        return from_json(cls, fields, "spec")

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata properties that carry the spec."""
        return {METADATA_KEY: json.dumps(self.to_json(), separators=(",", ":"), ensure_ascii=False)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelSpec | None:
        """Read the spec from ONNX metadata properties; None where there is none.

        Raises:
            SpecError: if there is one and it cannot be read.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"JSON under {METADATA_KEY!r}", str(error), "Export the model again") from error
        return cls.from_json(value)

    def replace(self, **changes: Any) -> ModelSpec:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)


def merge_fragment(spec: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a partial ModelSpec over a JSON object; objects are merged key by key, everything else is replaced.

    A fragment that names another head replaces the head whole, since the old parameters mean nothing to the new one.
    """
    merged = dict(spec)
    for key, value in fragment.items():
        old = merged.get(key)
        if key == "head" and isinstance(old, Mapping) and isinstance(value, Mapping) and _renames(old, value):
            merged[key] = dict(value)
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_fragment(old, value)
        else:
            merged[key] = value
    return merged


def _renames(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name")
