"""Stand-ins for TensorRT's Python module that have exactly what one version has, and nothing else.

TensorRT's own libraries cannot be had without its package index, and its engines cannot run without a GPU. What can be
checked is that the code calls only what is there: the names, parameters and enumerations that NVIDIA's own bindings of
each version have are written down in ``tensorrt_surface/`` (by ``write.py`` there), and a module made of them refuses
everything else: a name that this version lacks, a property that is read-only, parameters that no overload takes.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "tensorrt_surface"
VERSIONS = tuple(
    sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda text: [int(n) for n in text.split(".")])
)

Answers = Mapping[str, Any]
"""``Class.member`` -> what it answers: a value, or a function of the arguments (the object first, for methods)."""

_PLAIN: dict[str, Any] = {"None": None, "bool": True, "int": 1, "str": "", "float": 0.0}


def load(version: str, answers: Answers) -> Any:
    """Return the module of a version.

    Args:
        version: one of `VERSIONS`.
        answers: what a GPU or a network would answer; whatever is not named answers with something of the right type.
    """
    surface = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = surface["version"]
    module.touched = set()
    for name, members in surface["enums"].items():
        setattr(module, name, enum.IntEnum(name, members))
    for name, description in surface["classes"].items():
        setattr(module, name, _make_class(module, name, description, answers))
    module.ILogger.Severity = enum.IntEnum("Severity", surface["severities"])
    for name, overloads in surface["functions"].items():
        setattr(module, name, _make_function(module, name, overloads, answers))
    return module


def _make_class(module: Any, name: str, description: Mapping[str, Any], answers: Answers) -> type:
    properties, methods = description["properties"], description["methods"]

    def get(self: Any, member: str) -> Any:
        if member.startswith("__") or member not in properties:
            return object.__getattribute__(self, member)
        module.touched.add(f"{name}.{member}")
        if member in object.__getattribute__(self, "__dict__"):
            return object.__getattribute__(self, "__dict__")[member]
        return _answer(answers, f"{name}.{member}", (self,), None)

    def put(self: Any, member: str, value: Any) -> None:
        if type(self).__name__ == name:  # a subclass may have members of its own
            if member not in properties:
                raise AttributeError(f"{name} of TensorRT {module.__version__} has no {member}")
            if properties[member] == "r":
                raise AttributeError(f"{name}.{member} of TensorRT {module.__version__} is read-only")
            module.touched.add(f"{name}.{member}=")
        self.__dict__[member] = value

    def start(self: Any, *arguments: Any) -> None:
        self.__dict__["made_of"] = arguments

    body: dict[str, Any] = {"__getattribute__": get, "__setattr__": put, "__init__": start}
    body |= {member: _make_method(module, name, member, overloads, answers) for member, overloads in methods.items()}
    if name == "IHostMemory":
        return type(name, (bytes,), {"__new__": lambda cls: bytes.__new__(cls, b"plan")})
    return type(name, (), body)


def _make_method(
    module: Any, owner: str, name: str, overloads: Sequence[Mapping[str, Any]], answers: Answers
) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        module.touched.add(f"{owner}.{name}")
        overload = _fit(module, f"{owner}.{name}", overloads, arguments, named)
        return _answer(answers, f"{owner}.{name}", (self, *arguments), lambda: _of_type(module, overload["returns"]))

    return method


def _make_function(
    module: Any, name: str, overloads: Sequence[Mapping[str, Any]], answers: Answers
) -> Callable[..., Any]:
    def function(*arguments: Any, **named: Any) -> Any:
        module.touched.add(name)
        overload = _fit(module, name, overloads, arguments, named)
        return _answer(answers, name, arguments, lambda: _of_type(module, overload["returns"]))

    return function


def _fit(
    module: Any, name: str, overloads: Sequence[Mapping[str, Any]], arguments: Sequence[Any], named: Mapping[str, Any]
) -> Mapping[str, Any]:
    for overload in overloads:
        parameters = [parameter.rstrip("=") for parameter in overload["parameters"]]
        needed = {parameter for parameter in overload["parameters"] if not parameter.endswith("=")}
        given = {*parameters[: len(arguments)], *named}
        if len(arguments) <= len(parameters) and given <= set(parameters) and needed <= given:
            return overload
    raise TypeError(f"{name} of TensorRT {module.__version__} takes {overloads}, not {arguments} and {dict(named)}")


def _answer(answers: Answers, name: str, arguments: Sequence[Any], default: Callable[[], Any] | None) -> Any:
    if name in answers:
        answer = answers[name]
        return answer(*arguments) if callable(answer) else answer
    if default is None:
        raise KeyError(f"the test does not say what {name} answers")
    return default()


def _of_type(module: Any, returns: str) -> Any:
    if returns in _PLAIN:
        return _PLAIN[returns]
    made = returns.rpartition("::")[2]
    made = {"IParserError": "ParserError"}.get(made, made)
    if made.lower().startswith("list"):
        return []
    kind = getattr(module, made)
    return next(iter(kind)) if isinstance(kind, enum.EnumMeta) else kind()
