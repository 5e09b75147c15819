"""Statistics on disk: found again whenever nothing changed, never when anything did."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.export.quantisation import statistics_cache
from edgedet.export.quantisation.ranges import METHODS, choose_range
from edgedet.export.quantisation.statistics_cache import (
    Collected,
    StatisticsCache,
    default_folder,
    read_statistics,
    write_statistics,
)

TENSORS = ("images", "b", "c")


class Asked:
    """A network, its pictures, and a cache; `runs` counts the pictures that were run."""

    def __init__(self, folder: Path) -> None:
        self.paths = write_pictures(folder / "pictures", 9)
        self.model = residual_network()
        self.spec = residual_spec()
        self.cache = StatisticsCache(folder / "kept")
        self.runs = 0

    def __call__(self, tensors: tuple[str, ...] = TENSORS) -> Collected:
        def count(_: int) -> None:
            self.runs += 1

        self.runs = 0
        return self.cache.collect(self.model, self.spec, tensors, self.paths, on_picture=count)

    def file(self) -> Path:
        assert self.cache.folder is not None
        return next(self.cache.folder.glob("*.npz"))


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def same(one: Collected, other: Collected) -> bool:
    for name, first in one.statistics.items():
        second = other.statistics[name]
        assert first.channels is not None and second.channels is not None
        assert first.channel_mean is not None and second.channel_mean is not None
        spans = [
            [choose_range(found.histogram, method, "symmetric") for method in METHODS] for found in (first, second)
        ]
        if spans[0] != spans[1] or not np.array_equal(first.channel_mean, second.channel_mean):
            return False
        if not np.array_equal(first.channels.counts, second.channels.counts) or first.runs != second.runs:
            return False
    return True


def test_the_second_time_nothing_runs_and_the_ranges_are_the_same(asked: Asked) -> None:
    first = asked()
    assert asked.runs == 9 and first.notes == ()
    second = asked()
    assert asked.runs == 0 and same(first, second)
    assert len(second.notes) == 1 and "9 pictures are from the cache" in second.notes[0]


def weights(asked: Asked) -> None:
    asked.model.graph.initializer[2].CopyFrom(residual_network(seed=5).graph.initializer[2])


def attribute(asked: Asked) -> None:
    asked.model.graph.node[0].attribute[0].ints[:] = [1, 2, 1, 0]


def opset(asked: Asked) -> None:
    asked.model.opset_import[0].version = 16


def pre_processing(**changes: object) -> Callable[[Asked], None]:
    def change(asked: Asked) -> None:
        asked.spec = asked.spec.replace(input=replace(asked.spec.input, **changes))  # type: ignore[arg-type]

    change.__name__ = next(iter(changes))
    return change


def picture(asked: Asked) -> None:
    shutil.copy(asked.paths[1], asked.paths[0])


def fewer(asked: Asked) -> None:
    asked.paths = asked.paths[:-1]


def order(asked: Asked) -> None:
    asked.paths = asked.paths[::-1]


@pytest.mark.parametrize(
    "change",
    [
        weights,
        attribute,
        opset,
        pre_processing(mean=(1.0, 0.0, 0.0)),
        pre_processing(std=(255.0, 255.0, 254.0)),
        pre_processing(resize="stretch"),
        pre_processing(pad_value=0),
        pre_processing(channels="BGR"),
        picture,
        fewer,
        order,
    ],
    ids=lambda change: change.__name__,
)
def test_whatever_changes_is_measured_again(asked: Asked, change: Callable[[Asked], None]) -> None:
    asked()
    change(asked)
    found = asked()
    assert asked.runs == len(asked.paths) and found.notes == ()


def test_another_version_of_the_statistics_is_measured_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked()
    monkeypatch.setattr(statistics_cache, "VERSION", statistics_cache.VERSION + 1)
    assert asked().notes == () and asked.runs == 9


def test_what_does_not_matter_does_not_cost_a_run(asked: Asked, tmp_path: Path) -> None:
    asked()
    onnx.helper.set_model_props(asked.model, {"note": "another"})
    asked.spec = asked.spec.replace(class_names=("x", "y", "z"), name="renamed")
    moved = tmp_path / "moved"
    asked.paths = [
        Path(shutil.copy(path, moved / path.name)) for path in asked.paths if moved.mkdir(exist_ok=True) is None
    ]
    asked()
    assert asked.runs == 0


def test_further_tensors_are_added_to_an_entry(asked: Asked) -> None:
    asked(("images", "b"))
    found = asked(("b", "c", "d"))
    assert asked.runs == 9 and "1 of 3 tensors" in found.notes[0]
    assert read_statistics(asked.file()).keys() == {"images", "b", "c", "d"}
    asked(("d", "images"))
    assert asked.runs == 0


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_measured_again_and_replaced(asked: Asked, keep: float) -> None:
    first = asked()
    data = asked.file().read_bytes()
    asked.file().write_bytes(data[: int(keep * len(data))])
    second = asked()
    assert asked.runs == 9 and same(first, second)
    assert len(second.notes) == 1 and "cannot be read" in second.notes[0]
    asked()
    assert asked.runs == 0


def test_an_array_of_another_shape_is_not_taken(asked: Asked) -> None:
    asked()
    with np.load(asked.file()) as archive:
        arrays = dict(archive)
    arrays["counts"] = arrays["counts"][:, :-1]
    np.savez_compressed(asked.file(), **arrays)
    assert "cannot be read (counts is int64" in asked().notes[0]


def test_nothing_in_a_file_is_unpickled(asked: Asked) -> None:
    asked()
    with np.load(asked.file()) as archive:
        arrays = dict(archive)
    arrays["extent"] = np.array([{"a": 1}], object)
    np.savez_compressed(asked.file(), **arrays)
    assert "cannot be read" in asked().notes[0]


def test_a_place_that_cannot_be_written_costs_nothing(asked: Asked, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    asked.cache = StatisticsCache(blocked / "kept")
    found = asked()
    assert set(found.statistics) == set(TENSORS) and "could not be kept" in found.notes[0]


def test_no_folder_keeps_nothing(asked: Asked) -> None:
    kept, asked.cache = asked.cache, StatisticsCache(None)
    assert asked().notes == () and asked.runs == 9
    assert kept.folder is not None and not kept.folder.exists()


def test_the_oldest_entries_go_when_there_are_too_many(asked: Asked) -> None:
    asked()
    size, old = asked.file().stat().st_size, asked.file()
    asked.cache = replace(asked.cache, limit=int(2.5 * size))
    assert asked.cache.folder is not None
    used = asked.cache.folder / "used.npz"
    shutil.copy(old, used)
    os.utime(old, (1, 1))
    fewer(asked)
    asked()
    assert used.exists() and not old.exists()
    assert len(list(asked.cache.folder.iterdir())) == 2


def test_statistics_without_channels_survive(tmp_path: Path, asked: Asked) -> None:
    found = dict(asked().statistics)
    found["c"].channels = found["c"].channel_mean = None
    write_statistics(tmp_path / "one.npz", found)
    again = read_statistics(tmp_path / "one.npz")
    assert again["c"].channels is None and again["c"].channel_mean is None
    assert same(Collected({"b": found["b"]}), Collected(again))


@pytest.mark.parametrize("variable", ["", "relative"])
def test_the_place_follows_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert default_folder() == tmp_path / "elsewhere/edgedet/calibration"
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert default_folder() == tmp_path / ".cache/edgedet/calibration"
