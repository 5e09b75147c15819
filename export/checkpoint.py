"""PyTorch checkpoints, read without running what they carry.

A pickle is a program for a small stack machine, and "load the global os.system, call it" is one of its programs.
`peek` lists the globals and strings of a pickle by reading its opcodes, without torch and without executing any;
`load_checkpoint` lets torch build tensors and plain containers only, unless the user vouches for the file.

Source: Python's ``pickletools`` (opcodes); ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib
import pathlib
import pickle
import pickletools
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from edgedet.errors import ModelFileError, UntrustedFileError
from edgedet.optional import require

__all__ = ["PickleContents", "find_state_dict", "load_checkpoint", "load_state_dict", "peek", "refuse", "refuse_code"]

_COMPUTED = "a name that it computes"
_PLAIN_PREFIXES = ("torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.serialization._get_layout")
_PLAIN = {"collections.OrderedDict", "collections.Counter", "collections.defaultdict", "torch.Size", "torch.device"}
_PLAIN |= {"torch.Tensor", "torch.nn.parameter.Parameter", "_codecs.encode", "builtins.bytearray", "builtins.set"}
_PLAIN |= {"__builtin__.set", "__builtin__.bytearray", "builtins.complex", "__builtin__.complex"}
_STATE_DICT_KEYS = ("model_ema", "ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "module")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class PickleContents:
    """What a pickle mentions, in the order of first appearance.

    Attributes:
        globals: dotted names of the classes and functions that it would import.
        strings: the strings in it: keys of its dictionaries, so also the names of a state dict's tensors.
    """

    globals: tuple[str, ...]
    strings: tuple[str, ...]

    @property
    def suspicious(self) -> tuple[str, ...]:
        """The globals that are not needed to hold tensors and plain containers."""
        return tuple(name for name in self.globals if not _is_plain(name))


def peek(path: Path) -> PickleContents:
    """List what a checkpoint's pickle mentions, without executing it and without torch.

    Takes torch's zip archives and both older forms (a sequence of plain pickles).

    Raises:
        ModelFileError: if there is no readable pickle in it.
    """
    return _peek(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _peek(path: Path, _modified: int) -> PickleContents:
    found: dict[str, None] = {}
    strings: dict[str, None] = {}
    try:
        with _open_pickle(path) as (stream, count):
            for _ in range(count):
                _scan(stream, found, strings)
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, OSError, UnicodeError) as error:
        raise ModelFileError(
            "a PyTorch checkpoint", f"'{path}', whose pickle cannot be read ({error})", "Copy or download it again"
        ) from error
    return PickleContents(tuple(found), tuple(strings))


@contextlib.contextmanager
def _open_pickle(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = min((n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"), key=len, default=None)
            if name is None:
                raise KeyError("no data.pkl in the archive")
            with archive.open(name) as stream:
                yield stream, 1
        return
    with path.open("rb") as stream:
        # The older form of torch.save: magic number, protocol, system description, the object, the storages' keys.
        first = next((argument for code, argument, _ in pickletools.genops(stream) if code.name.startswith("LONG")), 0)
        stream.seek(0)
        yield stream, 5 if first == _LEGACY_MAGIC else 1


def _scan(stream: IO[bytes], found: dict[str, None], strings: dict[str, None]) -> None:
    memo: dict[int, str | None] = {}
    # The last two values pushed, where they are strings: what STACK_GLOBAL takes.
    recent: list[str | None] = [None, None]
    for code, argument, _ in pickletools.genops(stream):
        name = code.name
        if name in ("GLOBAL", "INST"):
            found[str(argument).replace(" ", ".")] = None
            recent.append(None)
        elif name == "STACK_GLOBAL":
            module, attribute = recent[-2:]
            found[_COMPUTED if module is None or attribute is None else f"{module}.{attribute}"] = None
            recent.append(None)
        elif name in ("EXT1", "EXT2", "EXT4"):
            found[f"extension code {argument}"] = None
            recent.append(None)
        elif "UNICODE" in name or "STRING" in name:
            strings[str(argument)] = None
            recent.append(str(argument))
        elif name == "MEMOIZE":
            memo[len(memo)] = recent[-1]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[cast(int, argument)] = recent[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            recent.append(memo.get(cast(int, argument)))
        elif name not in ("FRAME", "PROTO"):
            recent.append(None)
        del recent[:-2]


def _is_plain(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name in _PLAIN or name.startswith(_PLAIN_PREFIXES) or name in _safe_names():
        return True
    # torch.FloatStorage, torch.storage.UntypedStorage, torch.float16 and the like
    return module in ("torch", "torch.storage") and (attribute.endswith("Storage") or attribute in _TORCH_DTYPES)


_TORCH_DTYPES = {"float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"}


@functools.cache
def _safe_names() -> dict[str, Any]:
    """Globals beyond torch's own list that training scripts store and that hold data only."""
    multiarray: Any = importlib.import_module(
        "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    )
    names: dict[str, Any] = {
        "argparse.Namespace": argparse.Namespace,
        "types.SimpleNamespace": types.SimpleNamespace,
        "datetime.datetime": datetime.datetime,
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[f"{module}.scalar"] = multiarray.scalar
        names[f"{module}._reconstruct"] = getattr(multiarray, "_reconstruct")  # noqa: B009 (numpy pickles by this private name)
    for module in ("pathlib", "pathlib._local"):
        for cls in (pathlib.PosixPath, pathlib.PurePosixPath, pathlib.Path):
            names[f"{module}.{cls.__name__}"] = pathlib.PurePosixPath
        names[f"{module}.WindowsPath"] = names[f"{module}.PureWindowsPath"] = pathlib.PureWindowsPath
    return names


def load_checkpoint(path: Path, *, trust: bool, stand_ins: Mapping[str, type] | None = None) -> Any:
    """Read a checkpoint into CPU memory.

    Args:
        path: a file that ``torch.save`` wrote.
        trust: execute its pickle. Where False, only tensors, plain containers and `stand_ins` are built.
        stand_ins: dotted name of a class in the pickle -> harmless class that is built instead.

    Raises:
        UntrustedFileError: if the pickle wants more than that; the message names it.
        ModelFileError: if the file is truncated, is no checkpoint, or (with `trust`) needs what is not installed.
        MissingDependencyError: if torch is not installed.
    """
    torch = require("torch", extra="torch", purpose="reading PyTorch checkpoints")
    if trust:
        return _read(path, lambda: torch.load(path, map_location="cpu", weights_only=False))
    allowed = {**_safe_names(), **(stand_ins or {})}
    mentioned = peek(path)
    # torch lets a class pass by name and calls a dtype's class by its own: both have to be on the list.
    known = [(value, name) for name, value in allowed.items() if name in mentioned.globals]
    dtypes = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "?")]
    try:
        with torch.serialization.safe_globals([*known, *dtypes]), warnings.catch_warnings():
            # A pickle of a newer protocol than torch writes is read, or refused, all the same.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return _read(path, lambda: torch.load(path, map_location="cpu", weights_only=True))
    except ModelFileError as error:
        wanted = [name for name in mentioned.suspicious if name not in allowed]
        if not wanted or not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        raise refuse(path, wanted) from error.__cause__


