"""What a network of this folder brings along: how it is built, taught, described, and read in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedet.maps import ClassMap, PanopticMap
from edgedet.results import Detections

Answer = Detections | ClassMap | PanopticMap
Pictures = Literal["digits", "single_digits", "scenes"]
"""Which pictures a network is measured on: a key of `labelled_sets.LABELLED_SETS`."""


@dataclass(frozen=True)
class Schedule:
    """Settings of one training run.

    `backbone_rate` multiplies the learning rate of parameters under `backbone.`, which start from the trained detector;
    0 leaves them as they are.  `ema_decay` is per step, `warmup` is in steps, the rates are AdamW's.
    """

    steps: int
    batch: int = 16
    learning_rate: float = 3e-3
    backbone_rate: float = 0.2
    weight_decay: float = 0.02
    warmup: int = 50
    ema_decay: float = 0.99
    max_gradient: float = 10.0
    bfloat16: bool = True


@dataclass(frozen=True)
class Recipe:
    """One network, from its pictures to its archive in `examples/models/<name>.pt`.

    Attributes:
        name: name of the archive.
        title: what the system is called, for tables.
        build: makes the network, in training mode, with whatever is trained already.
        draw: seed and index -> one training sample, which depends on these two alone.
        collate: samples -> a batch.
        loss: network and batch -> the scalar to lower.
        schedule: how long, how fast.
        describe: network -> the part of edgedet's ModelSpec that its archive carries.
        sample: network -> example inputs of `torch.export`.
        answer: forward function and a picture, uint8 [H, W, 3], RGB -> what the network sees in it, in picture pixels.
            It pre-processes and decodes in its own plain way, without edgedet's runtime, to which it is compared.
        pictures: what it is measured on.
        dynamic_shapes: which dimensions of the inputs `torch.export` leaves open.
        finish: network -> network, after training and before it is measured and saved, where something remains to be
            fitted that is not learnt by gradients.
    """

    name: str
    title: str
    build: Callable[[], nn.Module]
    draw: Callable[[int, int], Any]
    collate: Callable[[list[Any]], Any]
    loss: Callable[[Any, Any], Tensor]
    schedule: Schedule
    describe: Callable[[Any], dict[str, Any]]
    sample: Callable[[Any], tuple[Tensor, ...]]
    answer: Callable[[Callable[..., Any], NDArray[np.uint8]], Answer]
    pictures: Pictures = "digits"
    dynamic_shapes: tuple[Any, ...] | None = None
    finish: Callable[[Any], Any] = field(default=lambda network: network)
