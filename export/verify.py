"""Source against export: both networks on the same real pictures, worst difference of each output.

Outputs are compared element by element. Where that fails for a layout whose entries are a list of objects (finished
boxes, query predictions), it is done once more object by object in any order (see ``object_pairs.py``). Of class ids
the pixels that differ are counted: rounding decides where the best two classes are as good as equal. For the same
reason networks that remember the places of maxima (max unpooling) are judged without the few elements that differ most:
in an even part of a picture rounding decides which place it is, and all around it changes a little.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.errors import ExportError, ImageError, SourceError, VerificationError
from edgedet.export.families.family import LoadedModel
from edgedet.export.object_pairs import pair_objects
from edgedet.export.trace import run_network
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import PICTURE_SUFFIXES, read_image
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgedet.runtime.heads import ClassMapHead, DenseBoxes, EndToEnd, GridCells, Head, Localizer, YoloxGrid
from edgedet.runtime.preprocess import Preprocessor

__all__ = ["PICTURES", "SMALLEST_SCALE", "OutputDifference", "compare", "split_quantities", "verify"]

Array = npt.NDArray[Any]
Outputs = list[Array]
Network = Callable[..., Outputs]

PICTURES = Path(__file__).parent / "pictures"
"""The package's own pictures, for a request without any."""
MAX_PICTURES = 4
SMALLEST_SCALE = 1e-3
"""An output whose largest magnitude is below this is judged as if it were this large: below it is rounding noise."""

UNDECIDED = 0.05
"""Share of an output's elements that are left out where places of maxima are remembered. A place at stride 32 that
decides itself otherwise changes a part of 28 x 28 pixels or more of a picture of 256 x 256, 1 % of it."""


