"""Raw anchor grids as YOLO families export them: find the levels among the outputs, find their anchors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgedet.errors import SpecError
from edgedet.export.families.family import LoadedModel
from edgedet.export.families.fragment import head_with_fragment
from edgedet.export.families.layouts import usual_class_names
from edgedet.export.families.onnx_edits import join_last_axes
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input
from edgedet.export.request import ExportRequest
from edgedet.model_spec import InputSpec, TensorSpec
from edgedet.runtime.heads.anchor_grid import AnchorGrid
from edgedet.runtime.heads.grids import level_sizes

__all__ = ["AnchorSet", "GridLevel", "anchor_levels", "grid_levels", "read_anchor_grids"]

Anchors = tuple[tuple[tuple[float, float], ...], ...]

_STRIDES = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class AnchorSet:
    """Published anchors of a network, with the formula that they belong to.

    Attributes:
        anchors: width and height in input pixels, level by level from the finest up.
        box_decode: see ``AnchorGrid``.
        class_activation: see ``AnchorGrid``.
        scale_xy: see ``AnchorGrid``; from the finest level up.
    """

    anchors: Anchors
    box_decode: Literal["exp", "sigmoid_squared"] = "exp"
    class_activation: Literal["sigmoid", "softmax"] = "sigmoid"
    scale_xy: tuple[float, ...] = ()


@dataclass(frozen=True)
class GridLevel:
    """An output that is a grid of cells.

    Attributes:
        name: of the output.
        layout: order of its axes; ``NHWKC`` is (B, H, W, K, 5+C).
        stride: input pixels a cell.
        anchors: K, where the shape shows it.
        channels: of one anchor where the shape shows K, else of a cell.
    """

    name: str
    layout: Literal["NCHW", "NHWC", "NKHWC", "NHWKC"]
    stride: int
    anchors: int | None
    channels: int


def anchor_levels(numbers: str, levels: int) -> Anchors:
    """Parse anchors as configuration files list them ("10,13, 16,30, ..."), finest level first."""
    values = [float(value) for value in numbers.split(",")]
    pairs = list(zip(values[::2], values[1::2], strict=True))
    each = len(pairs) // levels
    return tuple(tuple(pairs[level * each : (level + 1) * each]) for level in range(levels))


def grid_levels(network: OnnxNetwork) -> tuple[GridLevel, ...]:
    """Return the outputs as grid levels, finest first; empty where one of them is no grid or two have one stride."""
    levels = [_grid_level(output, network.size) for output in network.outputs]
    found = sorted((level for level in levels if level is not None), key=lambda level: level.stride)
    strides = {level.stride for level in found}
    layouts = {level.layout for level in found}
    return tuple(found) if len(strides) == len(levels) and len(layouts) == 1 else ()


def read_anchor_grids(
    network: OnnxNetwork, request: ExportRequest, published: Mapping[str, AnchorSet], chosen: str, convention: InputSpec
) -> LoadedModel:
    """Read a network whose outputs are raw anchor grids.

    Args:
        network: at its final size.
        request: ``anchors``, in input pixels from the finest level up, replaces the published ones.
        published: the family's anchor sets.
        chosen: which of them; where its number of levels differs, the anchors must come from the user.
        convention: how the family's pictures are fed.

    Raises:
        SpecError: if the outputs are no grids, are activated already, or no anchors fit.
    """
    levels = grid_levels(network)
    if not levels:
        raise _no_grids(network)
    _require_raw(network, levels)
    anchors = _Anchors(network, levels, published[chosen], request)
    head = head_with_fragment(
        request,
        AnchorGrid,
        anchors=anchors.values,
        strides=tuple(level.stride for level in levels),
        box_decode=published[chosen].box_decode,
        class_activation=published[chosen].class_activation,
        scale_xy=published[chosen].scale_xy if len(published[chosen].scale_xy) == len(levels) else (),
        layout="NHWC" if levels[0].layout == "NHWKC" else levels[0].layout,
    )
    model, names = network.model, tuple(level.name for level in levels)
    if levels[0].layout == "NHWKC":
        model, names = join_last_axes(model, names), tuple(f"{name}_joined" for name in names)
    return LoadedModel(
        network=model,
        head=head,
        input=picture_input(network, convention),
        class_names=usual_class_names(_class_count(levels[0], head)),
        output_names=names,
        notes=anchors.notes(chosen) if isinstance(head, AnchorGrid) else (),
    )


@dataclass(frozen=True, eq=False)
class _Anchors:
    """Where the anchors come from: the user's file, or what was published for the network."""

    network: OnnxNetwork
    levels: tuple[GridLevel, ...]
    published: AnchorSet
    request: ExportRequest

    def values(self) -> Anchors:
        if self.request.anchors is not None:
            return self._from_file()
        anchors = self.published.anchors
        if len(anchors) != len(self.levels) or not all(map(_fits, self.levels, anchors)):
            strides = ", ".join(str(level.stride) for level in self.levels)
            raise SpecError(
                f"anchors for the grid{'' if len(self.levels) == 1 else 's'} of stride {strides}",
                f"published ones for {len(anchors)} levels with {len(anchors[0])} each, which don't fit the outputs",
                "Pass yours with --anchors FILE.json: a list of [width, height] in pixels for each level, finest first",
            )
        return anchors

    def notes(self, chosen: str) -> tuple[str, ...]:
        given = self.request.fragment.get("head", {}).get("parameters", {})
        if self.request.anchors is not None or "anchors" in given:
            return ()
        return (f"The anchors are those of {chosen}; pass --anchors if it was trained with others",)

    def _from_file(self) -> Anchors:
        assert self.request.anchors is not None
        values, count = self.request.anchors, len(self.levels)
        if values.size == 0 or values.size % (2 * count):
            raise SpecError(
                f"anchors as {count} lists of [width, height], one for each output",
                f"an array of shape {list(values.shape)}",
                "Correct the --anchors file",
            )
        by_level = values.reshape(count, -1, 2)
        return tuple(tuple((float(w), float(h)) for w, h in level) for level in by_level)


