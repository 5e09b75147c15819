"""Random weights that answer: untrained networks find nothing, or the same everywhere, and agree about anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["kaiming", "normalise_batches", "set_spreads"]


def kaiming(model: Any) -> None:
    """Draw all weights so that features keep their size from layer to layer."""
    import torch

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, torch.nn.Linear):
            torch.nn.init.xavier_normal_(layer.weight)


def normalise_batches(model: Any, run: Callable[[], Any]) -> None:
    """Give every batch normalisation the statistics of what passes through it while the model runs once."""
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum, layer.training = None, True
        layer.reset_running_stats()
    with torch.no_grad():
        run()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum, layer.training = momentum, False


def set_spreads(spreads: Mapping[Any, float], run: Callable[[], Any], *, mean: float | None = None) -> None:
    """Scale the weights of layers so that what they answer, in all calls of a run, has these deviations.

    Args:
        spreads: layer (linear or convolution) -> deviation.
        run: runs the model.
        mean: also move the biases so that this is each channel's mean: what all places or queries have in common would
            otherwise decide for all of them alike.
    """
    import torch

    seen: dict[Any, list[Any]] = {layer: [] for layer in spreads}

    def look(layer: Any, _inputs: Any, answer: Any) -> None:
        channels = answer.movedim(1, -1) if isinstance(layer, torch.nn.Conv2d) else answer
        seen[layer].append(channels.reshape(-1, channels.shape[-1]))

    hooks = [layer.register_forward_hook(look) for layer in spreads]
    with torch.no_grad():
        run()
        for hook in hooks:
            hook.remove()
        for layer, answers in seen.items():
            if not answers:
                continue
            values = torch.cat(answers)
            means = values.mean(0)
            factor = spreads[layer] / max(float((values if mean is None else values - means).std()), 1e-6)
            if mean is not None:
                layer.bias.copy_(factor * (layer.bias - means) + mean)
            layer.weight.mul_(factor)
