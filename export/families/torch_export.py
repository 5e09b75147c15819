"""torch.export archives (``.pt2``): a program with its own input shape, described by an extra file or by ``--spec``."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.families.described import EXTRA_FILE, described_model, read_description
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.optional import require

__all__ = ["TorchExport"]


class TorchExport(Family):
    """A program that ``torch.export.save`` wrote, with ``edgedet.json`` among its extra files or a ``--spec``."""

    name: ClassVar[str] = "torch_export"
    takes: ClassVar[str] = f"torch.export archives (.pt2) with an extra file {EXTRA_FILE}, or with --spec"
    extra: ClassVar[str | None] = "torch"

    def recognises(self, source: Source) -> bool:
        """Tell whether the source is a torch.export archive."""
        return source.kind == "torch_export"

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Load the program.

        Raises:
            ModelFileError: if it is no torch.export archive, or this torch cannot read it.
            SpecError: if nothing describes its outputs, or the description contradicts its input.
        """
        if source.kind != "torch_export":
            raise ModelFileError(
                "a torch.export archive", f"'{source.path}', a {source.kind} source", "Name another --family"
            )
        torch = require("torch", extra=str(self.extra), purpose="reading torch.export archives")
        program, text = _load(torch, source)
        tensor, *others = _inputs(program, source)
        shape = tuple(axis if isinstance(axis, int) else None for axis in tensor.shape)
        loaded = described_model(
            program,
            request,
            description=read_description(text, source.path),
            shape=shape,
            dynamic_batch=shape[0] is None,
        )
        _check_inputs(loaded, 1 + len(others), source)
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != loaded.input.dtype:
            raise SpecError(
                f"an input of type {dtype}, as the program in '{source.path}' takes it",
                f"{loaded.input.dtype} in its description",
                "Correct input.dtype with --spec",
            )
        return loaded


def _load(torch: Any, source: Source) -> tuple[Any, str]:
    extra = {EXTRA_FILE: ""}
    try:
        # From a path torch insists on the suffix .pt2; what the file is was told from its content.
        with source.path.open("rb") as stream, _quiet():
            return torch.export.load(stream, extra_files=extra), extra[EXTRA_FILE]
    except Exception as error:  # torch raises whatever its deserialiser meets
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelFileError(
            "a torch.export archive that this torch can read",
            f"'{source.path}' and torch {torch.__version__}: {lines[0]}",
            "Save it again with this version of torch",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.export")
    level = logger.level
    with warnings.catch_warnings():
        # torch's own deserialiser still uses a class by its old name.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        try:
            # It reports archives of the layout before torch 2.8, which it reads all the same.
            logger.setLevel(logging.ERROR)
            yield
        finally:
            logger.setLevel(level)


def _inputs(program: Any, source: Source) -> list[Any]:
    """Return what stands for each of the program's inputs, the first of them a tensor."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    found = [nodes[name].meta["val"] for name in program.graph_signature.user_inputs if name in nodes]
    if not found or not hasattr(found[0], "shape"):
        raise ModelFileError(
            "a program that takes a picture",
            f"'{source.path}', which takes no tensor",
            "Export a module whose forward takes the picture",
        )
    return found


def _check_inputs(loaded: LoadedModel, count: int, source: Source) -> None:
    wanted = 1 if loaded.regions_input is None else 2
    if count != wanted:
        raise ModelFileError(
            "a program with one input, the picture"
            if wanted == 1
            else "a program with two inputs, the picture and the boxes that are proposed to it",
            f"'{source.path}' with {count} inputs",
            "Export a module whose forward takes "
            + ("the picture alone" if wanted == 1 else "both, or set proposals.feed to crops"),
        )
