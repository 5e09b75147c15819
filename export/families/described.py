"""Networks that say nothing of themselves: head, input and class names come from a ModelSpec fragment.

The fragment is the file that ``--spec`` names, or ``edgedet.json`` among the extra files of a torch archive; the first
wins over the second, key by key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.family import LoadedModel, Tracer
from edgedet.export.request import ExportRequest
from edgedet.model_spec import HeadSpec, InputSpec, ProposalSpec, Task, TensorSpec, merge_fragment
from edgedet.runtime.heads import HEADS, head_from_spec
from edgedet.schema import from_json

__all__ = ["EXTRA_FILE", "described_model", "read_description"]

EXTRA_FILE = "edgedet.json"
"""The extra file of a TorchScript or torch.export archive that describes the model."""

EXAMPLE = (
    '{"head": {"name": "dense_boxes", "parameters": {"layout": "channels_first"}}, '
    '"input": {"width": 640, "height": 640}, "class_names": ["cat", "dog"]}'
)


def read_description(text: str | bytes, path: Path) -> Mapping[str, Any]:
    """Parse the description inside an archive; empty where there is none.

    Raises:
        ModelFileError: if it is not a JSON object.
    """
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ModelFileError(
            f"JSON in the extra file {EXTRA_FILE}",
            f"{error} in '{path}'",
            "Save the archive again, or pass --spec FILE.json",
        ) from error
    if not isinstance(value, Mapping):
        raise ModelFileError(
            f"a JSON object in the extra file {EXTRA_FILE}", f"{type(value).__name__} in '{path}'", "Save it again"
        )
    return value


@dataclass(frozen=True)
class _Description:
    """The fields of a ModelSpec that a network without a spec needs from outside."""

    head: HeadSpec
    input: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    task: Task | None = None
    proposals: ProposalSpec | None = None
    class_names: tuple[str, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


def described_model(
    network: Any,
    request: ExportRequest,
    *,
    description: Mapping[str, Any] | None = None,
    shape: tuple[int | None, ...] | None = None,
    tracer: Tracer = "dynamo",
    dynamic_batch: bool = True,
) -> LoadedModel:
    """Build a LoadedModel from the description and the user's fragment.

    Args:
        network: the torch network.
        request: its ``fragment`` is laid over `description`; its ``size`` over both.
        description: what the archive itself says.
        shape: of the network's own input tensor, batch included, None for an open axis; where it is known it gives the
            size, and must agree with what is asked for.
        tracer: which exporter the network needs.
        dynamic_batch: whether the batch axis may be made dynamic.

    Raises:
        SpecError: if nothing describes the head or the size, or they contradict the network's own shape.
    """
    merged = merge_fragment(description or {}, request.fragment)
    if "head" not in merged:
        raise SpecError(
            f"a description of the outputs of '{request.source}'",
            "none in the file and none from --spec",
            f"Pass --spec FILE.json, for example {EXAMPLE} (heads: {', '.join(HEADS)})",
        )
    known = {item.name for item in fields(_Description)}
    described = from_json(_Description, {key: value for key, value in merged.items() if key in known}, "spec")
    head = head_from_spec(described.head)
    image = _input_spec(described.input, request, shape)
    boxes = described.proposals is not None and described.proposals.feed == "boxes"
    if boxes and request.batch is not None:
        image = dataclasses.replace(image, batch=None if request.batch == "dynamic" else request.batch)
    if described.proposals is not None:
        described.proposals.check_input(image)
    return LoadedModel(
        network=network,
        head=head,
        input=image,
        class_names=described.class_names or None,
        task=described.task or head.task,
        proposals=described.proposals,
        output_names=tuple(output.name for output in described.outputs) or None,
        name=described.name,
        tracer=tracer,
        dynamic_batch=dynamic_batch and not boxes,
    )


def _input_spec(given: Mapping[str, Any], request: ExportRequest, shape: tuple[int | None, ...] | None) -> InputSpec:
    own = _own_size(given, shape)
    size = request.size or (given.get("width"), given.get("height"))
    width, height = (wanted if wanted is not None else found for wanted, found in zip(size, own, strict=True))
    if width is None or height is None:
        raise SpecError(
            f"the input size of '{request.source}'", "none", "Pass --imgsz N, or input.width and input.height in --spec"
        )
    for wanted, found in ((width, own[0]), (height, own[1])):
        if found is not None and wanted != found:
            raise SpecError(
                f"a network that takes {width}x{height} pixels",
                f"'{request.source}', which was saved for {own[0]}x{own[1]}",
                "Leave out --imgsz, or save the network again with that size",
            )
    batch = {"batch": shape[0]} if shape is not None and "batch" not in given else {}
    return from_json(InputSpec, {**batch, **given, "width": width, "height": height}, "input")


def _own_size(given: Mapping[str, Any], shape: tuple[int | None, ...] | None) -> tuple[int | None, int | None]:
    if shape is None:
        return None, None
    if len(shape) != 4:
        raise SpecError("a network whose input has 4 axes", f"shape {list(shape)}", "Save one that takes pictures")
    height, width = shape[1:3] if given.get("layout") == "NHWC" else shape[2:4]
    return width, height
