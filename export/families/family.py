"""The contract of a family: whose file it is, and what that makes of it.

A family is one file and one row in the table of ``export/families/__init__.py``; third parties add theirs under the
entry point group ``edgedet.families``. It imports torch only inside its methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import onnx

from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import InputSpec, ProposalSpec, Task
from edgedet.runtime.heads.head import Head

__all__ = ["Family", "LoadedModel", "Tracer"]

Tracer = Literal["dynamo", "torchscript"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What a family makes of a source: a network and how to feed and read it.

    Attributes:
        network: an ``onnx.ModelProto``, or a ``torch.nn.Module`` in eval mode, or a ``torch.export.ExportedProgram``
            that takes one image tensor (as ``input`` describes it), then the proposals where ``proposals`` feeds it
            boxes, and returns a tensor or a tuple of tensors.
        head: the layout of the outputs, with its parameters.
        input: how pictures are fed; ``name`` is set by the pipeline for traced networks.
        class_names: from the source or the family's usual training set; None where neither says.
        task: what the model answers with.
        proposals: the stage that proposes regions to the network, or None.
        output_names: names of the outputs that the head reads, in its order. For ONNX sources None means all of them
            in graph order; for traced networks they name the tuple's members ("output0", ... where None).
        name: the model's own name; the source's stem where None.
        tracer: which of torch's ONNX exporters the module needs.
        dynamic_batch: whether the traced network may get a dynamic batch axis.
        tolerance: largest difference between source and export that passes, relative to each output's largest
            magnitude.
        record: fields of an older ModelSpec that stay true of the network, such as how it was quantised.
        notes: what the user should know about choices made here, one sentence each.
    """

    network: onnx.ModelProto | Any
    head: Head
    input: InputSpec
    class_names: tuple[str, ...] | None = None
    task: Task = "detect"
    proposals: ProposalSpec | None = None
    output_names: tuple[str, ...] | None = None
    name: str | None = None
    tracer: Tracer = "dynamo"
    dynamic_batch: bool = True
    tolerance: float = 1e-3
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def regions_input(self) -> str | None:
        """Name of the second input, which takes the proposals; None where the network only takes pictures."""
        return self.proposals.tensor if self.proposals is not None and self.proposals.feed == "boxes" else None


class Family(ABC):
    """A kind of source: a training framework or model line with its own checkpoint and output conventions.

    Class attributes:
        name: what ``--family`` calls it.
        takes: one line for ``--list-families``: which files, and which variant after the colon.
        extra: the extra of edgedet that its checkpoints need, or None.
    """

    name: ClassVar[str]
    takes: ClassVar[str]
    extra: ClassVar[str | None] = None

    @abstractmethod
    def recognises(self, source: Source) -> bool:
        """Tell whether the source is unambiguously of this family, from its metadata, keys or output shapes.

        Must be cheap, import nothing heavy, and never execute what the file holds. A layout that several families
        share is not recognised: the user is then told which ``--family`` values fit (see ``fits``).
        """

    def fits(self, source: Source) -> bool:
        """Tell whether the source could be of this family, for the message that lists the choices."""
        return self.recognises(source)

    @abstractmethod
    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read the source as this family.

        Raises:
            ModelFileError, SpecError, UntrustedFileError, MissingDependencyError: each saying what to do.
        """
