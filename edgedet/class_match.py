"""Which class of a model is which class of a labelled set: by name, never by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet.class_names import GAP_NAMES
from edgedet.errors import DatasetError

__all__ = ["ALIASES", "ClassMatch", "match_classes"]

ALIASES = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
    "doughnut": "donut",
    "hairdryer": "hairdrier",
    "mobilephone": "cellphone",
}
"""Other words for the same class, without spaces: PASCAL VOC's for COCO's, and two spellings of COCO's own."""


@dataclass(frozen=True, eq=False)
class ClassMatch:
    """The classes that a model and a labelled set have in common.

    Attributes:
        names: the set's class names, by the set's class ids.
        from_model: (model classes,) int64, class id of the set for each class id of the model, -1 where it has none.
        only_model: names of the model's classes that the set does not have, without unused ids (``N/A``, background).
        only_set: names of the set's classes that the model does not have.
    """

    names: tuple[str, ...]
    from_model: npt.NDArray[np.int64]
    only_model: tuple[str, ...]
    only_set: tuple[str, ...]

    @property
    def common(self) -> tuple[int, ...]:
        """Class ids of the set that the model knows too."""
        return tuple(sorted({value for value in self.from_model.tolist() if value >= 0}))


def match_classes(
    model_names: Sequence[str], set_names: Sequence[str], *, unused: frozenset[str] = GAP_NAMES
) -> ClassMatch:
    """Match two lists of class names, each class with at most one of the other side.

    Names that differ in case only are matched first, then those that differ in spaces, underscores and hyphens
    ("dining_table", "diningtable"), then those of ``ALIASES`` ("sofa", "couch"). A looser rule never takes a class that
    a stricter one has matched, and none decides between two classes that look the same to it.

    Args:
        model_names: by the model's class ids.
        set_names: by the set's class ids.
        unused: lower-case names that stand for no class.

    Raises:
        DatasetError: if nothing matches.
    """
    from_model = np.full(len(model_names), -1, np.int64)
    for key in (_folded, _compact, _canonical):
        ours = _unique(model_names, key, {index for index, value in enumerate(from_model) if value >= 0}, unused)
        theirs = _unique(set_names, key, set(from_model.tolist()), unused)
        for name in ours.keys() & theirs.keys():
            from_model[ours[name]] = theirs[name]
    if not (from_model >= 0).any():
        raise DatasetError(
            f"at least one class of the model ({_shown(model_names)}) in the labelled set",
            f"none ({_shown(set_names)})",
            "Give a model without class names its own with edgedet export --names, a YOLO folder with --names",
        )
    matched = set(from_model.tolist())
    only_model = (name for name, value in zip(model_names, from_model, strict=True) if value < 0)
    only_set = (name for index, name in enumerate(set_names) if index not in matched)
    return ClassMatch(
        tuple(set_names),
        from_model,
        tuple(name for name in only_model if _folded(name) not in unused),
        tuple(name for name in only_set if _folded(name) not in unused),
    )


def _folded(name: str) -> str:
    return name.strip().casefold()


def _compact(name: str) -> str:
    return "".join(letter for letter in _folded(name) if letter not in " _-\t")


def _canonical(name: str) -> str:
    compact = _compact(name)
    return ALIASES.get(compact, compact)


def _unique(names: Sequence[str], key: Callable[[str], str], taken: set[int], unused: frozenset[str]) -> dict[str, int]:
    """Index the classes that are still free by their key, without keys that two of them share."""
    keys = [None if i in taken or _folded(name) in unused else key(name) for i, name in enumerate(names)]
    return {value: index for index, value in enumerate(keys) if value is not None and keys.count(value) == 1}


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... {len(names)} in all" if len(names) > 5 else "") if names else "no names"
