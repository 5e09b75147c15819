"""The one place that words a missing optional dependency."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from edgedet.errors import MissingDependencyError

__all__ = ["is_installed", "require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which pip command adds it.

    Args:
        module: dotted name to import, for example ``"torchvision.models"``.
        extra: the extra of edgedet that installs it.
        purpose: what needs it, as a noun phrase ("exporting Ultralytics checkpoints").

    Raises:
        MissingDependencyError: if the module, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"the package {module.partition('.')[0]!r} for {purpose}",
            f"an import error ({error})",
            f"Install it with: pip install 'edgedet[{extra}]'",
        ) from error


def is_installed(module: str) -> bool:
    """Tell whether a top-level module can be found, without importing it."""
    return importlib.util.find_spec(module) is not None
