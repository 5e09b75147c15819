"""Every head has kernels: its outputs need not come to the host."""

from __future__ import annotations

import pytest
from host_kernels import KERNELS

from edgedet.runtime.heads import HEADS, BoxHead

STAGES = {
    "class_scores": "maps",
    "class_map": "maps",
    "query_masks": "panoptic",
    "panoptic_deeplab": "panoptic_deeplab",
    "query_instances": "query_instances",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_has_kernels(name: str) -> None:
    stage = f"decode_{name}" if issubclass(HEADS[name], BoxHead) else STAGES[name]
    assert (KERNELS / f"{stage}.cu").exists()
