"""A module of the user's own: weights for what ``package.module:factory`` builds, or a whole pickled module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

from edgedet.errors import ModelFileError, SpecError
from edgedet.export.checkpoint import load_checkpoint, load_state_dict, refuse_code
from edgedet.export.families.described import described_model
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.state_dict import load_weights
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.optional import require

__all__ = ["PythonFactory", "import_factory"]


class PythonFactory(Family):
    """A state dict for a module that the user's own code builds, or a pickled module with ``--trust``.

    ``--family package.module:factory`` names a function (or class) that is called without arguments and returns the
    ``torch.nn.Module``; it is imported from the current folder or from what is installed. The module takes the picture
    tensor and returns what the head reads, a tensor or a tuple; ``--spec`` says which head and which input.
    """

    name: ClassVar[str] = "python"
    takes: ClassVar[str] = "a state dict with --family package.module:factory; a pickled module with --trust"
    extra: ClassVar[str | None] = "torch"

    def recognises(self, source: Source) -> bool:
        """Never: a state dict does not say whose it is."""
        return False

    def fits(self, source: Source) -> bool:
        """Tell whether the source is a checkpoint or a safetensors file."""
        return source.kind in ("checkpoint", "safetensors")

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Build the module and load its weights strictly, or unpickle it whole.

        Raises:
            SpecError: if the factory cannot be imported or returns no module, or nothing describes the outputs.
            ModelFileError: if the weights do not fit the module.
            UntrustedFileError: if the file is a pickled module and the request does not trust it.
        """
        torch = require("torch", extra=str(self.extra), purpose="exporting a module of one's own")
        if request.variant is None:
            module = _pickled_module(torch, source, request)
        else:
            module = import_factory(str(request.family))()
            if not isinstance(module, torch.nn.Module):
                raise SpecError(
                    f"'{request.family}' to return a torch.nn.Module", f"a {type(module).__name__}", "Correct it"
                )
            load_weights(module, load_state_dict(source.path, trust=request.trust), source.path)
        return described_model(module.float().eval(), request)


def import_factory(name: str) -> Any:
    """Import ``package.module:factory``, from the current folder first.

    Raises:
        SpecError: if the module or the name in it does not exist.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            "--family to name an importable function, as package.module:factory does",
            f"{name!r} ({error})",
            "Run from the folder that holds the module, and check the spelling",
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise SpecError(
            f"'{name}' to be a function or class", f"a {type(found).__name__}", "Name the one that builds it"
        )
    return found


def _pickled_module(torch: Any, source: Source, request: ExportRequest) -> Any:
    if source.kind != "checkpoint":
        raise SpecError(
            "--family package.module:factory, which builds the network",
            f"--family {request.family} for '{source.path}'",
            "Name the function that builds the network of these weights",
        )
    if not request.trust:
        refuse_code(source.path)
    module = load_checkpoint(source.path, trust=request.trust)
    for key in ("ema", "model"):
        if isinstance(module, dict) and isinstance(module.get(key), torch.nn.Module):
            module = module[key]
    if not isinstance(module, torch.nn.Module):
        raise ModelFileError(
            "a whole pickled module",
            f"'{source.path}', which holds weights only",
            "Pass --family package.module:factory, which builds their network",
        )
    return module
