"""From a BGR picture to the network's input tensor: the definition of right, and the CPU path.

A pixel v of channel c becomes ``v * (1 / std[c]) + (-mean[c] / std[c])`` in float32, after resizing with OpenCV's
half-pixel convention in 8 bits: bilinear, or the average of the area (see ``shrinks_by_area``). Tensors of integers
hold that number rounded, to the even one where two are as near. Pixel edges map linearly: source x -> x * scale_x +
offset_x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgedet.errors import ImageError, SpecError
from edgedet.model_spec import InputSpec

__all__ = ["Normalisation", "Placement", "Preprocessor", "check_image", "place", "shrinks_by_area"]

Image = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Placement:
    """Where a source picture lies in the network's input.

    Attributes:
        source_width, source_height: size of the picture in pixels.
        left, top: first column and row of the network's input that the picture covers.
        width, height: columns and rows that it covers.
    """

    source_width: int
    source_height: int
    left: int
    top: int
    width: int
    height: int

    def to_source(self, xyxy: npt.NDArray[np.float32], *, clip: bool = True) -> npt.NDArray[np.float32]:
        """Map (N, 4) boxes from network-input pixels to source pixels, clipped to the picture unless told not to."""
        scale = np.array([self.source_width / self.width, self.source_height / self.height] * 2, np.float32)
        offset = np.array([self.left, self.top] * 2, np.float32)
        limit = np.array([self.source_width, self.source_height] * 2, np.float32)
        boxes: npt.NDArray[np.float32] = (xyxy - offset) * scale
        clipped: npt.NDArray[np.float32] = np.clip(boxes, 0, limit)
        return clipped if clip else boxes

    def to_input(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map (N, 4) boxes from source pixels to network-input pixels."""
        scale = np.array([self.width / self.source_width, self.height / self.source_height] * 2, np.float32)
        boxes: npt.NDArray[np.float32] = xyxy * scale + np.array([self.left, self.top] * 2, np.float32)
        return boxes


def place(source_width: int, source_height: int, spec: InputSpec) -> Placement:
    """Fit a picture into the network's input as ``spec.resize`` and ``spec.pad_position`` say.

    Centred padding of an odd number of pixels puts the smaller half left and above, as Ultralytics does.
    """
    if spec.resize == "stretch":
        return Placement(source_width, source_height, 0, 0, spec.width, spec.height)
    scale = min(spec.width / source_width, spec.height / source_height)
    width = min(max(round(source_width * scale), 1), spec.width)
    height = min(max(round(source_height * scale), 1), spec.height)
    left = top = 0
    if spec.pad_position == "center":
        left, top = (spec.width - width) // 2, (spec.height - height) // 2
    return Placement(source_width, source_height, left, top, width, height)


