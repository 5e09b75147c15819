"""What all decoders share: the table, the structures' sizes, what is refused, and how a launch is laid out."""

from __future__ import annotations

import ctypes
import inspect
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from device_decode import Device
from host_kernels import HostKernels, kernel_names

from edgedet.errors import SpecError
from edgedet.runtime.heads import HEADS, BoxHead, PanopticDeeplab, Queries, YoloxGrid
from edgedet.runtime.heads.dense_boxes import DenseBoxes
from edgedet.runtime.heads.end_to_end import EndToEnd
from edgedet.runtime.kernels import decode
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.decode import (
    DECODERS,
    Setting,
    anchor_boxes,
    anchor_grid,
    class_windows,
    decoder,
    decoder_for,
    dense_boxes,
    distance_distributions,
    end_to_end,
    fastestdet,
    grid_cells,
    localizer,
    proposal_boxes,
    queries,
    yolox_grid,
)
from edgedet.runtime.selection import Selection

MODULES = (
    anchor_boxes,
    anchor_grid,
    class_windows,
    decoder,
    dense_boxes,
    distance_distributions,
    end_to_end,
    fastestdet,
    grid_cells,
    localizer,
    proposal_boxes,
    queries,
    yolox_grid,
)
SIZE = (64, 32)


def setting(selection: Selection | None = None, classes: int = 3) -> Setting:
    return Setting(SIZE, classes, selection or Selection(0.5), upload=np.array)


def candidates(pictures: int = 1) -> CandidateList:
    return CandidateList(np.zeros, pictures, 64)


def test_every_box_head_has_a_decoder_and_nothing_else_has() -> None:
    assert set(DECODERS) == {name for name, head in HEADS.items() if issubclass(head, BoxHead)}


def test_the_documented_table_is_the_table(root: Path) -> None:
    documented = re.findall(r"^\| (\w+) \| (decode_\w+\.cu) \|", decode.__doc__ or "", re.MULTILINE)
    assert [name for name, _ in documented] == list(DECODERS)
    for name, source in documented:
        kernels = kernel_names((root / "runtime/kernels" / source).read_text(encoding="utf-8"))
        assert {kernel.removesuffix("_f32") for kernel in kernels if kernel.endswith("_f32")} == {
            kernel.removesuffix("_f16") for kernel in kernels if kernel.endswith("_f16")
        }
        assert all(kernel.startswith(f"edgedet_decode_{name}") for kernel in kernels)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_structures_are_as_large_as_in_the_kernels(root: Path, module: ModuleType) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (root / "runtime/kernels").glob("*.cuh"))
    sizes = dict(re.findall(r"static_assert\(sizeof\((\w+)\) == (\d+)", text))
    own = [
        structure
        for _, structure in inspect.getmembers(module, inspect.isclass)
        if issubclass(structure, ctypes.Structure) and structure.__module__ == module.__name__
    ]
    assert own
    for structure in own:
        assert ctypes.sizeof(structure) == int(sizes[structure.__name__.removesuffix("Table")])


def test_a_head_without_a_decoder_is_refused_by_name() -> None:
    head = PanopticDeeplab(thing_classes=(1,))
    with pytest.raises(SpecError, match=r"head that the device decodes \(dense_boxes, .*'panoptic_deeplab'\. Decode"):
        decoder_for(head, setting())


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            [np.zeros((1, 4, 3), np.float64), np.zeros((1, 4, 4), np.float64)],
            r"all float32 or all float16, got float64",
        ),
        ([np.zeros((1, 4, 3), np.float32), np.zeros((1, 4, 4), np.float16)], r"float16, got float32, float16\. Decode"),
        ([np.zeros((1, 4, 5), np.float32), np.zeros((1, 4, 4), np.float32)], r"3 = 3 class scores .* got 5"),
        ([np.zeros((2, 4, 3), np.float32), np.zeros((2, 4, 4), np.float32)], r"outputs of at most 1 pictures, got 2"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs: list[npt.NDArray[Any]], message: str) -> None:
    class Nowhere:
        def launch(self, name: str, *_: Any) -> None:
            raise AssertionError(name)

    made = decoder_for(Queries(activation="sigmoid", no_object=False), setting())
    with pytest.raises(SpecError, match=message):
        made.launch(Nowhere(), outputs, candidates())


