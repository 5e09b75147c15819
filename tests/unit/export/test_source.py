"""What a file is, is told by its content, and every fault is named."""

from __future__ import annotations

import hashlib
import pickle
import zipfile

import onnx
import pytest
from onnx import TensorProto, helper

from edgedet.errors import ModelFileError
from edgedet.export.source import open_source


def tiny_onnx() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [value], [out]))


def write_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"archive/{name}", b"x")


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda p: p.write_bytes(tiny_onnx().SerializeToString()), "onnx"),
        (lambda p: write_zip(p, "data.pkl", "data/0"), "checkpoint"),
        (lambda p: write_zip(p, "data.pkl", "constants.pkl"), "torchscript"),
        (lambda p: write_zip(p, "archive_format", "models/model.json"), "torch_export"),
        (lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=2)), "checkpoint"),
        (lambda p: p.write_bytes((2).to_bytes(8, "little") + b"{}" + bytes(16)), "safetensors"),
    ],
)
def test_kind_is_told_by_content_not_by_suffix(tmp_path, write, kind):
    path = tmp_path / "model.bin"
    write(path)
    source = open_source(path)
    assert source.kind == kind
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_needs_a_config(tmp_path):
    with pytest.raises(ModelFileError, match=r"config\.json"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert open_source(tmp_path).kind == "folder"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, world", "starts with"),
        (b"PK\x03\x04 and nothing more", "breaks off"),
        (b"\x89PNG\r\n\x1a\n", "starts with"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        open_source(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        open_source(tmp_path / "model.pt")
