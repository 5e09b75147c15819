"""Source: the file that is being exported, told apart by its content and never by its suffix."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnx

from edgedet.errors import ModelFileError
from edgedet.export.onnx_file import load_onnx
from edgedet.export.rewrite import NmsTail, cut_nms_tail, find_nms_tail
from edgedet.model_spec import METADATA_KEY

__all__ = ["Source", "SourceKind", "open_source", "without_nms"]

SourceKind = Literal["onnx", "torch_export", "torchscript", "checkpoint", "safetensors", "folder"]
"""What a source is: ``checkpoint`` is a pickle (zipped or plain), ``folder`` a transformers-like model folder."""


@dataclass(frozen=True)
class Source:
    """A model file (or folder) and what its content says that it is.

    Attributes:
        path: the file or folder.
        kind: what it is.
        edited: the ONNX model to look at instead of the file's, where it was changed before any family saw it.
    """

    path: Path
    kind: SourceKind
    edited: onnx.ModelProto | None = field(default=None, repr=False, compare=False)

    @functools.cached_property
    def onnx_model(self) -> onnx.ModelProto:
        """The parsed ONNX model, weights included (only for ``kind == "onnx"``)."""
        return load_onnx(self.path) if self.edited is None else self.edited

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the file; for a folder, of its files' names and contents in alphabetical order."""
        digest = hashlib.sha256()
        files = [self.path] if self.path.is_file() else sorted(p for p in self.path.rglob("*") if p.is_file())
        for file in files:
            if self.path.is_dir():
                digest.update(str(file.relative_to(self.path)).encode())
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        return digest.hexdigest()


def open_source(path: Path) -> Source:
    """Find out what a model file is.

    Raises:
        ModelFileError: if it does not exist, is empty, or is nothing that the exporter takes.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise ModelFileError("a model file", f"'{path}', which does not exist", "Check the path")
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start:
        raise ModelFileError("a model file", f"'{path}', which is empty", "Copy or download it again")
    if zipfile.is_zipfile(path):
        return Source(path, _kind_of_zip(path))
    if start[0] == 0x80 and start[1] in range(2, 6):
        return Source(path, "checkpoint")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return Source(path, "safetensors")
    if start.startswith(b"PK"):
        raise ModelFileError("a complete PyTorch file", f"'{path}', a zip archive that breaks off", "Copy it again")
    # An ONNX file has no magic number; a first field of 8 (ir_version, as a varint) is what every writer starts with,
    # and the parser tells the rest.
    if start[0] == 0x08 or path.suffix == ".onnx":
        return Source(path, "onnx")
    raise ModelFileError(
        "an ONNX file, a PyTorch checkpoint, a torch.export or TorchScript archive or a safetensors file",
        f"'{path}', which starts with {start[:8]!r}",
        "Export or save the model in one of these formats",
    )


def without_nms(source: Source) -> tuple[Source, NmsTail | None]:
    """Cut the NonMaxSuppression off that an ONNX source ends in, and say what it was given.

    Left as they are: files that carry a ModelSpec, which says how their outputs are read, and graphs that do not end in
    it, or thin out what cannot be told from outside (see ``find_nms_tail``).
    """
    if source.kind != "onnx" or METADATA_KEY in {entry.key for entry in source.onnx_model.metadata_props}:
        return source, None
    tail = find_nms_tail(source.onnx_model)
    if tail is None:
        return source, None
    return dataclasses.replace(source, edited=cut_nms_tail(source.onnx_model, tail)), tail


def _open_folder(path: Path) -> Source:
    if (path / "config.json").is_file():
        return Source(path, "folder")
    raise ModelFileError(
        "a model file, or a folder with a config.json and its weights",
        f"the folder '{path}' without a config.json",
        "Pass the model file itself",
    )


def _kind_of_zip(path: Path) -> SourceKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise ModelFileError(
            "a complete PyTorch file", f"'{path}', a broken zip archive ({error})", "Copy or download it again"
        ) from error
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        return "torch_export"
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" in names:
        return "checkpoint"
    raise ModelFileError(
        "a PyTorch checkpoint, TorchScript or torch.export archive",
        f"'{path}', a zip archive that is none of them",
        "Pass the model file itself",
    )
