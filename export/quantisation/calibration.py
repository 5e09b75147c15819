"""Calibration: run the float network over pictures, one at a time, and keep what its tensors looked like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.errors import ImageError, SourceError
from edgedet.export.graph import GraphIndex
from edgedet.export.quantisation.channels import ChannelPower
from edgedet.export.quantisation.feeding import read_feeds
from edgedet.export.quantisation.histogram import Histogram
from edgedet.export.quantisation.pieces import TappedNetwork
from edgedet.model_spec import ModelSpec
from edgedet.runtime.capture import PICTURE_SUFFIXES, read_image
from edgedet.runtime.engines.onnxruntime import OnnxRuntimeEngine

__all__ = ["MIN_PICTURES", "CalibrationSet", "Statistics", "collect", "find_pictures"]

MIN_PICTURES = 8

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CalibrationSet:
    """The pictures to calibrate on.

    Attributes:
        paths: those that can be read, sorted.
        skipped: those that cannot, with what is wrong.
    """

    paths: tuple[Path, ...]
    skipped: tuple[str, ...] = ()


@dataclass(eq=False)
class Statistics:
    """What one tensor looked like over the pictures.

    Attributes:
        histogram: of all its values.
        channel_mean: (C,) float64, mean of each channel (axis 1 of a map, the last axis of anything else); None where
            the number of channels changed.
        channels: how the magnitudes of each channel are distributed; None likewise.
    """

    histogram: Histogram = field(default_factory=Histogram)
    channel_mean: npt.NDArray[np.float64] | None = None
    channels: ChannelPower | None = None
    runs: int = 0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of one run."""
        self.histogram.add(values)
        axis = 1 if values.ndim == 4 else values.ndim - 1
        mean = values.mean(axis=tuple(other for other in range(values.ndim) if other != axis), dtype=np.float64)
        power = ChannelPower.of(values, axis)
        if self.runs == 0:
            self.channel_mean, self.channels = mean, power
        elif self.channel_mean is not None and self.channels is not None and self.channel_mean.shape == mean.shape:
            self.channel_mean += (mean - self.channel_mean) / (self.runs + 1)
            self.channels.add(power)
        else:
            self.channel_mean, self.channels = None, None
        self.runs += 1


def find_pictures(folder: Path, count: int | None = None) -> CalibrationSet:
    """Find the pictures of a folder, subfolders included; `count` of them, evenly spread, where it is given.

    Raises:
        SourceError: if fewer than eight can be read.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if count is not None and count < len(found):
        found = [found[round(place)] for place in np.linspace(0, len(found) - 1, count)]
    usable, skipped = [], []
    for path in found:
        try:
            read_image(path)
        except ImageError as error:
            skipped.append(str(error))
        else:
            usable.append(path)
    if len(usable) < MIN_PICTURES:
        broken = f" and {len(skipped)} that cannot be read" if skipped else ""
        raise SourceError(
            f"at least {MIN_PICTURES} pictures to calibrate on",
            f"{len(usable)} in '{folder}'{broken}",
            "Name a folder with pictures such as the camera will give, 100 or more, with --calib",
        )
    return CalibrationSet(tuple(usable), tuple(skipped))


def collect(
    model: onnx.ModelProto,
    spec: ModelSpec,
    tensors: Sequence[str],
    paths: Sequence[Path],
    *,
    on_picture: Callable[[int], None] | None = None,
) -> dict[str, Statistics]:
    """Run the float network over pictures and return the statistics of the named tensors.

    Memory does not grow with the pictures, nor much with the number of tensors (see `pieces`).

    Args:
        model: a prepared float network.
        spec: how it is fed.
        tensors: names of float32 tensors, the input among them if wanted.
        paths: picture files.
        on_picture: called with how many pictures are done.
    """
    whole = OnnxRuntimeEngine(model.SerializeToString())
    whole.select_outputs([output.name for output in spec.outputs])
    feeds, inputs = read_feeds(spec, whole, paths), [value.name for value in whole.inputs]
    whole.close()
    network = TappedNetwork(model, GraphIndex(model), tensors)
    statistics = {name: Statistics() for name in tensors}
    for feed in feeds:
        for name, values in network.run(dict(zip(inputs, feed.tensors, strict=True))):
            statistics[name].add(np.asarray(values, dtype=np.float32))
        if on_picture is not None:
            on_picture(feed.pictures)
    network.close()
    return statistics
