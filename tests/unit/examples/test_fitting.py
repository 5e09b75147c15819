"""The training loop, on a network of two convolutions for a few steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import fitting
import numpy as np
import pytest
import torch
from networks.recipe import Recipe, Schedule
from torch import Tensor, nn

# The loader's worker is a fork of a process that has run PyTorch's threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SCHEDULE = Schedule(steps=3, batch=4, learning_rate=0.1, warmup=1, ema_decay=0.5)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 2, 1)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(x))
        return result


def draw(seed: int, index: int) -> Any:
    return np.random.default_rng([seed, index]).random((3, 4, 4), np.float32)


def loss(model: Tiny, batch: Tensor) -> Tensor:
    return (model(batch).float() - batch.mean(dim=1, keepdim=True)).square().mean()


def recipe() -> Recipe:
    return Recipe(
        name="tiny",
        title="tiny",
        build=Tiny,
        draw=draw,
        collate=lambda samples: torch.from_numpy(np.stack(samples)),
        loss=loss,
        schedule=SCHEDULE,
        describe=lambda _: {},
        sample=lambda _: (torch.zeros(1, 3, 4, 4),),
        answer=lambda *_: pytest.fail("training answers nothing"),
    )


def start(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Tiny().state_dict()


def moved(trained: nn.Module, part: str) -> bool:
    before = start()
    return any(not torch.equal(before[name], value) for name, value in trained.state_dict().items() if part in name)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_training_lowers_the_loss_and_leaves_eval_mode(bfloat16: bool) -> None:
    trained = fitting.train(recipe(), dataclasses.replace(SCHEDULE, steps=12, bfloat16=bfloat16), seed=0)
    fresh = Tiny()
    fresh.load_state_dict(start())
    batch = recipe().collate([draw(9, index) for index in range(8)])
    assert loss(trained, batch) < 0.5 * loss(fresh, batch)
    assert not trained.training
    assert all(value.dtype == torch.float32 for value in trained.state_dict().values())


def test_the_same_seed_trains_the_same_network() -> None:
    first, again = (fitting.train(recipe(), SCHEDULE, seed=0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_no_steps_leave_the_network_as_it_was_built() -> None:
    trained = fitting.train(recipe(), dataclasses.replace(SCHEDULE, steps=0), seed=0)
    assert not moved(trained, "") and not trained.training


def test_a_backbone_rate_of_0_leaves_the_backbone_as_it_is() -> None:
    frozen = fitting.train(recipe(), dataclasses.replace(SCHEDULE, backbone_rate=0.0), seed=0)
    assert not moved(frozen, "backbone") and moved(frozen, "head")
    free = fitting.train(recipe(), SCHEDULE, seed=0)
    assert moved(free, "backbone") and moved(free, "head")


def test_the_result_is_the_average_of_the_steps() -> None:
    seen: list[dict[str, Tensor]] = []

    def watched(model: Tiny, batch: Tensor) -> Tensor:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return loss(model, batch)

    last_only = dataclasses.replace(SCHEDULE, ema_decay=0.0)
    third = fitting.train(dataclasses.replace(recipe(), loss=watched), last_only, seed=0).state_dict()
    _, first, second = seen
    for name, value in fitting.train(recipe(), SCHEDULE, seed=0).state_dict().items():
        torch.testing.assert_close(value, 0.25 * first[name] + 0.25 * second[name] + 0.5 * third[name])


def test_progress_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    fitting.train(recipe(), SCHEDULE, seed=0)
    assert capsys.readouterr().out.startswith("step 3/3  loss ")
