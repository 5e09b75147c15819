"""Weights into a network, strictly, with a message that says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedet.errors import ModelFileError

__all__ = ["load_weights"]


def load_weights(module: Any, weights: dict[str, Any], path: Path) -> None:
    """Load a state dict strictly, in the module's own types.

    Raises:
        ModelFileError: if names or shapes do not fit; the message names the first few.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    surplus = [name for name in weights if name not in own]
    shapes = [
        f"{name} {list(weights[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    for problem, names in (("without", missing), ("with the unknown", surplus), ("with", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelFileError(
                f"the {len(own)} tensors of {type(module).__name__}",
                f"'{path}' {problem} {', '.join(names[:3])}{more}",
                "Check that the weights belong to this architecture and number of classes",
            )
    # Counters of seen batches are absent from older files and play no part in inference.
    module.load_state_dict(weights, strict=False)
