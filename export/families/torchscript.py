"""TorchScript archives: a compiled module, described by an extra file or by ``--spec``."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from edgedet.errors import ModelFileError
from edgedet.export.families.described import EXTRA_FILE, described_model, read_description
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.optional import require

__all__ = ["TorchScript"]


class TorchScript(Family):
    """A module that ``torch.jit.save`` wrote, with ``edgedet.json`` among its extra files or a ``--spec``.

    Its code is TorchScript, which torch interprets: loading it runs no Python of the file's.
    """

    name: ClassVar[str] = "torchscript"
    takes: ClassVar[str] = f"TorchScript archives with an extra file {EXTRA_FILE}, or with --spec"
    extra: ClassVar[str | None] = "torch"

    def recognises(self, source: Source) -> bool:
        """Tell whether the source is a TorchScript archive."""
        return source.kind == "torchscript"

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Load the module in eval mode.

        Raises:
            ModelFileError: if it is no TorchScript archive, or this torch cannot read it.
            SpecError: if nothing describes its outputs and input size.
        """
        if source.kind != "torchscript":
            raise ModelFileError(
                "a TorchScript archive", f"'{source.path}', a {source.kind} source", "Name another --family"
            )
        torch = require("torch", extra=str(self.extra), purpose="reading TorchScript archives")
        module, text = _load(torch, source)
        return described_model(module, request, description=read_description(text, source.path), tracer="torchscript")


def _load(torch: Any, source: Source) -> tuple[Any, bytes | str]:
    extra: dict[str, bytes | str] = {EXTRA_FILE: ""}
    try:
        with warnings.catch_warnings():
            # torch deprecates TorchScript as a whole; these archives exist all the same.
            warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated", category=DeprecationWarning)
            module = torch.jit.load(str(source.path), map_location="cpu", _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelFileError(
            "a TorchScript archive that this torch can read",
            f"'{source.path}' and torch {torch.__version__}: {lines[0]}",
            "Save it again, or export the original module",
        ) from error
    # A module that was frozen has no training mode left to leave.
    return (module.eval() if hasattr(module, "training") else module), extra[EXTRA_FILE]
