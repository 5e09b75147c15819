"""The example networks: one file each, and a row in `RECIPES`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from networks.recipe import Recipe

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "digits": "networks.anchor_free",
        "localizer": "networks.localizer",
        "grid_yolo": "networks.grid_yolo",
        "anchor_yolo": "networks.anchor_yolo",
        "ssd": "networks.ssd",
        "rcnn": "networks.rcnn",
        "rcnn_svm": "networks.rcnn_svm",
        "fast_rcnn": "networks.fast_rcnn",
        "faster_rcnn": "networks.faster_rcnn",
        "mask_rcnn": "networks.mask_rcnn",
        "fcn": "networks.fcn",
        "encoder_decoder": "networks.encoder_decoder",
        "panoptic": "networks.panoptic",
    }
)
"""Name of the archive -> the module whose `RECIPE` makes it."""


def recipe(name: str) -> Recipe:
    """Return the recipe of a network by the name of its archive."""
    found = import_module(MODULES[name]).RECIPE
    assert isinstance(found, Recipe)
    return found
