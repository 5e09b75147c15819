"""Which pictures are used, and that their statistics are those of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import residual_network, residual_spec, write_pictures

from edgedet.errors import SourceError
from edgedet.export.quantisation.calibration import collect, find_pictures
from edgedet.runtime.capture import read_image
from edgedet.runtime.preprocess import Preprocessor


def test_broken_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 10)
    paths[3].write_bytes(paths[3].read_bytes()[:100])
    paths[5].write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    found = find_pictures(tmp_path)
    assert found.paths == tuple(path for index, path in enumerate(paths) if index not in (3, 5))
    assert len(found.skipped) == 2
    assert all(str(paths[index]) in text for index, text in zip((3, 5), found.skipped, strict=True))


def test_fewer_than_eight_pictures_are_refused(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 8)
    paths[0].write_bytes(b"")
    with pytest.raises(SourceError, match=r"at least 8 pictures.*7 in .* and 1 that cannot be read"):
        find_pictures(tmp_path)


def test_a_count_is_spread_evenly(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 29)
    assert find_pictures(tmp_path, 8).paths == tuple(paths[::4])
    assert find_pictures(tmp_path, 100).paths == tuple(paths)


def test_statistics_are_those_of_numpy(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 8)
    spec, done = residual_spec(), list[int]()
    found = collect(residual_network(), spec, ["images", "b"], paths, on_picture=done.append)
    pictures = np.concatenate([Preprocessor(spec.input)([read_image(path)])[0] for path in paths])
    seen = found["images"]
    assert (seen.histogram.low, seen.histogram.high) == (pictures.min(), pictures.max())
    assert seen.histogram.total == pictures.size
    assert seen.channel_mean == pytest.approx(pictures.mean(axis=(0, 2, 3), dtype=np.float64))
    assert seen.channels is not None and seen.channels.counts.sum() == pictures.size
    assert done == list(range(1, 9))
    # What swish makes is never below its minimum.
    assert -0.2785 < found["b"].histogram.low < 0.0