def shrinks_by_area(width: int, height: int, placement: Placement, spec: InputSpec) -> bool:
    """Tell whether a picture (or a part of one) of a size is averaged over areas, not interpolated.

    It is where the spec wants it and the picture shrinks to less than half along an axis and grows along none.
    """
    shrinks = width >= placement.width and height >= placement.height
    return spec.downscale == "area" and shrinks and (width > 2 * placement.width or height > 2 * placement.height)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What makes a tensor's element of a pixel: ``pixel * scale + offset`` in float32; arrays (3,) by tensor channel.

    Attributes:
        scale, offset: of each channel.
        pad: what padding becomes.
        order: channel of a BGR picture that each channel of the tensor shows.
    """

    scale: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    pad: npt.NDArray[np.float32]
    order: tuple[int, int, int]

    @classmethod
    def of(cls, spec: InputSpec) -> Normalisation:
        """Return the numbers of a spec.

        Raises:
            SpecError: if the network's input is grey, or of integers that mean and std do not spread pixels over.
        """
        if spec.channels == "GRAY":
            raise SpecError("three colour channels", "a network with grey input", "Export it with RGB or BGR input")
        _check_integers(spec)
        scale = (1 / np.array(spec.std, np.float64)).astype(np.float32)
        offset = (-np.array(spec.mean, np.float64) / np.array(spec.std, np.float64)).astype(np.float32)
        pad: npt.NDArray[np.float32] = spec.pad_value * scale + offset
        return cls(scale, offset, pad, (2, 1, 0) if spec.channels == "RGB" else (0, 1, 2))


def _check_integers(spec: InputSpec) -> None:
    if spec.dtype not in ("uint8", "int8"):
        return
    mean, std = np.array(spec.mean), np.array(spec.std)
    ends = np.rint([-mean / std, (255 - mean) / std])
    limits = np.iinfo(spec.dtype)
    # Half of the type's values, since a symmetrical quantisation of 0..255 to int8 uses no negative ones.
    spread = np.abs(ends[1] - ends[0]).min() >= 127
    if not spread or ends.min() < limits.min or ends.max() > limits.max:
        raise SpecError(
            f"a mean and std that spread pixels of 0..255 over {limits.min}..{limits.max} for a {spec.dtype} input",
            f"mean {spec.mean}, std {spec.std}",
            "Correct input.mean and input.std of the spec (uint8: 0 and 1, int8: 128 and 1, or as it was quantised)",
        )


class Preprocessor:
    """Turns pictures into input tensors for one InputSpec; safe to call from several threads.

    Raises:
        SpecError: as ``Normalisation.of``.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._normalisation = Normalisation.of(spec)

    def __call__(self, images: Sequence[Image]) -> tuple[Tensor, list[Placement]]:
        """Resize, normalise and lay out a batch.

        Args:
            images: (H, W, 3) uint8 BGR pictures, sizes may differ.

        Returns:
            The tensor, (B, 3, height, width) or (B, height, width, 3) in ``spec.dtype``, and where each picture lies.

        Raises:
            ImageError: if a picture has another shape or type.
        """
        tensor = self.empty(len(images))
        placements = []
        for target, image in zip(tensor, images, strict=True):
            check_image(image)
            placement = place(image.shape[1], image.shape[0], self.spec)
            self.write(image, target, placement)
            placements.append(placement)
        return tensor, placements

    def empty(self, count: int) -> Tensor:
        """Return an input tensor for so many pictures, whose values are not set yet."""
        spec = self.spec
        shape = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
        return np.empty((count, *shape), spec.dtype)

    def write(self, image: Image, target: Tensor, placement: Placement) -> None:
        """Resize and normalise a picture, or a part of one, into its place in an input tensor, and pad around it.

        Args:
            image: (H, W, 3) uint8 BGR.
            target: the tensor's share of it, (3, height, width) or (height, width, 3).
            placement: where it goes; the source's size is not looked at.
        """
        resized = self._resize(image, placement)
        if self.spec.layout == "NCHW":
            self._write_planes(resized, target, placement)
        else:
            self._write_interleaved(resized, target, placement)

    def _resize(self, image: Image, at: Placement) -> Image:
        height, width = image.shape[:2]
        if (width, height) == (at.width, at.height):
            return image
        area = shrinks_by_area(width, height, at, self.spec)
        method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (at.width, at.height), interpolation=method), np.uint8)

    def _write_planes(self, resized: Image, target: Tensor, at: Placement) -> None:
        channels = cv2.split(resized)
        values = self._normalisation
        for plane, channel, scale, offset, pad in zip(
            target, (channels[k] for k in values.order), values.scale, values.offset, values.pad, strict=True
        ):
            _fill_border(plane, at, pad)
            region = plane[at.top : at.top + at.height, at.left : at.left + at.width]
            _normalise(channel, region, scale, offset)

    def _write_interleaved(self, resized: Image, target: Tensor, at: Placement) -> None:
        values = self._normalisation
        _fill_border(target, at, values.pad)
        region = target[at.top : at.top + at.height, at.left : at.left + at.width]
        if self.spec.channels == "RGB":
            resized = np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)
        _normalise(resized, region, values.scale, values.offset)


def check_image(image: object) -> None:
    """Refuse what is no picture.

    Raises:
        ImageError: if it is no uint8 array of shape (height, width, 3), or has no pixels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(
            "a BGR picture, a uint8 array of shape (height, width, 3)",
            got,
            "Convert it, for example with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)",
        )
    if image.size == 0:
        raise ImageError("a picture with pixels", f"shape {image.shape}", "Check where the picture comes from")


def _normalise(
    pixels: npt.NDArray[np.generic], region: Tensor, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]
) -> None:
    if region.dtype == np.uint8 and np.all(scale == 1) and not np.any(offset):
        np.copyto(region, pixels)
        return
    if region.dtype == np.float32:
        np.multiply(pixels, scale, out=region, dtype=np.float32)
        if np.any(offset):
            np.add(region, offset, out=region)
        return
    np.copyto(region, _as_element(np.multiply(pixels, scale, dtype=np.float32) + offset, region), casting="unsafe")


def _as_element(values: npt.NDArray[np.float32], region: Tensor) -> npt.NDArray[np.float32]:
    return np.rint(values) if region.dtype.kind in "iu" else values


def _fill_border(target: Tensor, at: Placement, value: npt.NDArray[np.float32]) -> None:
    bottom, right = at.top + at.height, at.left + at.width
    for strip in (
        target[: at.top],
        target[bottom:],
        target[at.top : bottom, : at.left],
        target[at.top : bottom, right:],
    ):
        if strip.size:
            np.copyto(strip, _as_element(value, target), casting="unsafe")
