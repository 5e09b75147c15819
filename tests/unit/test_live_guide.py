"""docs/live.md and the examples' READMEs say what the programs do: options, metrics, layouts, names in Python."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import click
import pytest

from edgedet.cli.camera_options import camera_options
from edgedet.cli.main import COMMANDS
from edgedet.cli.network_options import network_options
from edgedet.cli.sink_options import sink_options
from edgedet.cli.stream_options import stream_options
from edgedet.runtime.sinks import shared_memory
from edgedet.runtime.stream import Latencies, metrics
from edgedet.runtime.stream.statistics import Drops, Statistics

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "live.md"
PAGES = (GUIDE, ROOT / "examples/README.md", ROOT / "examples/firmware/README.md")


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def commands_in(page: Path) -> list[tuple[str, str]]:
    """Return command and the rest of the line, of every line that calls edgedet."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"\bedgedet ([a-z]+)\b([^`#|\n]*)", text)
    return [(name, rest) for name, rest in found if name in COMMANDS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_options_exist(page: Path):
    for name, rest in commands_in(page):
        command = importlib.import_module(f"edgedet.cli.{name}_command").command
        known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest)) <= known | {"--help"}, f"edgedet {name}{rest}"


def test_every_option_for_live_work_is_explained():
    @click.command
    @stream_options
    @camera_options
    @network_options
    @sink_options
    def command(**options: object) -> None:
        """Take nothing."""

    text = GUIDE.read_text(encoding="utf-8")
    explained = set(re.findall(r"--[a-z-]+", text))
    flags = [{*parameter.opts, *parameter.secondary_opts} for parameter in command.params]
    assert len(flags) > 15
    assert not [either for either in flags if not either & explained]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_metrics_are_those_that_are_served():
    rows = table_rows(GUIDE.read_text(encoding="utf-8"))
    served = set(re.findall(r"^# TYPE (\w+)", metrics.metrics_text(Statistics(0, 0, 0.0, Latencies())), re.MULTILINE))
    assert {row.split("|")[1].strip() for row in rows if row.startswith("| edgedet_")} == served
    causes = {row.split("`")[1] for row in rows if re.match(r"\| `\w+` \| (was|gave|could)", row)}
    assert causes == set(Drops().by_cause())


def test_the_layout_of_the_shared_memory_is_the_module_s():
    assert shared_memory.__doc__ is not None
    wanted = [row for row in table_rows(shared_memory.__doc__) if re.match(r"\| \d", row)]
    assert len(wanted) > 15
    rows = table_rows(GUIDE.read_text(encoding="utf-8"))
    assert [row for row in rows if re.match(r"\| \d+ \| (u?int|char|record|\d+ bytes)", row)] == wanted


def test_what_the_python_fragments_name_exists():
    fragments = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    imports = 0
    for fragment in fragments:
        for node in ast.walk(ast.parse(fragment)):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), node.module
                imports += 1
    assert imports > 4
