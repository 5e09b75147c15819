"""A small encoder-decoder of convolutions, pooling and one kind of unpooling; random weights from a seed."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CLASSES", "UNPOOLINGS", "EncoderDecoder", "save_encoder_decoder"]

CLASSES = 5
WIDTHS = (3, 8, 12)
Size = tuple[int, int]


class Nearest(nn.Module):
    """Each value fills its window."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return functional.interpolate(x, size=size, mode="nearest")


class BedOfNails(Nearest):
    """Each value at the top left of its window, zeros elsewhere, as one writes it with slices."""

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        out = x.new_zeros(x.shape[0], x.shape[1], *size)
        out[:, :, : 2 * x.shape[2] : 2, : 2 * x.shape[3] : 2] = x
        return out


class BedOfNailsConvolution(Nearest):
    """The same as a transposed convolution whose kernel is 1 at the top left."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        kernel = torch.zeros(channels, 1, 2, 2)
        kernel[:, :, 0, 0] = 1
        self.register_buffer("kernel", kernel)

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        extra = [own - 2 * small for own, small in zip(size, x.shape[2:], strict=True)]
        return functional.conv_transpose2d(x, self.kernel, stride=2, output_padding=extra, groups=x.shape[1])


class MaxUnpooling(Nearest):
    """Each value where the maximum was found that pooling kept, zeros elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.unpool = nn.MaxUnpool2d(2, 2)

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return self.unpool(x, places, output_size=size)


class TransposedConvolution(nn.Module):
    """Learned: each value writes a weighted kernel, which overlap."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return self.layer(x, output_size=size)


class Bilinear(Nearest):
    """Between the four nearest values."""

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class BilinearAligned(Nearest):
    """Between the four nearest values, corners on corners."""

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Bicubic(Nearest):
    """Between the sixteen nearest values."""

    def forward(self, x: Any, places: Any, size: Size) -> Any:
        return functional.interpolate(x, size=size, mode="bicubic", align_corners=False)


UNPOOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "nearest": Nearest,
    "bed_of_nails": BedOfNails,
    "bed_of_nails_convolution": BedOfNailsConvolution,
    "max_unpooling": MaxUnpooling,
    "transposed_convolution": TransposedConvolution,
    "bilinear": Bilinear,
    "bilinear_aligned": BilinearAligned,
    "bicubic": Bicubic,
}


class EncoderDecoder(nn.Module):
    """Two levels down and two up again, to the size that each level had; answers with class scores or class ids.

    Args:
        unpooling: key of `UNPOOLINGS`.
        ids: answer with the best class of each pixel (B, H, W) and not with scores (B, CLASSES, H, W).
    """

    def __init__(self, unpooling: str, *, ids: bool = False) -> None:
        super().__init__()
        self.ids = ids
        pairs = list(itertools.pairwise(WIDTHS))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a if a > 3 else 8, 3, padding=1) for a, b in pairs[::-1])
        self.unpool = nn.ModuleList(UNPOOLINGS[unpooling](b) for _, b in pairs[::-1])
        self.score = nn.Conv2d(8, CLASSES, 1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Any) -> Any:
        """Map (B, 3, H, W) pictures."""
        levels: list[tuple[Any, Size]] = []
        for convolution in self.down:
            x = torch.relu(convolution(x))
            size = x.shape[2], x.shape[3]
            x, places = functional.max_pool2d(x, 2, 2, return_indices=True)
            levels.append((places, size))
        for (places, size), unpool, convolution in zip(levels[::-1], self.unpool, self.up, strict=True):
            x = torch.relu(convolution(unpool(x, places, size)))
        scores = self.score(x)
        return scores.argmax(1) if self.ids else scores


def save_encoder_decoder(path: Path, unpooling: str, size: Size, *, ids: bool = False, seed: int = 0) -> nn.Module:
    """Save one as a torch.export archive that describes itself, for pictures of width x height, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EncoderDecoder(unpooling, ids=ids).eval().requires_grad_(False)
    width, height = size
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (torch.zeros(2, 3, height, width),), dynamic_shapes=({0: batch},))
    description = {
        "task": "semantic",
        "head": {"name": "class_map" if ids else "class_scores"},
        "input": {"width": width, "height": height, "std": [255, 255, 255]},
        "class_names": [f"class {index}" for index in range(CLASSES)],
    }
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"edgedet.json": json.dumps(description)})
    path.write_bytes(buffer.getvalue())
    return network
