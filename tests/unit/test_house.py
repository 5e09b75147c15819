"""The project keeps its own rules: packages listed, README true, versions agreed, no traces of one machine."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import edgedet
from edgedet.cli.main import COMMANDS
from edgedet.diagnosis import EXTRAS
from edgedet.runtime.heads import HEADS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"edgedet": "edgedet", "export": "edgedet.export", "runtime": "edgedet.runtime"}
MADE_BY_TOOLS = {"build", "dist", "demo", "__pycache__", "edgedet.egg-info"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """What git knows or would add; without git, every file outside of hidden folders and those that tools make."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        found = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        found = list(_files_under(ROOT))
    return tuple(path for path in found if path.is_file())


def _files_under(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not path.is_dir():
            yield path
        elif path.name not in MADE_BY_TOOLS and (not path.name.startswith(".") or path.name == ".ci"):
            yield from _files_under(path)


def source_files() -> list[Path]:
    return [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_package_on_disk_is_listed():
    on_disk = {
        ".".join([SOURCES[folder], *init.parent.relative_to(ROOT / folder).parts])
        for folder in SOURCES
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == on_disk


def test_no_python_file_lies_outside_a_package():
    assert not [path for path in source_files() if not (path.parent / "__init__.py").is_file()]


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_offers(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module begins with a docstring"
    body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    if not body:
        return
    names = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "__all__" in names
    assert isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__"


def test_the_changelog_has_the_version():
    assert re.search(rf"^## \[{re.escape(edgedet.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_extra_of_a_user_is_known_to_doctor():
    for_developers = {"test", "dev", "all", "rtx", "cubins"}
    assert set(project()["project"]["optional-dependencies"]) - for_developers == set(EXTRAS)


def test_the_extra_all_is_all():
    (requirement,) = project()["project"]["optional-dependencies"]["all"]
    built_on_the_spot = {"gstreamer", "pycuda"}  # sdists that need the system's headers
    assert Requirement(requirement).extras == set(EXTRAS) - built_on_the_spot


def test_the_constraints_pin_every_direct_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    assert not [pin for pin in pins if "+" in str(pin.specifier)], "a local version exists on one machine only"
    assert "torch==2.13.0" in lines
    pinned = {pin.name.lower() for pin in pins}
    extras = project()["project"]["optional-dependencies"]
    direct = [*project()["project"]["dependencies"], *extras["test"], *extras["dev"], *extras["torch"], *extras["eval"]]
    wanted = {Requirement(text).name.lower() for text in direct} - {"edgedet"}
    assert wanted <= pinned


def test_the_constraints_fit_the_dependencies():
    pins = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    versions = {(pin.name.lower(), str(pin.specifier)[2:]) for pin in pins}
    extras = project()["project"]["optional-dependencies"]
    for text in [*project()["project"]["dependencies"], *(item for items in extras.values() for item in items)]:
        wanted = Requirement(text)
        for name, version in versions:
            if name == wanted.name.lower():
                assert version in wanted.specifier, f"{name}=={version} does not fit {wanted}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_file(name):
    assert (ROOT / "edgedet/cli" / f"{name}_command.py").is_file()


def test_no_command_without_a_row_in_the_table():
    files = {path.name.removesuffix("_command.py") for path in (ROOT / "edgedet/cli").glob("*_command.py")}
    assert files == set(COMMANDS)


def test_no_machine_paths():
    private = re.compile(rb"/(?:work|root|farm|home/\w+|Users/\w+)/[A-Za-z.]")
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked_files()
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ".yml", ".cfg", ".sh", ""}
        for match in private.finditer(path.read_bytes())
        if path != Path(__file__)
    ]
    assert not found


def test_no_file_is_large():
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB"
        for path in tracked_files()
        if path.stat().st_size > 1 << 20
    ]
    assert not large


def test_files_stay_short():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()
    }
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_nothing_is_left_undone():
    marks = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|NotImplemented" + "Error")
    assert not [
        path.relative_to(ROOT).as_posix() for path in source_files() if marks.search(path.read_text(encoding="utf-8"))
    ]


def table_rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def readme_paths() -> set[str]:
    """Return the files and folders in the first column of the README's folder table."""
    section = (ROOT / "README.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]
    return {name for row in table_rows(section) for name in re.findall(r"`([^`]+)`", row[0])}


def test_what_the_readme_names_exists():
    paths = readme_paths()
    assert len(paths) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_readme_names_everything():
    wanted = {
        f"{path.name}/"
        for path in ROOT.iterdir()
        if path.is_dir() and any(path in file.parents for file in tracked_files())
    }
    for folder in SOURCES:
        for path in (ROOT / folder).iterdir():
            if path.suffix == ".py" and path.name != "__init__.py":
                wanted.add(f"{folder}/{path.name}")
            elif (path / "__init__.py").is_file():
                wanted.add(f"{folder}/{path.name}/")
    assert wanted - {".ci/"} <= readme_paths()


def test_the_readme_s_links_lead_somewhere():
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_s_flags_exist():
    """Every --flag in a line that calls edgedet is one of that command's."""
    import importlib

    checked = 0
    for line in (ROOT / "README.md").read_text().replace("\\\n", " ").splitlines():
        match = re.search(r"\bedgedet (\w+)\b([^`#|]*)", line)
        if match is None or match[1] not in COMMANDS:
            continue
        command = importlib.import_module(f"edgedet.cli.{match[1]}_command").command
        known = {flag for parameter in command.params for flag in parameter.opts}
        used = set(re.findall(r"(?<!\S)(--?[a-z][\w-]*)", match[2]))
        assert used <= known | {"--help"}, line
        checked += 1
    assert checked > 5


def test_the_readme_shows_every_head_and_its_file():
    section = (ROOT / "README.md").read_text().partition("## Which head")[2].partition("\n## ")[0]
    shown = {row[0].strip("`"): row[2].strip("`") for row in table_rows(section)[2:]}
    assert shown == {name: f"runtime/heads/{name}.py" for name in HEADS}
