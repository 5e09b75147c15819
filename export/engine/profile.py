"""The shapes that a network's dynamic inputs may have, from its ModelSpec."""

from __future__ import annotations

import onnx

from edgedet.errors import SpecError
from edgedet.export.engine.options import ShapeRange
from edgedet.export.onnx_file import graph_inputs
from edgedet.model_spec import ModelSpec, TensorSpec

__all__ = ["shape_ranges"]


def shape_ranges(model: onnx.ModelProto, batch: tuple[int, int] | None = None) -> tuple[ShapeRange, ...]:
    """Return the range of each input that has dynamic axes.

    The batch may be anything in `batch` and is expected to be its upper end; the picture has the size of the spec; the
    regions of a proposal stage are anything from one to the spec's count.

    Args:
        model: the network, with its spec where edgedet exported it.
        batch: fewest and most pictures per run; one where None.

    Raises:
        SpecError: if a range is asked of a network with a fixed batch, or axes other than the batch are dynamic and
            there is no spec that tells their size.
    """
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in model.metadata_props})
    dynamic = [value for value in graph_inputs(model) if any(axis < 1 for axis in value.shape)]
    regions = None if spec is None or spec.proposals is None else spec.proposals.tensor
    if batch is not None and not any(value.shape[0] < 1 for value in dynamic if value.name != regions):
        raise SpecError(
            "a network with a dynamic batch", "one whose batch is fixed", "Leave out the batch, or export it again"
        )
    return tuple(_range(value, spec, batch or (1, 1)) for value in dynamic)


def _range(value: TensorSpec, spec: ModelSpec | None, batch: tuple[int, int]) -> ShapeRange:
    first = batch
    rest = value.shape[1:]
    if spec is not None and spec.proposals is not None and value.name == spec.proposals.tensor:
        first = (1, spec.proposals.count)
    elif spec is not None and value.name == spec.input.name:
        size = (spec.input.height, spec.input.width)
        rest = (rest[0], *size) if spec.input.layout == "NCHW" else (*size, rest[-1])
    if any(axis < 1 for axis in rest):
        raise SpecError(
            f"input '{value.name}' with a known size",
            "x".join("?" if axis < 1 else str(axis) for axis in value.shape),
            "Export the model with edgedet, which writes its size into the file",
        )
    low, high = first if value.shape[0] < 1 else (value.shape[0], value.shape[0])
    return ShapeRange(value.name, (low, *rest), (high, *rest), (high, *rest))
