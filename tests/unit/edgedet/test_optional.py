"""A missing package is named with the command that adds it."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgedet.errors import MissingDependencyError
from edgedet.optional import is_installed, require


def test_an_installed_module_is_returned():
    assert require("json.decoder", extra="eval", purpose="reading").JSONDecoder is json.JSONDecoder


def test_a_missing_module_names_its_extra():
    with pytest.raises(MissingDependencyError) as caught:
        require("no_such_package.part", extra="torch", purpose="exporting checkpoints")
    assert caught.value.expected == "the package 'no_such_package' for exporting checkpoints"
    assert "pip install 'edgedet[torch]'" in caught.value.action


def test_a_module_that_fails_to_import_something_else_says_what(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="what_it_needs"):
        require("half_installed", extra="torch", purpose="a test")


def test_is_installed_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("never_imported")
    assert "never_imported" not in sys.modules
    assert not is_installed("no_such_package")


def test_every_extra_that_the_code_names_exists(root):
    extras = set(metadata.metadata("edgedet").get_all("Provides-Extra"))
    files = [path for folder in ("edgedet", "export", "runtime") for path in Path(root, folder).rglob("*.py")]
    named = {name for path in files for name in re.findall(r'extra(?:: [\w\[\]| ]+)? ?= ?"(\w+)"', path.read_text())}
    assert named
    assert named <= extras
