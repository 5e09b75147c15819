"""What a network is given for pictures, made by the runtime's own detector: pre-processing, proposals, warped regions.

Quantisation runs many variants of a network over the same pictures. Proposals are kept, since they cost more than the
network and depend on the picture alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.model_spec import ModelSpec, ProposalSpec
from edgedet.runtime.capture import read_image
from edgedet.runtime.detector import Detector
from edgedet.runtime.engines.engine import Engine
from edgedet.runtime.proposal_detector import ProposalDetector
from edgedet.runtime.proposals import Proposer, proposer_from_spec
from edgedet.runtime.selection import Selection
from edgedet.schema import from_json, to_json

__all__ = ["CROPS", "Feed", "KeptProposals", "SpreadProposals", "detector_on", "read_feeds"]

CROPS = 64
"""Crops of a picture that ranges are taken from, evenly spread over all that are proposed: neighbours overlap, so that
a thousand say little more."""

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Feed:
    """One run of a network.

    Attributes:
        tensors: in the order of its inputs.
        pictures: how many pictures it and all before it are of.
    """

    tensors: tuple[npt.NDArray[np.generic], ...]
    pictures: int


@dataclass(frozen=True, eq=False)
class KeptProposals(Proposer):
    """Proposals of another method, which are found once a picture and kept (32 kB for 2,000)."""

    proposer: Proposer
    known: dict[bytes, FloatArray] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make sure that all that the method needs is there (see ``Proposer.prepare``)."""
        self.proposer.prepare()

    def __call__(self, image: Image, count: int) -> FloatArray:
        """Propose regions of a picture (see ``Proposer``)."""
        picture = hashlib.sha256(image.tobytes()).digest()
        key = picture + b"%d,%d,%d" % (*image.shape[:2], count)
        if key not in self.known:
            self.known[key] = self.proposer(image, count)
        return self.known[key]


@dataclass(frozen=True, eq=False)
class SpreadProposals(Proposer):
    """At most `most` proposals of another method, evenly spread from its best to its last."""

    proposer: Proposer
    most: int

    def prepare(self) -> None:
        """Make sure that all that the method needs is there (see ``Proposer.prepare``)."""
        self.proposer.prepare()

    def __call__(self, image: Image, count: int) -> FloatArray:
        """Propose regions of a picture (see ``Proposer``)."""
        regions = self.proposer(image, count)
        places = np.linspace(0, len(regions) - 1, min(self.most, len(regions)))
        spread: FloatArray = regions[np.rint(places).astype(np.int64)]
        return spread


def detector_on(
    spec: ModelSpec, engine: Engine, selection: Selection | None = None, *, most_crops: int | None = None
) -> Detector[Any]:
    """Return the detector that the runtime would make of a network.

    Args:
        spec: how the network is fed and read.
        engine: what runs it.
        selection: thresholds and limits.
        most_crops: of a picture's crops take only so many, evenly spread, where the network looks at crops.
    """
    if spec.proposals is None:
        return Detector(spec, engine, selection)
    proposer: Proposer = _kept(json.dumps(to_json(spec.proposals), sort_keys=True))
    if most_crops is not None and spec.proposals.feed == "crops":
        batch = spec.input.batch or 1
        proposer = SpreadProposals(proposer, -(-most_crops // batch) * batch)
    return ProposalDetector(spec, engine, selection, proposer=proposer)


def read_feeds(spec: ModelSpec, engine: Engine, paths: Sequence[Path]) -> Iterator[Feed]:
    """Yield what the runtime gives a network for pictures: one picture, a fixed batch of them, or regions of one.

    Args:
        spec: how the network is fed.
        engine: what runs it; the outputs that the spec names are selected when this is called, any later.
        paths: picture files.
    """
    detector = detector_on(spec, engine, most_crops=CROPS)
    return _feeds(detector, paths, 1 if spec.proposals is not None else spec.input.batch or 1)


def _feeds(detector: Detector[Any], paths: Sequence[Path], size: int) -> Iterator[Feed]:
    for start in range(0, len(paths), size):
        images = [read_image(path) for path in paths[start : start + size]]
        # A last batch that is not full is filled with its own pictures again, which changes no range.
        filled = [images[index % len(images)] for index in range(size)]
        for tensors in detector.feeds(detector.preprocess(filled)):
            yield Feed(tensors, start + len(images))


@functools.lru_cache(maxsize=4)
def _kept(stage: str) -> KeptProposals:
    """Return the proposals of a stage, given as the JSON of its ProposalSpec."""
    return KeptProposals(proposer_from_spec(from_json(ProposalSpec, json.loads(stage), "proposals")))