@dataclass(frozen=True)
class OutputDifference:
    """How far an output of the exported network is from the source's.

    Attributes:
        name: of the output.
        shape: of the last one compared, batch included.
        max_abs: the absolute difference where ``max_rel`` is largest, among the elements that count.
        max_rel: largest difference relative to the largest magnitude in that batch of what was compared; the quantities
            of an output that holds several (boxes, scores, mask coefficients) are compared each by itself. For class
            ids, between which there is no distance, the share of pixels that have another one; ``max_abs`` is their
            number.
        tolerance: what ``max_rel`` may be.
        ok: whether it is no more.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    tolerance: float
    ok: bool


def verify(
    loaded: LoadedModel, model: onnx.ModelProto, spec: ModelSpec, *, pictures: Path | None = None
) -> tuple[OutputDifference, ...]:
    """Run source and export on real pictures and compare the outputs that the head reads.

    Args:
        loaded: the source network (torch module, ExportedProgram, or the ONNX model before any rewriting).
        model: the exported network.
        spec: how pictures are fed to both, and which outputs count.
        pictures: folder of pictures, of which the first few by name are used; the package's own where None.

    Returns:
        One difference an output, in the order of ``spec.outputs``.

    Raises:
        VerificationError: if an output differs by more than ``loaded.tolerance``, or either network cannot run.
        SourceError: if the folder holds no readable picture.
    """
    names = [output.name for output in spec.outputs]
    exported = _OnnxNetwork(model, names, loaded.regions_input)
    source = _source(loaded, names)
    undecided = UNDECIDED if _remembers_places(loaded.network) else 0.0
    found: list[OutputDifference] = []
    for index, tensor in enumerate(_batches(spec, pictures)):
        tensors = (tensor,) if loaded.regions_input is None else (tensor, _regions(spec, exported.rows, index))
        expected, got = _run("the source", source, tensors), _run("the exported network", exported, tensors)
        found = _worse(found, compare(loaded.head, names, expected, got, loaded.tolerance, undecided))
    for difference in found:
        if not difference.ok:
            raise VerificationError(
                f"the exported network to answer as its source does, within {difference.tolerance:g} of the "
                + ("pixels" if isinstance(loaded.head, ClassMapHead) else "largest magnitude"),
                f"a difference of {difference.max_rel:.3g} ({difference.max_abs:.3g} absolute) in the output "
                f"{difference.name!r} of shape {list(difference.shape)}",
                "Report it with the model's name; nothing was written",
            )
    return tuple(found)


def compare(
    head: Head,
    names: Sequence[str],
    expected: Outputs,
    got: Outputs,
    tolerance: float,
    undecided: float = 0.0,
) -> list[OutputDifference]:
    """Compare the outputs of one batch.

    Args:
        head: the layout; only its being a list of objects matters.
        names: of the outputs, for the answer.
        expected: the source's outputs.
        got: the export's outputs, in the same order.
        tolerance: largest relative difference that passes.
        undecided: share of each output's elements, those that differ most, that are left out.
    """
    found = [
        _difference(head, index, name, (a, b), tolerance, undecided)
        for index, (name, a, b) in enumerate(zip(names, expected, got, strict=True))
    ]
    # In order first, then object by object, then without the ends of the lists.
    for end in (None, tolerance):
        if all(difference.ok for difference in found):
            break
        for index, pair in enumerate(pair_objects(head, expected, got, end) or ()):
            found[index] = replace(_difference(head, index, names[index], pair, tolerance), shape=got[index].shape)
    return found


def _difference(
    head: Head, index: int, name: str, pair: tuple[Array, Array], tolerance: float, undecided: float = 0.0
) -> OutputDifference:
    expected, got = pair
    if expected.shape != got.shape:
        return OutputDifference(name, got.shape, float(np.finfo(np.float32).max), 1.0, tolerance, False)
    if isinstance(head, ClassMapHead):
        flipped = int(np.count_nonzero(expected != got))
        share = flipped / max(expected.size, 1)
        return OutputDifference(name, got.shape, flipped, share, tolerance, share <= tolerance)
    worst, relative = 0.0, 0.0
    for a, b in zip(split_quantities(head, index, expected), split_quantities(head, index, got), strict=True):
        error = _largest_error(a.astype(np.float64), b.astype(np.float64), undecided)
        if error / _scale(a) >= relative:
            worst, relative = error, error / _scale(a)
    return OutputDifference(name, got.shape, worst, relative, tolerance, relative <= tolerance)


def split_quantities(head: Head, index: int, output: Array) -> list[Array]:
    """Cut an output of a layout into quantities of their own: boxes, scores, class numbers, masks."""
    axis, ends = _groups(head, index)
    return np.split(output, ends, axis)


def _groups(head: Head, index: int) -> tuple[int, list[int]]:
    """Axis and places at which an output falls into quantities of their own: boxes, scores, class numbers, masks.

    Held against boxes in 0..640, scores in 0..1 could be all wrong unnoticed.
    """
    if index == 0 and isinstance(head, DenseBoxes):
        axis = -2 if head.layout == "channels_first" else -1
        return axis, [4, -head.mask_coefficients] if head.mask_coefficients else [4]
    if index == 0 and isinstance(head, EndToEnd) and head.packing == "rows":
        return -1, [4, 5, 6]
    if index == 0 and isinstance(head, YoloxGrid):
        return -1, [4]
    if index == 0 and isinstance(head, GridCells):
        return -1 if head.layout == "NHWC" else -3, [1, 5]
    if index == 0 and isinstance(head, Localizer) and head.layout == "vector":
        return -1, [1, 5] if head.objectness else [4]
    return 0, []


def _largest_error(a: Array, b: Array, undecided: float) -> float:
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    # JSON knows neither inf nor NaN: where only one side is finite the largest float stands for the difference.
    limit = float(np.finfo(np.float32).max)
    error = np.nan_to_num(error, nan=limit, posinf=limit)
    if undecided and error.size:
        return float(np.quantile(error, 1 - undecided, method="lower"))
    return float(error.max(initial=0))


def _scale(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    return max(float(finite.max(initial=0)), SMALLEST_SCALE)


def _remembers_places(network: Any) -> bool:
    if isinstance(network, onnx.ModelProto):
        return any(node.op_type == "MaxUnpool" for node in network.graph.node)
    if hasattr(network, "graph_signature"):
        return any("max_unpool" in str(node.target) for node in network.graph.nodes)
    kinds = (getattr(module, "original_name", type(module).__name__) for module in network.modules())
    return any(kind.startswith("MaxUnpool") for kind in kinds)


def _worse(old: list[OutputDifference], new: list[OutputDifference]) -> list[OutputDifference]:
    if not old:
        return new
    return [a if a.max_rel >= b.max_rel else b for a, b in zip(old, new, strict=True)]


class _OnnxNetwork:
    """An ONNX model that takes any batch: one with a fixed smaller batch is run several times."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str], regions_input: str | None = None) -> None:
        self._engine = OnnxRuntimeEngine(model.SerializeToString())
        self._engine.select_outputs(names)
        # Pictures first, whatever the graph's order.
        self._order = [int(value.name == regions_input) for value in self._engine.inputs]
        regions = [value for value in self._engine.inputs if value.name == regions_input]
        self.rows = regions[0].shape[0] if regions else -1

    def __call__(self, *tensors: Array) -> Outputs:
        if len(tensors) > 1:
            return self._engine.infer(*(tensors[index] for index in self._order))
        (tensor,) = tensors
        batch = self._engine.inputs[0].shape[0]
        if batch in (-1, len(tensor)) or len(tensor) % batch:
            return self._engine.infer(tensor)
        parts = [self._engine.infer(tensor[start : start + batch]) for start in range(0, len(tensor), batch)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _source(loaded: LoadedModel, names: Sequence[str]) -> Network:
    if isinstance(loaded.network, onnx.ModelProto):
        return _OnnxNetwork(loaded.network, names, loaded.regions_input)
    return functools.partial(run_network, loaded.network)


def _run(which: str, network: Network, tensors: tuple[Array, ...]) -> Outputs:
    try:
        return network(*tensors)
    except ExportError:
        raise
    except Exception as error:  # ONNX Runtime, torch or the network's own code
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise VerificationError(
            f"{which} to run on an input of shape {' and '.join(str(list(tensor.shape)) for tensor in tensors)}",
            lines[0].rstrip("."),
            "Check --imgsz and --batch; nothing was written",
        ) from error


def _batches(spec: ModelSpec, pictures: Path | None) -> list[Array]:
    """Turn pictures into input tensors; a dynamic batch is tried with one picture and with several."""
    images = _read_pictures(PICTURES if pictures is None else pictures)
    preprocess = Preprocessor(spec.input)
    if spec.input.batch is None:
        several = images[1:] if len(images) > 2 else [*images[-1:], images[0]]
        groups = [images[:1], several]
    else:
        size = spec.input.batch
        filled = [images[i % len(images)] for i in range(-(-len(images) // size) * size)]
        groups = [filled[start : start + size] for start in range(0, len(filled), size)]
    return [preprocess(group)[0] for group in groups]


def _regions(spec: ModelSpec, rows: int, index: int) -> Array:
    """Return boxes all over the network's input, from 8 pixels to the whole; where any number goes, more each time."""
    random = np.random.default_rng(index)
    size = np.array([spec.input.width, spec.input.height], np.float32)
    corners = random.random((2, rows if rows >= 0 else 7 + 16 * index, 2), np.float32) * size
    start = np.minimum(corners.min(axis=0), np.maximum(size - 8, 0))
    boxes = np.concatenate([start, np.maximum(corners.max(axis=0), np.minimum(start + 8, size))], axis=1)
    boxes[:1] = [0, 0, *size]
    return boxes


def _read_pictures(folder: Path) -> list[npt.NDArray[np.uint8]]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES) if folder.is_dir() else []
    images, broken = [], None
    for path in paths:
        try:
            images.append(read_image(path))
        except ImageError as error:
            broken = error
        if len(images) == MAX_PICTURES:
            break
    if not images:
        raise SourceError(
            "a folder with pictures to compare the export on",
            f"'{folder}' without {'a readable' if broken else 'any'} picture",
            "Name another folder",
        ) from broken
    return images
