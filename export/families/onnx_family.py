"""What the families of ready ONNX files share: look at the network, bring it to its size, feed it by a convention."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import ClassVar

from edgedet.class_names import VOC
from edgedet.errors import SpecError
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.layouts import are_usual_names
from edgedet.export.families.onnx_network import OnnxNetwork, anonymous_network, require_network, wanted_size
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec

__all__ = ["OnnxFamily", "with_notes"]


class OnnxFamily(Family):
    """A family whose ONNX files say nothing of themselves but the names and shapes of their tensors.

    Class attributes:
        convention: how the family's pictures are fed; its size is used where the graph leaves the size open.
        variants: what may stand after the family's colon.
    """

    convention: ClassVar[InputSpec]
    variants: ClassVar[tuple[str, ...]] = ()

    def recognises(self, source: Source) -> bool:
        """Tell whether the outputs are of this family and of no other (see ``Family.recognises``)."""
        network = anonymous_network(source)
        return network is not None and self.is_certain(network)

    def fits(self, source: Source) -> bool:
        """Tell whether the outputs could be of this family (see ``Family.fits``)."""
        network = anonymous_network(source)
        return network is not None and (self.is_possible(network) or self.is_certain(network))

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read an ONNX file as this family.

        Raises:
            ModelFileError: if the source is not an ONNX file.
            SpecError: if the outputs are not what the family has; the message says which flag helps.
        """
        self.check(request)
        found = require_network(source, self.name)
        size = wanted_size(found, request, self.convention)
        network = self.prepare(found, size, request)
        if network.side_inputs:
            raise SpecError(
                "a network whose only input is the picture",
                f"the inputs {', '.join(value.name for value in (network.image, *network.side_inputs))}",
                "Export it without the others, or make them constants",
            )
        loaded = with_notes(self.read(network.at_size(size, request), request), request)
        if -1 not in found.size or request.size is not None:
            return loaded
        note = f"The file leaves the input size open; {size[0]}x{size[1]} was taken (--imgsz sets another)"
        return dataclasses.replace(loaded, notes=(*loaded.notes, note))

    def check(self, request: ExportRequest) -> None:
        """Refuse a variant that the family doesn't have.

        Raises:
            SpecError: naming those that it has.
        """
        if request.variant is not None and request.variant not in self.variants:
            known = f"one of {', '.join(self.variants)}" if self.variants else "nothing"
            raise SpecError(f"{known} after --family {self.name}:", repr(request.variant), "Correct --family")

    def prepare(self, network: OnnxNetwork, size: tuple[int, int], request: ExportRequest) -> OnnxNetwork:
        """Return the network with whatever it wants besides the picture folded away, for a picture of `size`."""
        return network

    @abstractmethod
    def is_certain(self, network: OnnxNetwork) -> bool:
        """Tell whether names and shapes of the outputs are this family's alone."""

    @abstractmethod
    def is_possible(self, network: OnnxNetwork) -> bool:
        """Tell whether this family has such outputs, too."""

    @abstractmethod
    def read(self, network: OnnxNetwork, request: ExportRequest) -> LoadedModel:
        """Say what a network of this family is; its input has the size that was wanted."""


def with_notes(loaded: LoadedModel, request: ExportRequest) -> LoadedModel:
    """Say which class names were taken for want of any, and refuse anchors that nothing reads.

    Raises:
        SpecError: if ``--anchors`` was given for boxes that the network decodes itself.
    """
    if request.anchors is not None and getattr(loaded.head, "anchors", None) is None:
        raise SpecError(
            "outputs that are offsets to anchors, for --anchors",
            f"outputs of the head {loaded.head.name}, which has none to read",
            "Leave out --anchors, or name another --family",
        )
    names = loaded.class_names
    if names is None or request.class_names is not None or not are_usual_names(names):
        return loaded
    label = "VOC" if names is VOC else "COCO"
    note = f"The file names no classes; the {len(names)} of {label} were taken (--names sets others)"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note))
