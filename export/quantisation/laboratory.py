"""Laboratory: a float network with everything that is needed to quantise parts of it and to look at the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.export.graph import GraphIndex, Reader
from edgedet.export.quantisation.calibration import Statistics
from edgedet.export.quantisation.judge import Answer, disagreement, run_network
from edgedet.export.quantisation.output_error import least_output_error
from edgedet.export.quantisation.placement import SCHEMES, Placement, Target
from edgedet.export.quantisation.qdq import insert_qdq
from edgedet.export.quantisation.ranges import Method, Range, choose_range
from edgedet.model_spec import ModelSpec

__all__ = ["Laboratory"]


@dataclass(frozen=True, eq=False)
class Laboratory:
    """A float network with everything that is needed to quantise parts of it and to look at the result.

    Attributes:
        model: a prepared float network.
        graph: its index.
        spec: how it is fed and read.
        target: for which engine.
        statistics: of every tensor that may be quantised.
        pictures: the few pictures on which answers are compared.
        reference: what the float network answers on them.
        notes: what the user should know of where the statistics come from.
    """

    model: onnx.ModelProto
    graph: GraphIndex
    spec: ModelSpec
    target: Target
    statistics: Mapping[str, Statistics]
    pictures: tuple[Path, ...]
    reference: Sequence[Answer]
    notes: tuple[str, ...] = ()

    @property
    def means(self) -> dict[str, npt.NDArray[np.float64]]:
        """Mean of each channel of each tensor that has channels."""
        return {name: found.channel_mean for name, found in self.statistics.items() if found.channel_mean is not None}

    def ranges(self, method: Method) -> dict[str, Range]:
        """Return the range that a method gives every tensor."""
        scheme = SCHEMES[self.target]
        return {name: choose_range(found.histogram, method, scheme) for name, found in self.statistics.items()}

    def output_ranges(self, placement: Placement) -> dict[str, Range]:
        """Return for every tensor of a placement the range that disturbs its readers least."""
        scheme = SCHEMES[self.target]
        return {
            name: least_output_error(self.statistics[name], self.graph, self._readers(name, readers), scheme)
            for name, readers in placement.activations.items()
        }

    def _readers(self, name: str, readers: frozenset[Reader] | None) -> list[onnx.NodeProto]:
        if readers is None:
            return self.graph.read_by(name)
        return [self.graph.nodes[reader.node] for reader in readers]

    def quantise(self, placement: Placement, ranges: Mapping[str, Range]) -> onnx.ModelProto:
        """Return the network with Q/DQ in these places."""
        return insert_qdq(self.model, self.graph, placement, ranges, self.means)

    def harm(self, placement: Placement, ranges: Mapping[str, Range]) -> float:
        """Return how far the answers move when these places are quantised."""
        answers = run_network(self.spec, self.quantise(placement, ranges), self.pictures)
        return disagreement(self.reference, answers)
