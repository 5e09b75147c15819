"""Calibration statistics on disk: the pass over the pictures is made once, however often a network is quantised.

What is kept are the distributions, not the ranges, so that every method finds them. An entry is named by the hash of
all that they depend on: the graph with its weights, the pre-processing, the bytes of every picture in order, and the
versions of what computes them. Its tensors may grow: other layers to be quantised read others of the same network.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
from edgedet.export.quantisation import channels, histogram
from edgedet.export.quantisation.calibration import Statistics, collect
from edgedet.export.quantisation.channels import ChannelPower
from edgedet.export.quantisation.feeding import CROPS
from edgedet.export.quantisation.histogram import Histogram
from edgedet.model_spec import ModelSpec
from edgedet.schema import to_json

__all__ = ["LIMIT", "VERSION", "Collected", "StatisticsCache", "default_folder", "read_statistics", "write_statistics"]

VERSION = 1
"""Of the statistics and of the file; to be raised whenever either means something else than before."""

LIMIT = 256 << 20
"""Bytes of all entries together; beyond, those go that were not used for longest."""

_PACKAGES = ("edgedet", "numpy", "onnxruntime", "scikit-image")

_BROKEN = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a file that is cut short, overwritten or not an archive at all may raise."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Collected:
    """Statistics, and what the user should know of where they come from."""

    statistics: Mapping[str, Statistics]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StatisticsCache:
    """Calibration statistics in files of a folder.

    Attributes:
        folder: is made when it is needed; None where nothing is to be kept.
        limit: bytes of all files together.
    """

    folder: Path | None
    limit: int = LIMIT

    def collect(
        self,
        model: onnx.ModelProto,
        spec: ModelSpec,
        tensors: Sequence[str],
        paths: Sequence[Path],
        *,
        on_picture: Callable[[int], None] | None = None,
    ) -> Collected:
        """Return what `calibration.collect` does; the network runs for what is not known yet only.

        A file that cannot be read or written costs time and nothing else; the notes tell.
        """
        if self.folder is None:
            return Collected(collect(model, spec, tensors, paths, on_picture=on_picture))
        path = self.folder / f"{self.key(model, spec, paths)}.npz"
        known, notes = self._read(path)
        missing = [name for name in tensors if name not in known]
        if missing:
            known |= collect(model, spec, missing, paths, on_picture=on_picture)
            notes += self._write(path, known)
        if len(missing) < len(tensors):
            part = f" of {len(tensors) - len(missing)} of {len(tensors)} tensors" if missing else ""
            notes.append(f"Calibration statistics{part} on {len(paths)} pictures are from the cache in '{path.parent}'")
        return Collected({name: known[name] for name in tensors}, tuple(notes))

    @staticmethod
    def key(model: onnx.ModelProto, spec: ModelSpec, paths: Sequence[Path]) -> str:
        """Return the hash of all that the statistics of a network's tensors depend on, in hexadecimal digits."""
        pictures = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        network = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
        for part in (*model.opset_import, *model.functions):
            network.update(part.SerializeToString(deterministic=True))
        facts = {
            "version": [
                VERSION,
                CROPS,
                histogram.BINS,
                channels.STEPS,
                [channels.OCTAVES.start, channels.OCTAVES.stop],
            ],
            "packages": {name: _version(name) for name in _PACKAGES} | {"opencv": cv2.__version__},
            "network": network.hexdigest(),
            "input": to_json(spec.input),
            "proposals": None if spec.proposals is None else to_json(spec.proposals),
            "pictures": pictures,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self, path: Path) -> tuple[dict[str, Statistics], list[str]]:
        try:
            found = read_statistics(path)
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return {}, []
        except _BROKEN as error:
            return {}, [f"Calibration statistics are measured again: '{path}' cannot be read ({error})"]
        return found, []

    def _write(self, path: Path, statistics: Mapping[str, Statistics]) -> list[str]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_statistics(path, statistics)
            self._prune(path)
        except (OSError, SinkError) as error:
            reason = error.got if isinstance(error, SinkError) else error.strerror
            return [f"Calibration statistics could not be kept in '{path.parent}' ({reason})"]
        return []

    def _prune(self, newest: Path) -> None:
        """Remove the entries that were not used for longest, until the rest fits."""
        entries = sorted(
            ((found.stat(), found) for found in newest.parent.glob("*.npz") if found != newest),
            key=lambda entry: -entry[0].st_mtime,
        )
        room = self.limit - newest.stat().st_size
        for status, path in entries:
            room -= status.st_size
            if room < 0:
                path.unlink(missing_ok=True)


def default_folder() -> Path | None:
    """Return the user's own folder for it, by the XDG base directory specification; None where there is no home."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "edgedet" / "calibration"


def write_statistics(path: Path, statistics: Mapping[str, Statistics]) -> None:
    """Write statistics as an archive of plain arrays, complete or not at all.

    Raises:
        SinkError: if the folder is missing or not writable, or the disk is full.
    """
    found = list(statistics.values())
    parts = [(one.channel_mean, one.channels) for one in found]
    means = [mean for mean, power in parts if mean is not None and power is not None]
    counts = [power.counts for mean, power in parts if mean is not None and power is not None]
    sizes = [-1 if mean is None or power is None else len(mean) for mean, power in parts]
    arrays: dict[str, Any] = {
        "names": np.frombuffer(json.dumps(list(statistics)).encode(), np.uint8),
        "extent": np.array([(one.histogram.low, one.histogram.high, one.histogram.width) for one in found], np.float64),
        "number": np.array([(one.histogram.not_finite, one.runs) for one in found], np.int64),
        "counts": np.array([one.histogram.counts for one in found], np.int64),
        "channels": np.array(sizes, np.int64),
        "channel_mean": np.concatenate([*means, np.zeros(0)]),
        "channel_counts": np.concatenate([*counts, np.zeros((0, channels.BINS), np.int64)]),
    }
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_statistics(path: Path) -> dict[str, Statistics]:
    """Read what `write_statistics` wrote.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: if the file is not what it should be.
    """
    # Without pickle nothing in a file can be executed, whoever wrote it.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays: dict[str, Array] = {name: archive[name] for name in archive.files}
    names = json.loads(arrays["names"].tobytes())
    sizes = _checked(arrays, "channels", np.int64, (len(names),))
    extent = _checked(arrays, "extent", np.float64, (len(names), 3))
    number = _checked(arrays, "number", np.int64, (len(names), 2))
    counts = _checked(arrays, "counts", np.int64, (len(names), 2 * histogram.BINS))
    total = int(sizes.clip(min=0).sum())
    means = _checked(arrays, "channel_mean", np.float64, (total,))
    powers = _checked(arrays, "channel_counts", np.int64, (total, channels.BINS))
    ends = sizes.clip(min=0).cumsum()
    found = {}
    for index, (name, size, end) in enumerate(zip(names, sizes.tolist(), ends.tolist(), strict=True)):
        low, high, width = extent[index].tolist()
        of_all = Histogram(low, high, width, counts[index].copy(), int(number[index, 0]))
        rows = slice(end - size, end)
        mean, power = (None, None) if size < 0 else (means[rows].copy(), ChannelPower(powers[rows].copy()))
        found[name] = Statistics(of_all, mean, power, int(number[index, 1]))
    return found


def _checked(arrays: Mapping[str, Array], name: str, kind: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
    array = arrays[name]
    if array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}")
    return array


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
