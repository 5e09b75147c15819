"""Files appear complete or not at all, and a full disk leaves what was there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "result.json"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".json" and temporary.parent == tmp_path
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.json"]


def test_the_umask_decides_on_permissions(tmp_path):
    path = tmp_path / "result"
    old = os.umask(0o027)
    try:
        with atomic_file(path) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SinkError, match="missing/result"), atomic_file(tmp_path / "missing" / "result"):
        pass


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edgedet.atomic_file import atomic_file
from edgedet.errors import SinkError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_file(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(bytes(5000))
except SinkError as error:
    print(error)
"""


def test_no_room_is_said_and_loses_nothing(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    answer = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(f"Expected room and permission to write '{path}', got File too large")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]