def refuse(path: Path, wanted: Sequence[str]) -> UntrustedFileError:
    """Return the error that names what a pickle wants to import."""
    shown = ", ".join(wanted[:5]) + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")
    return UntrustedFileError(
        "a checkpoint that holds only tensors",
        f"'{path}', whose pickle wants to run {shown}",
        "Save its state_dict() and export that with --family package.module:factory, or pass --trust if you know "
        "where the file comes from",
    )


def refuse_code(path: Path) -> None:
    """Raise where reading the checkpoint would run more than rebuilding tensors takes; nothing is read for that.

    Raises:
        UntrustedFileError: with the names of what the pickle wants.
    """
    wanted = peek(path).suspicious
    if wanted:
        raise refuse(path, wanted)


def load_state_dict(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Read the tensors of a state dict by name: a safetensors file, or a checkpoint that holds one.

    Raises:
        ModelFileError: if no dictionary of tensors is in it.
        UntrustedFileError: see `load_checkpoint`.
    """
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":
        safetensors = require("safetensors.torch", extra="torch", purpose="reading safetensors files")
        tensors: dict[str, Any] = _read(path, lambda: safetensors.load_file(path))
        return tensors
    return find_state_dict(load_checkpoint(path, trust=trust), path)


def find_state_dict(checkpoint: Any, path: Path) -> dict[str, Any]:
    """Find the state dict in what a checkpoint holds, averaged weights (EMA) before plain ones.

    Keys lose the ``module.`` that data-parallel training puts before them.

    Raises:
        ModelFileError: if no dictionary of tensors is in it.
    """
    torch = require("torch", extra="torch", purpose="reading PyTorch checkpoints")
    found = _dictionary_of_tensors(checkpoint, torch.Tensor)
    if found is None:
        raise ModelFileError(
            "a state dict (names and tensors)",
            f"'{path}', which holds {_describe(checkpoint)}",
            "Save the module's state_dict() with torch.save",
        )
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return found


def _dictionary_of_tensors(value: Any, tensor: type) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    if value and all(isinstance(item, tensor) for item in value.values()):
        return {str(name): item for name, item in value.items()}
    for key in _STATE_DICT_KEYS:
        found = _dictionary_of_tensors(value.get(key), tensor)
        if found is not None:
            return found
    return None


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ImportError as error:
        raise ModelFileError(
            "a checkpoint whose classes can be imported",
            f"'{path}', which needs {error.name or error}",
            "Install that package, or run from the folder that holds it",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch, pickle and safetensors raise a dozen kinds for a broken file
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelFileError(
            "a complete PyTorch checkpoint", f"'{path}', which cannot be read ({lines[0]})", "Copy or download it again"
        ) from error


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary with the keys {', '.join(str(key) for key in list(value)[:8])}"
    return f"a {type(value).__module__}.{type(value).__name__}"
