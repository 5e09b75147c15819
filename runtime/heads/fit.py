"""What heads share about ``check``: holding tensor shapes against the parameters, worded in one place."""

from __future__ import annotations

from collections.abc import Sequence

from edgedet.errors import SpecError
from edgedet.model_spec import TensorSpec

__all__ = [
    "check_anchors",
    "check_axis",
    "check_channels",
    "check_count",
    "check_prototypes",
    "check_rank",
    "check_strides",
]


def check_count(outputs: Sequence[TensorSpec], names: Sequence[str], *, optional: int = 0) -> None:
    """Hold the number of outputs against what the head reads.

    Args:
        outputs: the network's.
        names: what each of them is.
        optional: how many of the last ones may be absent.

    Raises:
        SpecError: if there are more or fewer.
    """
    if not len(names) - optional <= len(outputs) <= len(names):
        least = f"{len(names) - optional} to " if optional else ""
        raise SpecError(
            f"{least}{len(names)} output{'' if len(names) == 1 else 's'} ({', '.join(names)})",
            f"{len(outputs)} ({', '.join(repr(output.name) for output in outputs)})",
            "List in the spec the outputs that the head reads, in its order, or name another head",
        )


def check_rank(output: TensorSpec, axes: Sequence[str]) -> None:
    """Hold the number of axes against those that the layout names.

    Raises:
        SpecError: if they differ.
    """
    if len(output.shape) != len(axes):
        raise SpecError(
            f"{len(axes)} axes ({', '.join(axes)}) in output {output.name!r}",
            f"shape {list(output.shape)}",
            "Correct the head's layout, or name another head",
        )


def check_axis(output: TensorSpec, axis: int, wanted: int, meaning: str, action: str) -> None:
    """Hold the length of one axis against what it should be; a dynamic axis (-1) fits anything.

    Args:
        output: the tensor.
        axis: which of its axes.
        wanted: how long it should be.
        meaning: what that many are ("4 box coordinates").
        action: what to do where they differ.

    Raises:
        SpecError: if they differ.
    """
    got = output.shape[axis]
    if got not in (-1, wanted):
        raise SpecError(
            f"{meaning} on axis {axis} of output {output.name!r}", f"{got} (shape {list(output.shape)})", action
        )


def check_channels(
    output: TensorSpec, axis: int, parts: Sequence[tuple[int, str]], classes: int, factor: int = 1
) -> None:
    """Hold a channel axis against the sum of what it is made of and the number of classes.

    Args:
        output: the tensor.
        axis: which of its axes is the channels.
        parts: what the channels are beside the class scores, as (how many, what).
        classes: number of class names.
        factor: how often all that is repeated (anchors of a cell).

    Raises:
        SpecError: if they differ; the message shows the sum.
    """
    wanted = factor * (sum(count for count, _ in parts) + classes)
    terms = " + ".join(f"{count} {what}" for count, what in (*parts, (classes, "class scores")) if count)
    total = f"{wanted} = {factor} x ({terms})" if factor != 1 else f"{wanted} = {terms}"
    check_axis(
        output,
        axis,
        wanted,
        f"{total} for {classes} class names",
        "Pass the right class names with --names, or correct the head's parameters",
    )


def check_prototypes(outputs: Sequence[TensorSpec], coefficients: int) -> None:
    """Hold the mask prototypes, where there are any, against the number of mask coefficients.

    Raises:
        SpecError: if they are not (B, coefficients, h, w).
    """
    for output in outputs:
        check_rank(output, ("batch", "prototypes", "rows", "columns"))
        check_axis(
            output,
            1,
            coefficients,
            f"{coefficients} mask prototypes, as many as head.mask_coefficients",
            "Correct head.mask_coefficients, or the order of the outputs",
        )


def check_anchors(output: TensorSpec, axis: int, wanted: int, size: tuple[int, int], strides: tuple[int, ...]) -> None:
    """Hold the number of locations against the input size and the strides.

    Raises:
        SpecError: if they differ.
    """
    shown = ", ".join(map(str, strides))
    check_axis(
        output,
        axis,
        wanted,
        f"{wanted} locations for an input of {size[0]}x{size[1]} at stride{'' if len(strides) == 1 else 's'} {shown}",
        "Correct input.width, input.height or the head's strides",
    )


def check_strides(strides: tuple[int, ...]) -> None:
    """Refuse a head without strides, or with one below 1.

    Raises:
        SpecError: if so.
    """
    if not strides or min(strides) < 1:
        raise SpecError("head.strides of at least 1", str(strides), "Use the strides of the network, 8, 16, 32, say")
