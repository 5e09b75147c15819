"""An encoder-decoder that remembers where each maximum came from, and puts it back there.

After Badrinarayanan et al., "SegNet", arXiv 1511.00561, and Noh et al., "Learning Deconvolution Network for Semantic
Segmentation", arXiv 1505.04366: nothing crosses from the encoder to the decoder but the places of the maxima.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from archive import describe
from box_samples import to_input
from plain_maps import class_map
from scene_samples import ClassBatch, class_loss, collate_classes, draw_classes
from scenes import SCENE_CLASSES
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from networks.backbone import CHANNELS, Backbone, ConvUnit, Residual, fuse
from networks.recipe import Recipe, Schedule

SIDE = 256
_LEAST_VARIANCE = 1e-4
_TEACHER = Path(__file__).resolve().parents[2] / "models" / "fcn.pt"


class Encoder(nn.Module):
    """A stage of the encoder: a convolution, the largest of each 2 x 2 places with where it was, more convolutions.

    The activation follows the pooling.  SiLU before it would leave many places as good as equal, near its minimum, and
    which of them is remembered would be a matter of rounding.
    """

    def __init__(self, widen: ConvUnit, refine: nn.Module) -> None:
        super().__init__()
        self.widen, self.refine = widen, refine
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 [B, inputs, H, W] to [B, outputs, H / 2, W / 2] and, int64 of this shape, places in [H, W]."""
        largest, places = self.pool(self.widen.norm(self.widen.conv(x)))
        return self.refine(functional.silu(largest)), places


class Decoder(nn.Module):
    """A stage of the decoder: each value goes where the maximum was, among zeros, and convolutions spread it."""

    def __init__(self, inputs: int, outputs: int, refine: bool) -> None:
        super().__init__()
        self.unpool = nn.MaxUnpool2d(2)
        self.spread = ConvUnit(inputs, outputs)
        self.refine = Residual(outputs) if refine else nn.Identity()
        self.scores = nn.Conv2d(outputs, len(SCENE_CLASSES), 1)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """Map float32 [B, inputs, H, W] and the places of an encoder's stage to [B, outputs, 2 H, 2 W]."""
        result: Tensor = self.refine(self.spread(self.unpool(x, places)))
        return result


