"""Decoders: what reads a head's raw outputs on the device, one file a head.

| head | kernel | threads |
|---|---|---|
| dense_boxes | decode_dense_boxes.cu | one a location, several where rows have no objectness |
| anchor_grid | decode_anchor_grid.cu | one an anchor of a cell |
| yolox_grid | decode_yolox_grid.cu | one a location |
| distance_distributions | decode_distance_distributions.cu | several a location |
| anchor_boxes | decode_anchor_boxes.cu | several a location |
| fastestdet | decode_fastestdet.cu | one a cell |
| queries | decode_queries.cu | several a query |
| end_to_end | decode_end_to_end.cu | one a row |
| proposal_boxes | decode_proposal_boxes.cu | several a region |
| localizer | decode_localizer.cu | a warp a picture |
| grid_cells | decode_grid_cells.cu | one a cell |
| class_windows | decode_class_windows.cu | one a window, several where channels come last |
"""

from __future__ import annotations

from typing import Any

from edgedet.errors import SpecError
from edgedet.runtime.heads.head import BoxHead, Head
from edgedet.runtime.kernels.decode.anchor_boxes import AnchorBoxesDecoder
from edgedet.runtime.kernels.decode.anchor_grid import AnchorGridDecoder
from edgedet.runtime.kernels.decode.class_windows import ClassWindowsDecoder
from edgedet.runtime.kernels.decode.decoder import Decoder, Setting
from edgedet.runtime.kernels.decode.dense_boxes import DenseBoxesDecoder
from edgedet.runtime.kernels.decode.distance_distributions import DistanceDistributionsDecoder
from edgedet.runtime.kernels.decode.end_to_end import EndToEndDecoder
from edgedet.runtime.kernels.decode.fastestdet import FastestDetDecoder
from edgedet.runtime.kernels.decode.grid_cells import GridCellsDecoder
from edgedet.runtime.kernels.decode.localizer import LocalizerDecoder
from edgedet.runtime.kernels.decode.proposal_boxes import ProposalBoxesDecoder
from edgedet.runtime.kernels.decode.queries import QueriesDecoder
from edgedet.runtime.kernels.decode.yolox_grid import YoloxGridDecoder

__all__ = ["DECODERS", "Decoder", "Setting", "decoder_for"]

DECODERS: dict[str, type[Decoder[Any]]] = {
    "dense_boxes": DenseBoxesDecoder,
    "anchor_grid": AnchorGridDecoder,
    "yolox_grid": YoloxGridDecoder,
    "distance_distributions": DistanceDistributionsDecoder,
    "anchor_boxes": AnchorBoxesDecoder,
    "fastestdet": FastestDetDecoder,
    "queries": QueriesDecoder,
    "end_to_end": EndToEndDecoder,
    "proposal_boxes": ProposalBoxesDecoder,
    "localizer": LocalizerDecoder,
    "grid_cells": GridCellsDecoder,
    "class_windows": ClassWindowsDecoder,
}
"""Name of a head -> what decodes it on the device."""


def decoder_for(head: Head, setting: Setting) -> Decoder[BoxHead]:
    """Build the decoder of a head; its constants are uploaded now.

    Raises:
        SpecError: if the device has no decoder for the head, or a class is selected that the model does not have.
    """
    decoder = DECODERS.get(head.name)
    if decoder is None:
        raise SpecError(
            f"a head that the device decodes ({', '.join(DECODERS)})", repr(head.name), "Decode this model on the host"
        )
    return decoder(head, setting)