@pytest.mark.parametrize(
    ("head", "selection", "message"),
    [
        (DenseBoxes(), Selection(class_ids=(3,)), r"class ids in 0\.\.2, got 3"),
        (YoloxGrid(strides=(8,) * 9), Selection(), r"at most 8 levels, got 9 head\.strides\. Decode this model on"),
    ],
)
def test_what_cannot_be_decoded_is_refused_before_a_launch(head: BoxHead, selection: Selection, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        decoder_for(head, setting(selection))


def test_ranks_have_32_bits() -> None:
    head, huge = DenseBoxes(), 2**32 // 3 + 1
    output = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1, 7, huge), (0, 0, 0))
    with pytest.raises(SpecError, match=r"2 \*\* 32 pairs of location and class, got 1431655766 locations"):
        decoder_for(head, setting(classes=3)).launch(Device.__new__(Device), [output], candidates())


def test_frame_after_frame_and_other_shapes(kernels: HostKernels) -> None:
    """One decoder and one list: what a frame found does not stay, and a new shape or type is laid out anew."""
    head, device, found = DenseBoxes(), Device(kernels), candidates(2)
    made = decoder_for(head, setting())
    assert isinstance(found.words, np.ndarray)
    for pictures, locations, dtype in ((2, 70, "f4"), (2, 70, "f4"), (2, 70, "f2"), (1, 5, "f2"), (2, 70, "f4")):
        output = np.zeros((pictures, 7, locations), dtype)
        output[:, 4, 3] = 0.75
        found.reset(device)
        made.launch(device, [output], found)
        arrays = found.arrays(found.words)
        assert arrays.count.tolist() == [1] * pictures + [0] * (2 - pictures)
        assert arrays.location[:pictures, 0].tolist() == [3] * pictures
    assert device.names[1::2] == [
        f"edgedet_decode_dense_boxes_{suffix}" for suffix in ("f32", "f32", "f16", "f16", "f32")
    ]


ANSWERS = (
    (DenseBoxes(), (1, 7, 70), {"multi_label": False}, 70),
    (DenseBoxes(), (1, 7, 70), {"multi_label": True}, 210),
    (DenseBoxes(), (1, 7, 70), {"multi_label": True, "class_ids": (2, 2, 0)}, 140),
    (Queries(activation="sigmoid", no_object=False), (1, 50, 3), {"multi_label": False}, 150),
    (Queries(activation="softmax", no_object=False), (1, 50, 3), {"multi_label": True}, 50),
    (EndToEnd(), (1, 40, 6), {"multi_label": True, "class_ids": (7,)}, 40),
)


@pytest.mark.parametrize(("head", "shape", "chosen", "most"), ANSWERS, ids=str)
def test_the_most_candidates_are_those_of_an_output_that_passes_whole(
    kernels: HostKernels, head: BoxHead, shape: tuple[int, ...], chosen: dict[str, Any], most: int
) -> None:
    selection = Selection(0.5, **chosen)
    outputs = [np.full(shape, 7, np.float32), np.zeros((1, 50, 4), np.float32)][: 1 + isinstance(head, Queries)]
    assert decoder_for(head, setting(selection)).most_candidates(outputs) == most
    (found,) = Device(kernels).decode(
        head, outputs, SIZE, 3, selection if most != 50 else replace(selection, confidence=0)
    )
    assert found.count == most


@pytest.mark.parametrize(("classes", "lanes"), [(1, 1), (2, 2), (3, 4), (32, 32), (33, 32), (91, 32)])
def test_as_many_lanes_as_there_are_classes_up_to_a_warp(classes: int, lanes: int) -> None:
    class Noted:
        grid: tuple[int, ...] = ()
        lanes = 0

        def launch(self, name: str, grid: Any, block: Any, *arguments: Any) -> None:
            self.grid, self.lanes = grid, next(value.value for value in arguments if isinstance(value, ctypes.c_int))

    noted = Noted()
    made = decoder_for(Queries(activation="sigmoid", no_object=False), setting(classes=classes))
    made.launch(noted, [np.zeros((2, 300, classes), np.float32), np.zeros((2, 300, 4), np.float32)], candidates(2))
    assert noted.lanes == lanes
    assert noted.grid == (-(-300 * lanes // 256), 2)
