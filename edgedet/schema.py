"""Frozen dataclasses to and from JSON, checked field by field, with the place of a fault in the message.

Takes what specs are made of: str, int, float, bool, None, Literal, tuples, mappings, nested dataclasses, and float32
arrays (written as zlib-compressed base64, read from that or from nested lists).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import types
import typing
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgedet.errors import SpecError

__all__ = ["FloatArray", "from_json", "to_json"]

FloatArray = npt.NDArray[np.float32]
"""The type of an array field: read and written as float32 of any shape."""

T = TypeVar("T")


def from_json(cls: type[T], value: object, where: str) -> T:
    """Build a dataclass from parsed JSON.

    Args:
        cls: a dataclass whose fields have the types named in the module's docstring.
        value: what ``json.loads`` returned; absent fields take their defaults.
        where: dotted place of the value, for messages ("spec.input").

    Raises:
        SpecError: for an unknown or missing field or a value of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise _fault("a JSON object", value, where)
    hints = _type_hints(typing.cast(Any, cls))
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls)) if field.init}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise SpecError(
            f"only the fields {', '.join(sorted(fields))} in {where}",
            f"{', '.join(map(repr, unknown))}",
            "Remove or rename them in the spec",
        )
    missing = [name for name, field in fields.items() if name not in value and _is_required(field)]
    if missing:
        raise SpecError(f"the fields {', '.join(missing)} in {where}", "nothing", "Add them to the spec")
    return cls(**{name: _parse(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def to_json(value: object) -> Any:
    """Turn a dataclass (or one of the types it is made of) into what ``json.dumps`` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field for field in dataclasses.fields(value) if field.init)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, np.ndarray):
        packed = zlib.compress(np.ascontiguousarray(value, np.float32).tobytes(), 9)
        return {"shape": list(value.shape), "float32": base64.b64encode(packed).decode("ascii")}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments or isinstance(value, bool) is not any(isinstance(a, bool) for a in arguments):
            raise _fault(f"one of {', '.join(map(repr, arguments))}", value, where)
        return value
    if origin is tuple:
        return _parse_tuple(arguments, value, where)
    if origin is np.ndarray:
        return _parse_array(value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    return _parse_scalar(hint, origin, value, where)


def _parse_scalar(hint: Any, origin: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if (origin or hint) is Mapping and isinstance(value, Mapping):
        return value
    raise _fault(getattr(origin or hint, "__name__", str(hint)), value, where)


def _parse_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    rest = [argument for argument in arguments if argument is not type(None)]
    for candidate in rest[:-1]:
        try:
            return _parse(candidate, value, where)
        except SpecError:
            continue
    return _parse(rest[-1], value, where)


def _parse_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _fault("a list", value, where)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(arguments):
        raise _fault(f"a list of {len(arguments)} values", value, where)
    return tuple(
        _parse(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(arguments, value, strict=True))
    )


def _parse_array(value: Any, where: str) -> FloatArray:
    try:
        if isinstance(value, Mapping):
            raw = zlib.decompress(base64.b64decode(value["float32"], validate=True))
            packed: FloatArray = np.frombuffer(raw, np.float32).reshape(value["shape"])
            return packed
        return np.asarray(value, np.float32)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise _fault("an array (nested lists of numbers, or packed float32)", value, where) from error


def _fault(expected: str, value: object, where: str) -> SpecError:
    shown = repr(value)
    return SpecError(
        f"{expected} at {where}", shown if len(shown) < 80 else shown[:77] + "...", "Correct that field of the spec"
    )
