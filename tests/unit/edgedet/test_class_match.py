from __future__ import annotations

import pytest

from edgedet.class_match import match_classes
from edgedet.class_names import COCO, COCO91, VOC
from edgedet.errors import DatasetError


@pytest.mark.parametrize(
    ("model", "labelled", "expected"),
    [
        (["cat", "dog"], ["dog", "cat"], [1, 0]),
        (["Cat ", "DOG"], ["cat", "dog"], [0, 1]),
        (["dining_table", "hot-dog"], ["hotdog", "Dining Table"], [1, 0]),
        (["motorbike", "aeroplane", "sofa", "tvmonitor"], ["tv", "couch", "airplane", "motorcycle"], [3, 2, 1, 0]),
        (["motorcycle", "pottedplant"], ["potted plant", "motorbike"], [1, 0]),
        (["couch", "sofa"], ["sofa", "cat"], [-1, 0]),  # the same word goes before another word for it
        (["couch", "cat"], ["sofa", "Sofa", "cat"], [-1, 2]),  # two that look the same: neither
        (["cat", "N/A", "N/A"], ["cat", "N/A"], [0, -1, -1]),
    ],
)
def test_classes_are_matched_by_name(model: list[str], labelled: list[str], expected: list[int]) -> None:
    assert match_classes(model, labelled).from_model.tolist() == expected


def test_every_class_of_voc_is_one_of_coco() -> None:
    match = match_classes(VOC, COCO)
    assert match.only_model == () and len(match.only_set) == 60
    assert COCO[match.from_model[VOC.index("tvmonitor")]] == "tv"


def test_unused_ids_of_coco91_are_not_reported() -> None:
    match = match_classes(COCO91, COCO)
    assert match.only_model == match.only_set == ()
    assert match.common == tuple(range(80))


def test_classes_of_one_side_are_reported() -> None:
    match = match_classes(["cat", "ufo"], ["gnome", "cat", "elf"])
    assert match.only_model == ("ufo",)
    assert match.only_set == ("gnome", "elf")
    assert match.common == (1,)


@pytest.mark.parametrize("model", [[], ["ufo"], ["0", "1"]])
def test_nothing_in_common_is_an_error(model: list[str]) -> None:
    with pytest.raises(DatasetError, match=r"at least one class of the model .*, got none \(cat, dog\)"):
        match_classes(model, ["cat", "dog"])
