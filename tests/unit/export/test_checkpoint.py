"""Checkpoints: what a pickle wants is listed and refused without running it."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet.errors import ModelFileError, UntrustedFileError
from edgedet.export.checkpoint import load_checkpoint, load_state_dict, peek

torch: Any = pytest.importorskip("torch")


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.target}'",)


class Writer:
    """The ways in which a malicious checkpoint can be packed."""

    @staticmethod
    def zipped(value: Any, path: Path) -> None:
        torch.save(value, path)

    @staticmethod
    def legacy(value: Any, path: Path) -> None:
        torch.save(value, path, _use_new_zipfile_serialization=False)

    @staticmethod
    def plain(value: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(value, protocol=2))

    @staticmethod
    def newest(value: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(value, protocol=4))

    @staticmethod
    def zipped_newest(value: Any, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=4))
            archive.writestr("archive/version", "3")


WRITERS = [Writer.zipped, Writer.legacy, Writer.plain, Writer.newest, Writer.zipped_newest]


@pytest.mark.parametrize("write", WRITERS)
def test_a_malicious_pickle_is_named_and_not_run(tmp_path: Path, write: Any) -> None:
    victim, path = tmp_path / "victim", tmp_path / "model.pt"
    write({"model": Attack(victim), "epoch": 3}, path)
    system = f"{os.system.__module__}.system"
    assert peek(path).suspicious == (system,)
    with pytest.raises(UntrustedFileError, match=rf"wants to run {system}\. .*--trust"):
        load_checkpoint(path, trust=False)
    assert not victim.exists()


def test_trust_runs_it(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "model.pt"
    Writer.zipped(Attack(victim), path)
    load_checkpoint(path, trust=True)
    assert victim.exists()


def test_a_global_that_is_computed_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    # "os" and "system" come out of the memo; then the name is taken from a list, where no reader of opcodes finds it.
    memo = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93."
    path.write_bytes(memo)
    assert peek(path).globals == ("os.system",)
    path.write_bytes(b"\x80\x04]\x8c\x06system\x93.")
    assert peek(path).globals == ("a name that it computes",)
    assert peek(path).suspicious


@pytest.mark.parametrize("write", [Writer.zipped, Writer.legacy])
def test_what_training_stores_beside_the_tensors_is_read(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "model.pth"
    content = {
        "model": collections.OrderedDict(weight=torch.arange(3.0), half=torch.ones(2, dtype=torch.float16)),
        "args": argparse.Namespace(classes=["a"], output=Path("runs")),
        "best": np.float64(0.5),
        "curve": np.arange(3),
        "step": torch.nn.Parameter(torch.zeros(1)),
    }
    write(content, path)
    found = load_checkpoint(path, trust=False)
    assert found["args"].classes == ["a"]
    assert found["best"] == 0.5
    assert found["curve"].tolist() == [0, 1, 2]
    assert peek(path).suspicious == ()
    assert {"weight", "half", "model"} <= set(peek(path).strings)
    torch.testing.assert_close(load_state_dict(path)["weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 1},
        lambda weights: {"model": {"weight": torch.ones(1)}, "ema": {"module": weights}},
        lambda weights: {"model": {f"module.{name}": tensor for name, tensor in weights.items()}},
    ],
    ids=["bare", "state_dict", "ema first", "data parallel"],
)
def test_the_state_dict_is_found(tmp_path: Path, wrap: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(wrap({"weight": torch.zeros(1)}), path)
    assert load_state_dict(path) == {"weight": torch.zeros(1)}


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    pytest.importorskip("safetensors.torch").save_file({"weight": torch.ones(2)}, path)
    assert load_state_dict(path)["weight"].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="complete PyTorch checkpoint"):
        load_state_dict(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:100], "cannot be read"),
        (lambda data: b"\x80\x02" + data[2:40], "cannot be read"),
    ],
)
def test_a_broken_file_is_no_security_matter(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelFileError, match=message):
        load_checkpoint(path, trust=False)


def test_weights_are_asked_for_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"epoch": 3, "note": "text"}, path)
    with pytest.raises(ModelFileError, match="a dictionary with the keys epoch, note"):
        load_state_dict(path)


def test_a_trusted_module_of_a_missing_package(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x02cnowhere.module\nNet\n.")
    with pytest.raises(ModelFileError, match="nowhere"):
        load_checkpoint(path, trust=True)
