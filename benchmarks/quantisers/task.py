"""What every program of this folder is given and must make; nothing of edgedet, so that any interpreter can run it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Feeds", "read_feeds", "run"]

Feeds = Sequence[dict[str, npt.NDArray[np.generic]]]
"""Run by run: input's name -> tensor."""


def read_feeds(folder: Path) -> list[dict[str, npt.NDArray[np.generic]]]:
    """Read the tensors that edgedet would give the network: one .npz file a run, in the order of their names."""
    feeds = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as archive:
            feeds.append({name: archive[name] for name in archive.files})
    return feeds


def run(quantise: Callable[[Path, Feeds, Path], None]) -> None:
    """Read the command line and quantise: the float network, the folder of tensors, the file to write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", type=Path)
    parser.add_argument("tensors", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    quantise(arguments.network, read_feeds(arguments.tensors), arguments.output)
