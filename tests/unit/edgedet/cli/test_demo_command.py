from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

EDGEDET = [sys.executable, "-c", "from edgedet.cli.main import main; main()"]


@contextlib.contextmanager
def demo(folder: Path, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo in a folder; yields it and the address of its page."""
    variables = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(
        [*EDGEDET, "demo", *words],
        cwd=folder,
        env={**variables, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"Live page: (http://127\.0\.0\.1:\d+/)\n", line)
        try:
            assert match is not None, (line, process.stderr and process.stderr.read())
            yield process, match[1]
        finally:
            process.kill()


def wait_for_a_frame(url: str) -> bytes:
    with urllib.request.urlopen(f"{url}stream", timeout=20) as stream:
        seen = b""
        while b'"frame":' not in seen:
            seen += stream.read1(1 << 16)
    return seen


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Exit code, standard output and standard error after a signal."""
    assert process.stdout is not None and process.stderr is not None
    process.send_signal(number)
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(20), out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_page_until_it_is_told_to_stop(tmp_path: Path, number):
    with demo(tmp_path, "--web", "0") as (process, url):
        assert b"<title>edgedet</title>" in urllib.request.urlopen(url, timeout=20).read()
        assert b"edgedet demo: handwritten digits" in wait_for_a_frame(url)
        code, out, err = ended(process, number)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "Ctrl-C ends the demo" and lines[-1] == "Next: edgedet run MODEL --source 0 --web"
    assert re.match(r"\d+ frames?, \d+ objects: ", lines[1]) and lines[2].startswith("A frame: pre-processing ")
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_another_ones(tmp_path: Path):
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 8000)):
        with demo(tmp_path) as (_, url):
            assert not url.endswith(":8000/")
        return
    with demo(tmp_path) as (_, url):  # somebody else has it
        assert not url.endswith(":8000/")


def test_a_port_that_was_named_is_the_users(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [*EDGEDET, "demo", "--web", str(server.getsockname()[1])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: Expected a free port to listen at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_over_ssh_it_says_how_the_page_is_seen(tmp_path: Path):
    with demo(tmp_path, "--web", "0", SSH_CONNECTION="1 2 3 4") as (process, url):
        assert process.stdout is not None
        port = url.rpartition(":")[2].rstrip("/")
        assert f"ssh -L {port}:127.0.0.1:{port} THIS-MACHINE" in process.stdout.readline()


@pytest.mark.parametrize(("words", "opened"), [(["--open"], True), (["--no-open"], False), ([], False)])
def test_a_browser_is_opened_where_it_is_wanted(tmp_path: Path, words, opened):
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho \"$1\" > '{tmp_path}/opened'\n")
    browser.chmod(0o755)
    with demo(tmp_path, "--web", "0", *words, BROWSER=f"{browser} %s") as (process, url):
        wait_for_a_frame(url)  # the browser was called before the stream began
        assert ended(process, signal.SIGINT)[0] == 0
    assert (tmp_path / "opened").exists() is opened
    assert not opened or (tmp_path / "opened").read_text() == f"{url}\n"
