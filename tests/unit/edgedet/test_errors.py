"""The exception tree: as drawn, worded in three parts, and survives a trip between processes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from edgedet import errors
from edgedet.errors import AccuracyGateError, EdgedetError, MissingDependencyError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, EdgedetError)]


def drawn_parents() -> dict[str, str]:
    """Class -> parent, read off the drawing in the module's docstring by its indentation."""
    parents: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^[ |]*(?:[|`]-- )?([A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth = line.index(match[1])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        parents[match[1]] = stack[-1][1] if stack else "Exception"
        stack.append((depth, match[1]))
    return parents


def test_the_drawing_is_the_tree():
    assert drawn_parents() == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


def test_all_lists_every_class():
    assert sorted(errors.__all__) == sorted(cls.__name__ for cls in CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_message_has_three_parts(cls):
    error = cls("an ONNX file", "'a.zip'", "Export it again")
    assert str(error) == "Expected an ONNX file, got 'a.zip'. Export it again"
    assert (error.expected, error.got, error.action) == ("an ONNX file", "'a.zip'", "Export it again")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_can_be_pickled(cls):
    error = pickle.loads(pickle.dumps(cls("this", "that", "Do so")))
    assert type(error) is cls
    assert str(error) == "Expected this, got that. Do so"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_only_the_accuracy_gate_has_an_exit_code_of_its_own(cls):
    assert cls.exit_code == (3 if cls is AccuracyGateError else 1)


def test_a_missing_dependency_is_an_import_error():
    assert issubclass(MissingDependencyError, ImportError)
