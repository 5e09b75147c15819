"""The training loop that all example networks share."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import click
import cv2
import torch
from networks.recipe import Recipe, Schedule
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

_REPORT_STEPS = 50


class Samples(Dataset[Any]):
    """The training samples of a recipe, drawn when asked for."""

    def __init__(self, recipe: Recipe, seed: int, count: int) -> None:
        self.recipe, self.seed, self.count = recipe, seed, count

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.count

    def __getitem__(self, index: int) -> Any:
        """Draw sample `index`, which depends on the seed and the index alone."""
        return self.recipe.draw(self.seed, index)


def train(recipe: Recipe, schedule: Schedule, seed: int) -> nn.Module:
    """Train a network and return the average of its last steps, in eval mode."""
    torch.manual_seed(seed)
    # One core learns while the other draws: measured as fast on two cores as two threads that wait for each other,
    # and far faster when the machine has other work too.
    torch.set_num_threads(1)
    # A network may draw pictures while it is built; threads of OpenCV would then be missing in the forked worker, which
    # waits for them forever.
    cv2.setNumThreads(1)
    model = recipe.build().train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaging = get_ema_multi_avg_fn(schedule.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    groups = _parameter_groups(model, schedule)
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, schedule))
    report = _Report(schedule.steps)
    for step, batch in enumerate(_loader(recipe, schedule, seed)):
        with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bfloat16):
            loss = recipe.loss(model, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.max_gradient)
        optimiser.step()
        rates.step()
        average.update_parameters(model)
        report.add(step, float(loss.detach()))
    return copy.deepcopy(average.module).eval()


def _parameter_groups(model: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Slow the trained backbone down, and keep weight decay off biases and norms: their scale is no complexity."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        trained = name.startswith("backbone.")
        if trained and schedule.backbone_rate == 0.0:
            parameter.requires_grad_(False)
            continue
        groups.setdefault((trained, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": schedule.learning_rate * (schedule.backbone_rate if trained else 1.0),
            "weight_decay": schedule.weight_decay if kernels else 0.0,
        }
        for (trained, kernels), parameters in groups.items()
    ]


def _rate(step: int, schedule: Schedule) -> float:
    warm = min(1.0, (step + 1) / schedule.warmup)
    return warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(schedule.steps, 1)))))


def _loader(recipe: Recipe, schedule: Schedule, seed: int) -> Iterator[Any]:
    # One worker: a picture costs less to draw than to learn from, and two would take the cores from the network.
    yield from DataLoader(
        Samples(recipe, seed, schedule.steps * schedule.batch),
        schedule.batch,
        num_workers=1,
        collate_fn=recipe.collate,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4,
    )


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class _Report:
    """Print the mean loss and the time left, every few steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.losses = steps, list[float]()
        self.start = time.monotonic()

    def add(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        done = step + 1
        if done % _REPORT_STEPS and done != self.steps:
            return
        spent = time.monotonic() - self.start
        left = spent / done * (self.steps - done)
        mean = sum(self.losses) / len(self.losses)
        click.echo(f"step {done}/{self.steps}  loss {mean:.3f}  {spent:.0f} s, {left:.0f} s left")
        self.losses.clear()
