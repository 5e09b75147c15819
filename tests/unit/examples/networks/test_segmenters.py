"""The segmenters: what they learn from a batch, and what makes each of them the system that it is named after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import recipe
from networks.encoder_decoder import EncoderDecoder
from networks.fcn import FullyConvolutional
from networks.panoptic import PanopticNetwork
from scene_samples import draw_classes, draw_parts
from scenes import SCENE_CLASSES
from torch import nn

SIDE = 96
DRAW = {"fcn": draw_classes, "encoder_decoder": draw_classes, "panoptic": draw_parts}


@pytest.mark.parametrize("name", list(DRAW))
def test_the_loss_of_a_batch_falls(name: str) -> None:
    torch.manual_seed(0)
    chosen = recipe(name)
    batch = chosen.collate([DRAW[name](0, index, side=SIDE) for index in range(2)])  # type: ignore[operator]
    network = chosen.build()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses: list[float] = []
    for _ in range(5):
        loss = chosen.loss(network, batch)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (FullyConvolutional, [(14, 24, 24)]),
        (EncoderDecoder, [(14, 48, 48)]),
        (PanopticNetwork, [(14, 24, 24), (1, 24, 24), (2, 24, 24)]),
    ],
)
def test_outputs_have_the_promised_shapes(network: Any, shapes: list[tuple[int, ...]]) -> None:
    with torch.no_grad():
        answer = network().eval()(torch.rand(2, 3, SIDE, SIDE))
    outputs = answer if isinstance(answer, tuple) else (answer,)
    assert [tuple(output.shape[1:]) for output in outputs] == shapes
    assert len(SCENE_CLASSES) == 14


def test_the_decoder_puts_each_maximum_back_where_it_was() -> None:
    network = EncoderDecoder().eval()
    encode, decode = network.backbone[1], network.decoder[-1]
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        wide = encode.widen.norm(encode.widen.conv(x))
        _, places = encode(x)
        back = decode.unpool(encode.pool(wide)[0], places)
    blocks = wide.unfold(2, 2, 2).unfold(3, 2, 2)
    largest = blocks.amax(dim=(4, 5)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(back, torch.where(wide == largest, wide, 0.0))


def test_nothing_but_places_crosses_from_encoder_to_decoder() -> None:
    network = EncoderDecoder()
    kinds = {type(module) for module in network.modules()}
    assert nn.MaxUnpool2d in kinds and not kinds & {nn.Upsample, nn.ConvTranspose2d}
    # Convolutions of the decoder take what was put back and no more.
    assert [stage.spread.conv.in_channels for stage in network.decoder] == [
        stage.widen.conv.out_channels for stage in reversed(list(network.backbone)[1:])
    ]
