"""What the exporter must know of one of transformers' architectures; the tables are in the files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgedet.export.request import ExportRequest
from edgedet.model_spec import Task
from edgedet.runtime.heads import Head

__all__ = ["Config", "Kind", "MakeHead"]

Config = Mapping[str, Any]
"""The folder's config.json."""
MakeHead = Callable[[Config, tuple[str, ...], ExportRequest], Head]
"""Config, class names, request -> head."""


def _nothing_to_do(model: Any) -> None:
    return None


@dataclass(frozen=True)
class Kind:
    """An architecture.

    Attributes:
        loader: the class of transformers that loads it.
        task: what the model answers with.
        fields: of the model's answer, in the head's order.
        outputs: names of these outputs in the ONNX file.
        head: makes the head.
        padded_input: width and height of the network's input where its size is built in and pictures are fitted into
            its top left corner, black beside them; None where it takes any size, and pictures are stretched to it.
        prepare: makes the loaded model traceable.
        dynamic_batch: whether it can be traced for any number of pictures.
        square: whether its processor means both sides by a size of one number, and 512 by none; else the shorter side.
    """

    loader: str
    task: Task
    fields: tuple[str, ...]
    outputs: tuple[str, ...]
    head: MakeHead
    padded_input: Callable[[Config], tuple[int, int]] | None = None
    prepare: Callable[[Any], None] = _nothing_to_do
    dynamic_batch: bool = True
    square: bool = False
