"""Who may import whom, by syntax tree; what an import may load, in a subprocess."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgedet.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"edgedet": "edgedet", "export": "edgedet.export", "runtime": "edgedet.runtime"}
FACE = (
    "edgedet/cli/",
    "edgedet/loader.py",
    "edgedet/engine_choice.py",
    "edgedet/device_loader.py",
    "edgedet/__init__.py",
)
HEAVY = (
    "cv2",
    "onnx",
    "onnxruntime",
    "torch",
    "torchvision",
    "ultralytics",
    "transformers",
    "rich",
    "pycocotools",
    "pycuda",
    "cuda",
)


@dataclass(frozen=True)
class Import:
    """One imported module, where, and whether only when a function runs or a type checker reads."""

    file: str
    module: str
    deferred: bool
    for_types_only: bool = False

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_in(source: str, file: str) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool, bool]] = [(ast.parse(source), False, False)]
    while pending:
        node, deferred, types = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name, deferred, types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide which package is meant"
            yield Import(file, node.module or "", deferred, types)
        elif _called(node) in ("import_module", "require") and isinstance(node.args[0], ast.Constant):
            yield Import(file, node.args[0].value, deferred, types)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        pending += [(child, deferred or inside, types or guarded) for child in ast.iter_child_nodes(node)]


def _called(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call) or not node.args:
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def all_imports(*folders: str) -> list[Import]:
    files = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [found for path in files for found in _imports_of(path)]


@functools.cache
def _imports_of(path: Path) -> tuple[Import, ...]:
    return tuple(imports_in(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()))


def broken(rule: Iterator[Import]) -> list[str]:
    return [f"{found.file} imports {found.module}" for found in rule]


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_the_walk_sees_imports_of_every_kind():
    source = """
import a.b
from c import d
if TYPE_CHECKING:
    import e
def f():
    import g
    importlib.import_module("h.i")
    require("j", extra="k")
"""
    found = {(item.module, item.deferred, item.for_types_only) for item in imports_in(source, "sample.py")}
    deferred = {("g", True, False), ("h.i", True, False), ("j", True, False)}
    assert found == {("a.b", False, False), ("c", False, False), ("e", False, True)} | deferred


def test_the_runtime_never_imports_the_exporter():
    assert not broken(found for found in all_imports("runtime") if is_within(found.module, "edgedet.export"))


def test_the_ground_imports_neither():
    ground = (found for found in all_imports("edgedet") if not found.file.startswith(FACE))
    outside = ("edgedet.export", "edgedet.runtime", "edgedet.cli", "edgedet.loader")
    assert not broken(found for found in ground if any(is_within(found.module, package) for package in outside))


def test_nobody_imports_a_second_copy():
    folders = ("edgedet", "export", "runtime", "tests", "examples", "benchmarks")
    assert not broken(found for found in all_imports(*folders) if found.top in ("export", "runtime"))


def test_the_command_line_is_imported_by_nobody():
    assert not broken(found for found in all_imports("export", "runtime") if is_within(found.module, "edgedet.cli"))


def test_torch_only_where_networks_are_read_and_only_lazily():
    tracing = ("export/trace.py", "export/torch_operators.py")
    allowed = ("export/families/", *tracing, "export/checkpoint.py", "export/verify.py")
    torch = [found for found in all_imports(*PACKAGES) if found.top in ("torch", "torchvision", "onnxscript")]
    assert not broken(found for found in torch if not found.file.startswith(allowed))
    assert not broken(found for found in torch if not (found.deferred or found.for_types_only))


@pytest.mark.parametrize(
    "package",
    [
        "ultralytics",
        "transformers",
        "rfdetr",
        "yolox",
        "supervision",
        "pycocotools",
        "safetensors",
        "skimage",
        "yaml",
        "pycuda",
        "cuda",
    ],
)
def test_optional_packages_are_imported_lazily(package):
    found = [item for item in all_imports(*PACKAGES) if item.top == package]
    assert not broken(item for item in found if not (item.deferred or item.for_types_only))


def test_tensorrt_only_in_the_engine_files():
    allowed = ("export/engine/tensorrt.py", "runtime/engines/")
    tensorrt = (found for found in all_imports(*PACKAGES) if found.top.startswith("tensorrt"))
    assert not broken(found for found in tensorrt if not found.file.startswith(allowed))


def test_pickle_is_nobody_s_business():
    risky = ("pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve")
    assert not broken(found for found in all_imports("edgedet", "runtime") if found.top in risky)


def test_nobody_reaches_for_the_network_or_pip():
    network = ("urllib.request", "http.client", "requests", "httpx", "pip", "ensurepip", "huggingface_hub")
    assert not broken(
        found for found in all_imports(*PACKAGES) if any(is_within(found.module, module) for module in network)
    )


def loaded_by(code: str) -> set[str]:
    """Run the code in a fresh interpreter; return the heavy packages that it loaded."""
    probe = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "budget"),
    [
        ("import edgedet", set()),
        ("import edgedet.cli.main", set()),
        ("import edgedet.model_spec, edgedet.results, edgedet.errors, edgedet.optional", set()),
        ("import edgedet.diagnosis", set()),
        ("from edgedet import Detections; Detections.empty()", set()),
        ("from edgedet.runtime.heads import HEADS", set()),
        ("import edgedet.runtime.cuda.device", set()),
        ("import edgedet; edgedet.load", {"cv2", "onnxruntime"}),
        ("import edgedet; edgedet.open_stream", {"cv2", "onnxruntime"}),
        ("import edgedet; edgedet.export_model", {"cv2", "onnx", "onnxruntime"}),
        ("import edgedet.export.families", {"cv2", "onnx", "onnxruntime"}),
    ],
)
def test_import_budget(code, budget):
    assert loaded_by(code) <= budget


def loaded_by_command(*arguments: str) -> set[str]:
    lines = (
        "import sys",
        f"sys.argv = ['edgedet', *{arguments!r}]",
        "from edgedet.cli.main import main",
        "try: main()",
        "except SystemExit as stop: assert not stop.code",
    )
    return loaded_by("\n".join(lines))


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_bare_command_loads_nothing(argument):
    assert loaded_by_command(argument) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_no_engine(name):
    assert loaded_by_command(name, "--help") <= {"rich"}


def test_doctor_loads_nothing_but_onnx_runtime():
    assert loaded_by_command("doctor", "--json") <= {"onnxruntime"}
