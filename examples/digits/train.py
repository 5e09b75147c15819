"""Train the digit detector on freshly drawn pictures and save it as a torch.export archive."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from archive import save_archive
from dataset import PictureConfig, coco_dataset, make_picture, make_pictures
from evaluation import evaluate
from letterbox import boxes_to_input, letterbox
from loss import LossConfig, Targets, detection_loss
from model import DigitDetector
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
Batch = tuple[Tensor, Targets]

_DEFAULT_OUT = Path(__file__).resolve().parent.parent / "models" / "digits.pt"
# Pictures 0.. of seed 0 are the committed ones; a distant seed measures on others of the same held-out digits.
_EVALUATION_SEED = 1000
_REPORT_STEPS = 50


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run; `ema_decay` is per step, `warmup` is in steps, the rates are AdamW's."""

    steps: int = 3600
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup: int = 100
    ema_decay: float = 0.997
    max_gradient: float = 10.0
    seed: int = 0
    bfloat16: bool = True


class DigitPictures(Dataset[Sample]):
    """Training pictures fitted to the input square, drawn when asked for.

    Item `n` is uint8 [side, side, 3] RGB, boxes float32 [N, 4] (x1, y1, x2, y2 in input pixels) and labels int64 [N].
    """

    def __init__(self, config: PictureConfig, seed: int, count: int, side: int) -> None:
        self.config, self.seed, self.count, self.side = config, seed, count, side

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Draw picture `index`, which depends on the seed and the index alone."""
        picture = make_picture(self.config, "train", self.seed, index)
        pixels, mapping = letterbox(picture.pixels, self.side)
        return pixels, boxes_to_input(picture.boxes(), mapping), picture.labels


def collate(samples: list[Sample]) -> Batch:
    """Stack samples: pixels uint8 [B, side, side, 3], RGB, and targets padded to the fullest picture."""
    most = max(len(labels) for _, _, labels in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    present = torch.zeros(len(samples), most, dtype=torch.bool)
    for row, (_, sample_boxes, sample_labels) in enumerate(samples):
        count = len(sample_labels)
        boxes[row, :count] = torch.from_numpy(sample_boxes)
        labels[row, :count] = torch.from_numpy(sample_labels)
        present[row, :count] = True
    # Bytes, not floats: a quarter of the memory traffic between the worker and the training process.
    return torch.from_numpy(np.stack([pixels for pixels, _, _ in samples])), Targets(boxes, labels, present)


def train(config: TrainConfig, pictures: PictureConfig) -> DigitDetector:
    """Train from scratch and return the averaged model, in eval mode."""
    torch.manual_seed(config.seed)
    # One core learns while the other draws: measured as fast on two cores as two threads that wait for each other,
    # and far faster when the machine has other work too.
    torch.set_num_threads(1)
    model = DigitDetector()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaging = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    optimiser = torch.optim.AdamW(_parameter_groups(model, config), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, config))
    report = _Report(config.steps)
    for step, batch in enumerate(_loader(config, pictures, model.config.side)):
        loss = _batch_loss(model, batch, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        report.add(step, float(loss.detach()))
    trained = average.module
    assert isinstance(trained, DigitDetector)
    return trained.eval()


def _parameter_groups(model: DigitDetector, config: TrainConfig) -> list[dict[str, object]]:
    """Keep weight decay off biases and norms, whose scale is not a matter of complexity."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rate(step: int, config: TrainConfig) -> float:
    warm = min(1.0, (step + 1) / config.warmup)
    return warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / config.steps))))


def _loader(config: TrainConfig, pictures: PictureConfig, side: int) -> Iterator[Batch]:
    data = DigitPictures(pictures, config.seed, config.steps * config.batch, side)
    # One worker: a picture costs less to draw than to learn from, and two would take the cores from the network.
    loader = DataLoader(
        data, config.batch, num_workers=1, collate_fn=collate, worker_init_fn=_quiet_worker, prefetch_factor=4
    )
    yield from loader


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(1)


def _batch_loss(model: DigitDetector, batch: Batch, config: TrainConfig) -> Tensor:
    pixels, targets = batch
    # A permuted [B, H, W, 3] is channels-last already, the layout in which these convolutions train fastest.
    inputs = pixels.permute(0, 3, 1, 2).float() / 255.0
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        middles, sizes, logits = model.predict(inputs)
    boxes = torch.cat([middles - sizes / 2.0, middles + sizes / 2.0], dim=1).float().transpose(1, 2)
    return detection_loss(boxes, logits.float().transpose(1, 2), model.centres[0].T, targets, LossConfig())


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


def evaluate_held_out(model: DigitDetector, pictures: PictureConfig, count: int) -> dict[str, float]:
    """Return COCO "mAP" and "mAP50" (0..1) on `count` held-out pictures which are not among the committed ones."""
    drawn = list(make_pictures(pictures, "held_out", _EVALUATION_SEED, count))
    truth = coco_dataset(drawn, "held_out")
    return evaluate(model, (picture.pixels for picture in drawn), truth, model.config.side)


@click.command()
@click.option("--steps", type=click.IntRange(min=1), default=TrainConfig.steps, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=TrainConfig.batch, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=TrainConfig.seed, show_default=True)
@click.option("--bfloat16/--float32", default=TrainConfig.bfloat16, show_default=True, help="Arithmetic of training.")
@click.option("--evaluate", "count", type=click.IntRange(min=1), default=200, show_default=True, help="Pictures.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=_DEFAULT_OUT, help="Archive to write.")
def main(steps: int, batch: int, seed: int, bfloat16: bool, count: int, out: Path) -> None:
    """Train the digit detector, measure it on held-out digits and save it."""
    start = time.monotonic()
    model = train(TrainConfig(steps=steps, batch=batch, seed=seed, bfloat16=bfloat16), PictureConfig())
    click.echo(f"trained in {time.monotonic() - start:.0f} s; measuring on {count} held-out pictures")
    metrics = evaluate_held_out(model, PictureConfig(), count)
    click.echo(f"mAP50 {metrics['mAP50']:.4f}  mAP {metrics['mAP']:.4f}")
    size = save_archive(model, out)
    click.echo(f"wrote {out} ({size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
