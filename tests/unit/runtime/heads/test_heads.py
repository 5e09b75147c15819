"""The table of heads: one file each, found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.errors import SpecError
from edgedet.model_spec import HeadSpec
from edgedet.runtime.heads import HEADS, head_from_spec


@pytest.mark.parametrize("name", HEADS)
def test_a_head_lies_in_the_file_of_its_name(name: str, root: Path) -> None:
    head = HEADS[name]
    assert head.name == name
    assert head.__module__ == f"edgedet.runtime.heads.{name}"
    assert (root / f"runtime/heads/{name}.py").is_file()
    assert "Source:" in (head.__doc__ or "")


def test_unknown_head_names_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"a head among dense_boxes, .*got 'mask_tree'"):
        head_from_spec(HeadSpec("mask_tree"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bins": 8, "reg_max": 7}, r"only the fields .* in head distance_distributions, got 'reg_max'"),
        ({"bins": "8"}, r"int at head distance_distributions\.bins, got '8'"),
        ({"packing": "rows"}, r"one of 'scores_then_distances', 'concatenated'"),
    ],
)
def test_parameters_are_checked_by_name_and_type(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        head_from_spec(HeadSpec("distance_distributions", parameters))