def _grid_level(output: TensorSpec, size: tuple[int, int]) -> GridLevel | None:
    shape = output.shape
    if min(size) < 1 or -1 in shape[1:] or not output.dtype.startswith("float"):
        return None
    for stride in _STRIDES:
        columns, rows = level_sizes(size, (stride,))[0]
        if len(shape) == 4 and shape[2:] == (rows, columns):
            return GridLevel(output.name, "NCHW", stride, None, shape[1])
        if len(shape) == 4 and shape[1:3] == (rows, columns):
            return GridLevel(output.name, "NHWC", stride, None, shape[3])
        if len(shape) == 5 and shape[2:4] == (rows, columns):
            return GridLevel(output.name, "NKHWC", stride, shape[1], shape[4])
        if len(shape) == 5 and shape[1:3] == (rows, columns):
            return GridLevel(output.name, "NHWKC", stride, shape[3], shape[4])
    return None


def _fits(level: GridLevel, anchors: tuple[tuple[float, float], ...]) -> bool:
    if level.anchors is not None:
        return level.anchors == len(anchors)
    return level.channels % len(anchors) == 0 and level.channels // len(anchors) > 5


def _class_count(level: GridLevel, head: object) -> int:
    if level.anchors is not None:
        return level.channels - 5
    return level.channels // len(head.anchors[0]) - 5 if isinstance(head, AnchorGrid) else 0


def _require_raw(network: OnnxNetwork, levels: tuple[GridLevel, ...]) -> None:
    done = {"Sigmoid", "Exp", "Softmax"} & network.operators_before(levels[0].name)
    if done:
        raise SpecError(
            f"raw grids, as the last convolution leaves them, in output {levels[0].name!r}",
            f"a graph that has applied {' and '.join(sorted(done))} to it",
            "Export the network without its activation, or with its boxes decoded",
        )


def _no_grids(network: OnnxNetwork) -> SpecError:
    shapes = network.outputs_in_words
    width, height = network.size
    return SpecError(
        f"one grid of cells a stride as outputs, for an input of {width}x{height}",
        shapes,
        "Name another --family, or export the network with such outputs only",
    )
