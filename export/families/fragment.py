"""What a ``--spec`` fragment says about the head, where a family would otherwise have to know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgedet.errors import SpecError
from edgedet.export.request import ExportRequest
from edgedet.model_spec import HeadSpec
from edgedet.runtime.heads import HEADS, Head, head_from_spec
from edgedet.schema import to_json

__all__ = ["head_with_fragment"]


def head_with_fragment(request: ExportRequest, head: type[Head], **parameters: Any | Callable[[], Any]) -> Head:
    """Build a head from a family's parameters, with those of the user's fragment laid over them.

    A parameter that is a function is called only where the fragment doesn't give it: so it may fail with a message that
    says which flag supplies it. A fragment that names another head gives all of that head's parameters itself.

    Raises:
        SpecError: if the fragment's parameters don't fit the head.
    """
    asked = request.fragment.get("head", {})
    if not isinstance(asked, Mapping) or not isinstance(asked.get("parameters", {}), Mapping):
        raise SpecError(
            "head as an object with name and parameters in the --spec file", repr(asked), "Correct the --spec file"
        )
    name, given = asked.get("name", head.name), asked.get("parameters", {})
    if name != head.name or name not in HEADS:
        return head_from_spec(HeadSpec(name, given))
    known = {key: value() if callable(value) else value for key, value in parameters.items() if key not in given}
    return head_from_spec(HeadSpec(name, {**to_json(known), **given}))