class EncoderDecoder(nn.Module):
    """Score the classes of a scene at each cell of 2 x 2 input pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleList(trained_encoder())
        _, c4, c8, c16, _ = CHANNELS
        # A digit spans several of the coarsest cells, so that telling which one it is takes a look around.
        self.context = nn.Sequential(ConvUnit(c16, c16), ConvUnit(c16, c16))
        self.coarse_scores = nn.Conv2d(c16, len(SCENE_CLASSES), 1)
        self.decoder = nn.ModuleList(
            Decoder(inputs, outputs, refine)
            for inputs, outputs, refine in ((c16, c8, True), (c8, c4, True), (c4, c4, False))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [B, 3, side, side], RGB, 0..1, to class logits, float32 [B, 14, side / 2, side / 2]."""
        features, places = self.encode(x)
        result: Tensor = self.decode(self.context(features[-1]), places)[-1]
        return result

    def encode(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of the encoder's stages, at strides 4, 8 and 16, and the places of their maxima."""
        stem, *encoder = self.backbone
        x = stem(x)
        features: list[Tensor] = []
        remembered: list[Tensor] = []
        for encode in encoder:
            x, places = encode(x)
            features.append(x)
            remembered.append(places)
        return features, remembered

    def decode(self, x: Tensor, remembered: list[Tensor]) -> list[Tensor]:
        """Return class logits after each of the decoder's stages, at strides 8, 4 and 2."""
        logits: list[Tensor] = []
        for decode, places in zip(self.decoder, reversed(remembered), strict=True):
            x = decode(x, places)
            logits.append(decode.scores(x))
        return logits


@functools.cache
def teacher() -> Backbone:
    """Return the backbone of the trained fully convolutional network, which knows scenes, for others to learn from."""
    with _TEACHER.open("rb") as stream:
        state = torch.export.load(stream).state_dict
    backbone = fuse(Backbone().eval())
    backbone.load_state_dict({name: state[f"backbone.{name}"] for name in backbone.state_dict()})
    return backbone.requires_grad_(False)


@torch.no_grad()
def trained_encoder() -> list[nn.Module]:
    """Return the trained backbone as a stem at stride 2 and stages that pool, to stride 16, where it has strides."""
    trained = copy.deepcopy(teacher()).requires_grad_(True)
    stem, *first = trained.stem
    # Drawing scenes here would start OpenCV's threads, and the process that draws for the training could not be forked.
    x = stem(functional.interpolate(torch.rand(4, 3, SIDE // 8, SIDE // 8), scale_factor=8.0, mode="bilinear"))
    stages: list[nn.Module] = [stem]
    for widen, refine in (first, trained.stage8, trained.stage16):
        stages.append(Encoder(pooling_unit(widen, x), refine))
        x = refine(widen(x))
    return stages


@torch.no_grad()
def pooling_unit(trained: ConvUnit, x: Tensor) -> ConvUnit:
    """Return a unit whose maxima over 2 x 2 places are spread as the values of a trained unit with stride 2.

    The largest of four values is larger than the one that a stride picks, and what follows knows the latter: with the
    same kernels and nothing else the trained network no longer tells digits apart, nor learns to in a short time.
    `x` is what the trained unit sees, float32 [B, inputs, H, W].
    """
    conv = trained.conv
    unit = ConvUnit(conv.in_channels, conv.out_channels)
    unit.conv.weight.copy_(conv.weight)
    wanted = conv(x)
    largest = functional.max_pool2d(unit.norm(unit.conv(x)), 2)
    scale = _deviation(wanted) / _deviation(largest)
    unit.norm.weight.copy_(scale)
    unit.norm.bias.copy_(wanted.mean(dim=(0, 2, 3)) - scale * largest.mean(dim=(0, 2, 3)))
    return unit


def _deviation(x: Tensor) -> Tensor:
    return x.std(dim=(0, 2, 3))


def _loss(model: EncoderDecoder, batch: ClassBatch) -> Tensor:
    """Teach the classes at every stage of the decoder, and the encoder to see what the teacher's backbone sees.

    Taught the classes alone, a thousand steps find the strokes but not which digit they make: maxima are not what the
    trained kernels know.  Features as a lesson: Romero et al., "FitNets", arXiv 1412.6550.
    """
    x = to_input(batch.pixels)
    features, places = model.encode(x)
    with torch.no_grad():
        lessons = teacher().features(x)[:-1]
    missed = torch.stack([_missed(f, lesson) for f, lesson in zip(features, lessons, strict=True)]).mean()
    context = model.context(features[-1])
    *coarse, finest = [model.coarse_scores(context), *model.decode(context, places)]
    classes = batch.classes[:, ::2, ::2]
    aside = torch.stack([class_loss(logits, classes) for logits in coarse]).mean()
    return class_loss(finest, batch.classes) + aside + missed


def _missed(features: Tensor, lesson: Tensor) -> Tensor:
    """Return the mean squared difference of features, [B, C, H, W], in each channel over the lesson's variance."""
    apart, lesson = (features.float() - lesson.float()).square(), lesson.float()
    return (apart.mean(dim=(0, 2, 3)) / lesson.var(dim=(0, 2, 3)).clamp(min=_LEAST_VARIANCE)).mean()


RECIPE = Recipe(
    name="encoder_decoder",
    title="encoder-decoder, max unpooling",
    build=EncoderDecoder,
    draw=functools.partial(draw_classes, side=SIDE),
    collate=collate_classes,
    loss=_loss,
    schedule=Schedule(steps=2000, backbone_rate=1.0),
    describe=lambda model: describe("encoder_decoder", {"name": "class_scores"}, SIDE, "semantic", SCENE_CLASSES),
    sample=lambda model: (torch.zeros(2, 3, SIDE, SIDE),),
    dynamic_shapes=({0: Dim("batch", min=1)},),
    answer=lambda forward, pixels: class_map(forward, pixels, SIDE),
    pictures="scenes",
)
