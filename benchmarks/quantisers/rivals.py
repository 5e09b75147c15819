"""Which other tools are compared, and how one is run: its program in an interpreter of its own, on the same tensors."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgedet.export.quantisation.feeding import read_feeds
from edgedet.export.quantisation.judge import target_engine
from edgedet.model_spec import ModelSpec

__all__ = ["RIVALS", "Rival", "RivalError", "save_feeds"]

HERE = Path(__file__).resolve().parent
SECONDS = 1800


class RivalError(RuntimeError):
    """A tool that is not installed, or did not quantise a network."""


@dataclass(frozen=True)
class Rival:
    """Another tool.

    Attributes:
        name: what tables call it.
        package: what must be importable.
        program: file of this folder.
    """

    name: str
    package: str
    program: str

    def quantise(self, network: Path, feeds: Path, folder: Path, interpreters: Mapping[str, str]) -> onnx.ModelProto:
        """Return what the tool makes of a float network.

        Args:
            network: its ONNX file.
            feeds: folder that `save_feeds` wrote.
            folder: for its files.
            interpreters: package -> the interpreter that has it; this one where a package is not named.

        Raises:
            RivalError: if it is not installed, fails, or takes half an hour.
        """
        python = interpreters.get(self.package, sys.executable)
        if self.package not in interpreters and importlib.util.find_spec(self.package) is None:
            raise RivalError(f"not installed: name an interpreter that has it with --python {self.package}=PYTHON")
        # Tools are known to write into the file that they are given.
        source, target = folder / "source.onnx", folder / f"{Path(self.program).stem}.onnx"
        shutil.copy(network, source)
        command = [python, str(HERE / self.program), str(source), str(feeds), str(target)]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RivalError(f"not ready after {SECONDS} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise RivalError(lines[-1])
        return onnx.load(target)


RIVALS = (
    Rival("onnxruntime, defaults", "onnxruntime", "onnxruntime_defaults.py"),
    Rival("onnxruntime, tuned", "onnxruntime", "onnxruntime_tuned.py"),
    Rival("NNCF", "nncf", "nncf_ptq.py"),
    Rival("Model Optimizer", "modelopt", "modelopt_ptq.py"),
)


def save_feeds(model: onnx.ModelProto, spec: ModelSpec, paths: Iterable[Path], folder: Path) -> None:
    """Write what edgedet gives a network for pictures, one .npz file a run."""
    engine = target_engine(spec, model)
    for index, feed in enumerate(read_feeds(spec, engine, tuple(paths))):
        names = (value.name for value in engine.inputs)
        np.savez(folder / f"{index:05}.npz", **dict(zip(names, feed.tensors, strict=True)))  # type: ignore[arg-type]
    engine.close()
