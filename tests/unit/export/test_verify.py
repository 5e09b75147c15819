"""Comparison of source and export: tolerances by hand, lists whose order is open, real pictures of the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet.errors import SourceError, VerificationError
from edgedet.export.families import LoadedModel
from edgedet.export.trace import trace
from edgedet.export.verify import PICTURES, compare, verify
from edgedet.model_spec import InputSpec, ModelSpec, TensorSpec
from edgedet.runtime.heads import AnchorBoxes, ClassScores, DenseBoxes, EndToEnd, Head, Queries

DENSE = DenseBoxes(layout="channels_first")
ROWS = EndToEnd(packing="rows")
SEPARATE = EndToEnd(packing="separate", batch_axis=False)
QUERIES = Queries(activation="sigmoid", no_object=False)
TOLERANCE = 1e-3

Arrays = list[np.ndarray[Any, Any]]


def changed(array: np.ndarray[Any, Any], place: tuple[int, ...], by: float) -> np.ndarray[Any, Any]:
    copy = array.copy()
    copy[place] += by
    return copy


def dense() -> np.ndarray[Any, Any]:
    random = np.random.default_rng(0)
    return np.concatenate([random.uniform(0, 640, (1, 4, 50)), random.uniform(0, 0.9, (1, 3, 50))], 1)


@pytest.mark.parametrize(
    ("place", "by", "ok"),
    [
        ((0, 0, 7), 0.5, True),  # half a pixel of 640
        ((0, 0, 7), 0.7, False),
        ((0, 5, 7), 0.0005, True),
        ((0, 5, 7), 0.002, False),  # nothing beside 640 pixels, too much beside a score
        ((0, 5, 7), np.nan, False),
        ((0, 5, 7), np.inf, False),
    ],
)
def test_scores_are_held_against_scores_and_boxes_against_boxes(place: tuple[int, ...], by: float, ok: bool) -> None:
    (found,) = compare(DENSE, ["output0"], [dense()], [changed(dense(), place, by)], TOLERANCE)
    assert found.ok is ok
    assert np.isfinite([found.max_abs, found.max_rel]).all(), "JSON has no word for anything else"
    if np.isfinite(by):
        assert found.max_abs == pytest.approx(by)
        scale = dense()[:, :4].max() if place[1] < 4 else dense()[:, 4:].max()
        assert found.max_rel == pytest.approx(by / scale)


def test_equal_infinities_and_nans_are_no_difference() -> None:
    values = changed(changed(dense(), (0, 4, 0), np.nan), (0, 4, 1), np.inf)
    (found,) = compare(DENSE, ["output0"], [values], [values.copy()], TOLERANCE)
    assert (found.max_abs, found.ok) == (0, True)


def test_an_output_of_next_to_nothing_is_judged_by_its_size_and_rounding() -> None:
    zeros = np.zeros((1, 3, 4))
    for by, ok in ((1e-7, True), (1e-5, False)):
        found = compare(AnchorBoxes(), ["a", "b"], [zeros, zeros], [zeros, zeros + by], TOLERANCE)
        assert [item.ok for item in found] == [True, ok]


def test_another_shape_is_a_difference() -> None:
    (found,) = compare(DENSE, ["output0"], [dense()], [dense()[..., :-1]], TOLERANCE)
    assert not found.ok
    assert found.shape == (1, 7, 49)


def rows(count: int = 20) -> np.ndarray[Any, Any]:
    """Finished boxes, best first; the scores of neighbours differ by .04."""
    random = np.random.default_rng(1)
    boxes = random.uniform(0, 100, (count, 4))
    score, label = np.linspace(0.95, 0.15, count), random.integers(0, 3, count)
    return np.column_stack([boxes, score, label])[None]


def swapped(values: np.ndarray[Any, Any], i: int, j: int) -> np.ndarray[Any, Any]:
    copy = values.copy()
    copy[:, [i, j]] = copy[:, [j, i]]
    return copy


def as_separate(values: np.ndarray[Any, Any]) -> Arrays:
    return [values[0, :, :4], values[0, :, 4], values[0, :, 5].astype(np.int64)]


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        (lambda v: swapped(v, 3, 4), True),
        (lambda v: v[:, ::-1].copy(), True),
        (lambda v: changed(swapped(v, 3, 4), (0, 3, 0), 5.0), False),
        (lambda v: changed(swapped(v, 3, 4), (0, 3, 4), 0.01), False),
        (lambda v: changed(swapped(v, 3, 4), (0, 3, 5), 1.0), False),
        # another object was kept in the last place
        (lambda v: changed(changed(v, (0, 19, 0), 50.0), (0, 19, 5), 1.0), True),
        (lambda v: changed(v, (0, 10, 0), 50.0), False),
    ],
    ids=["swap", "reversed", "box", "score", "class", "last place", "middle"],
)
@pytest.mark.parametrize("packing", ["rows", "separate"])
def test_finished_boxes_may_change_places_and_nothing_else(change: Any, ok: bool, packing: str) -> None:
    expected, got = rows(), change(rows())
    if packing == "rows":
        found = compare(ROWS, ["output0"], [expected], [got], TOLERANCE)
    else:
        found = compare(SEPARATE, ["a", "b", "c"], as_separate(expected), as_separate(got), TOLERANCE)
        assert [item.shape for item in found] == [(20, 4), (20,), (20,)]
    assert all(item.ok for item in found) is ok


@pytest.mark.parametrize(("lost", "ok"), [(19, True), (5, False)])
def test_a_list_may_be_shorter_by_its_end(lost: int, ok: bool) -> None:
    got = np.delete(rows(), lost, axis=1)
    for a, b in ((rows(), got), (got, rows())):
        found = compare(SEPARATE, ["a", "b", "c"], as_separate(a), as_separate(b), TOLERANCE)
        assert all(item.ok for item in found) is ok


@pytest.mark.parametrize("count", [0, 1])
def test_short_lists(count: int) -> None:
    values = as_separate(rows(count))
    assert all(item.ok for item in compare(SEPARATE, ["a", "b", "c"], values, values, TOLERANCE))
    if count:
        other = as_separate(changed(rows(count), (0, 0, 0), 9.0))
        assert not all(item.ok for item in compare(SEPARATE, ["a", "b", "c"], values, other, TOLERANCE))


@pytest.mark.parametrize(
    ("change", "ok"),
    [(lambda v: v[:, ::-1].copy(), True), (lambda v: changed(v[:, ::-1].copy(), (0, 0, 0), 0.5), False)],
    ids=["order", "value"],
)
def test_queries_may_change_places(change: Any, ok: bool) -> None:
    random = np.random.default_rng(2)
    logits, boxes = random.standard_normal((1, 12, 5)), random.random((1, 12, 4))
    found = compare(QUERIES, ["logits", "boxes"], [logits, boxes], [change(logits), change(boxes)], TOLERANCE)
    assert all(item.ok for item in found) is ok


def network(factor: float, batch: int | str = "batch") -> onnx.ModelProto:
    """Seven numbers a cell: averages of the picture over 8x8 pixels, times weights."""
    weights = np.arange(1, 22, dtype=np.float32).reshape(7, 3, 1, 1) * np.float32(factor)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Conv", ["pooled", "weights"], ["cells"]),
            helper.make_node("Reshape", ["cells", "flat"], ["output0"]),
        ],
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 32, 48])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 7, 24])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([0, 7, 24], np.int64), "flat"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def spec(head: Head = DENSE, batch: int | None = None) -> ModelSpec:
    return ModelSpec(
        name="net",
        task="detect",
        head=head.spec(),
        input=InputSpec(48, 32, batch=batch),
        outputs=(TensorSpec("output0", (batch or -1, 7, 24), "float32"),),
        class_names=("a", "b", "c"),
    )


def loaded(source: Any) -> LoadedModel:
    return LoadedModel(network=source, head=DENSE, input=spec().input)


@pytest.mark.parametrize(("source", "export"), [("batch", "batch"), (1, "batch"), ("batch", 2), (1, 3)])
def test_an_onnx_source_is_compared_whatever_the_batches(source: int | str, export: int | str) -> None:
    batch = export if isinstance(export, int) else None
    (found,) = verify(loaded(network(1, source)), network(1, export), spec(batch=batch))
    assert (found.name, found.ok, found.max_abs) == ("output0", True, pytest.approx(0, abs=1e-5))
    assert found.shape[1:] == (7, 24)
    assert dataclasses.asdict(found)["tolerance"] == TOLERANCE


def test_a_torch_source() -> None:
    torch: Any = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def forward(self, images: Any) -> Any:
            pooled = torch.nn.functional.avg_pool2d(images, 8)
            weights = torch.arange(1, 22, dtype=torch.float32).reshape(7, 3, 1, 1)
            return torch.nn.functional.conv2d(pooled, weights).flatten(2)

    (found,) = verify(loaded(Net()), network(1), spec())
    assert found.ok
    with pytest.raises(VerificationError, match=r"a difference of 0\.01.* in the output 'output0'"):
        verify(loaded(Net()), network(1.01), spec())


def test_a_difference_stops_the_export_with_its_figures() -> None:
    with pytest.raises(VerificationError, match=r"within 0\.001 .* a difference of 0\.0196 .* shape \[[12], 7, 24\]"):
        verify(loaded(network(1.02)), network(1), spec())


@pytest.mark.parametrize("which", ["source", "exported network"])
def test_a_network_that_does_not_run(which: str) -> None:
    broken = network(1)
    broken.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([0, 7, 99], np.int64), "flat"))
    pair = (broken, network(1)) if which == "source" else (network(1), broken)
    with pytest.raises(VerificationError, match=f"the {which} to run"):
        verify(loaded(pair[0]), pair[1], spec())


def test_pictures_of_a_folder_broken_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "b.png"), np.full((20, 30, 3), 200, np.uint8))
    (found,) = verify(loaded(network(1)), network(1), spec(), pictures=tmp_path)
    assert found.ok


@pytest.mark.parametrize(("content", "message"), [(None, "without any picture"), (b"no", "without a readable picture")])
def test_a_folder_without_pictures(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        verify(loaded(network(1)), network(1), spec(), pictures=tmp_path)


def test_the_package_has_pictures_of_its_own() -> None:
    assert len(list(PICTURES.glob("*.jpg"))) >= 2


@pytest.mark.parametrize(("share", "ok"), [(0.04, True), (0.06, False)])
def test_a_few_elements_may_differ_where_rounding_decides(share: float, ok: bool) -> None:
    scores = np.random.default_rng(3).uniform(-1, 1, (1, 5, 20, 20))
    got = scores.copy()
    got.reshape(-1)[: int(share * scores.size)] += 0.1
    (found,) = compare(ClassScores(), ["output0"], [scores], [got], TOLERANCE, undecided=0.05)
    assert found.ok is ok
    (strict,) = compare(ClassScores(), ["output0"], [scores], [got], TOLERANCE)
    assert not strict.ok


@pytest.mark.parametrize(("remembers", "ok"), [(True, True), (False, False)])
def test_networks_that_remember_places_are_judged_without_the_undecided_ones(remembers: bool, ok: bool) -> None:
    torch: Any = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.MaxPool2d(2, return_indices=remembers)
            self.unpool = torch.nn.MaxUnpool2d(2) if remembers else torch.nn.Upsample(scale_factor=2)
            self.average = torch.nn.AvgPool2d(8)

        def forward(self, x: Any) -> Any:
            x = self.unpool(*self.pool(x)) if remembers else self.unpool(self.pool(x))
            cells = self.average(x).flatten(2)[:, :1].expand(-1, 7, -1).contiguous()
            # One element of 168 is off, as where a place decides itself otherwise.
            return cells + self.off if hasattr(self, "off") else cells

    source, other = Net().eval(), Net().eval()
    other.off = torch.zeros(7, 24)
    other.off[3, 5] = 9.0
    loaded = LoadedModel(network=source, head=DENSE, input=spec().input)
    model = trace(dataclasses.replace(loaded, network=other), batch=None, opset=None)
    if ok:
        (found,) = verify(loaded, model, spec())
        assert found.ok
    else:
        with pytest.raises(VerificationError):
            verify(loaded, model, spec())
