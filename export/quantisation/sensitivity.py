"""What each layer costs by itself: it alone is quantised, all else stays float, and the answers are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedet.export.quantisation.judge import Answer, disagreement, run_network
from edgedet.export.quantisation.laboratory import Laboratory
from edgedet.export.quantisation.layer_trials import answers_with_one_layer
from edgedet.export.quantisation.placement import Layer, place
from edgedet.export.quantisation.ranges import Range

__all__ = ["LayerHarm", "rank_layers"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerHarm:
    """One layer with what it costs when it alone is quantised (see `judge.disagreement`)."""

    layer: Layer
    harm: float


def rank_layers(
    laboratory: Laboratory, layers: Sequence[Layer], ranges: Mapping[str, Range], progress: Progress | None = None
) -> list[LayerHarm]:
    """Return the layers that may be quantised with what each costs alone, the most harmful first."""
    free = [layer for layer in layers if not layer.reason]
    ranked = []
    for done, (layer, answers) in enumerate(_answers(laboratory, free, ranges), start=1):
        ranked.append(LayerHarm(layer, disagreement(laboratory.reference, answers)))
        if progress is not None:
            progress(done, len(free))
    return sorted(ranked, key=lambda found: -found.harm)


def _answers(
    laboratory: Laboratory, layers: Sequence[Layer], ranges: Mapping[str, Range]
) -> Iterator[tuple[Layer, Sequence[Answer]]]:
    if laboratory.spec.proposals is None:
        yield from answers_with_one_layer(laboratory, layers, ranges)
        return
    # A thousand crops a picture are too much to be kept half way through the network.
    for layer in layers:
        alone = place(laboratory.graph, laboratory.target, frozenset({layer.node}))
        model = laboratory.quantise(alone, {name: ranges[name] for name in alone.activations})
        yield layer, run_network(laboratory.spec, model, laboratory.pictures)
