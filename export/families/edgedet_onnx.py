"""ONNX files that edgedet wrote: the spec in their metadata is read again, and what the user gives now wins over it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar

from edgedet.errors import SpecError
from edgedet.export.families.family import Family, LoadedModel
from edgedet.export.families.onnx_network import OnnxNetwork, picture_input, require_network, wanted_size
from edgedet.export.request import ExportRequest
from edgedet.export.source import Source
from edgedet.model_spec import METADATA_KEY, InputSpec, ModelSpec, merge_fragment
from edgedet.runtime.heads import head_from_spec
from edgedet.schema import to_json

__all__ = ["EdgedetOnnx"]

_USUAL_INPUT = InputSpec(640, 640)


class EdgedetOnnx(Family):
    """An ONNX file that carries a ModelSpec; or any ONNX file, with a whole ModelSpec in ``--spec``."""

    name: ClassVar[str] = "edgedet"
    takes: ClassVar[str] = ".onnx that edgedet wrote, or any .onnx with a whole ModelSpec in --spec"

    def recognises(self, source: Source) -> bool:
        """Tell by the metadata."""
        return source.kind == "onnx" and METADATA_KEY in _metadata(source)

    def load(self, source: Source, request: ExportRequest) -> LoadedModel:
        """Read the spec from the metadata, with the user's fragment laid over it.

        Raises:
            ModelFileError: if the source is not ONNX.
            SpecError: if there is no spec, or it and the fragment don't make a whole one.
        """
        found = require_network(source, self.name)
        network = found.at_size(wanted_size(found, request, _USUAL_INPUT), request)
        spec = _spec(source, network, request)
        width, height = network.size
        return LoadedModel(
            network=network.model,
            head=head_from_spec(spec.head),
            input=dataclasses.replace(spec.input, width=width, height=height),
            class_names=spec.class_names,
            task=spec.task,
            proposals=spec.proposals,
            output_names=tuple(output.name for output in spec.outputs),
            name=spec.name,
            record={key: getattr(spec, key) for key in ("family", "precision", "calibration", "source_sha256")},
        )


def _metadata(source: Source) -> dict[str, str]:
    return {entry.key: entry.value for entry in source.onnx_model.metadata_props}


def _spec(source: Source, network: OnnxNetwork, request: ExportRequest) -> ModelSpec:
    draft: dict[str, Any] = {
        "name": source.path.stem,
        "outputs": to_json(network.outputs),
        "input": to_json(picture_input(network, _USUAL_INPUT)),
    }
    text = _metadata(source).get(METADATA_KEY)
    if text is None and not request.fragment:
        raise SpecError(
            "a ModelSpec in the metadata of the file",
            f"none in '{source.path}'",
            "Name the family that the network is of, or pass a whole ModelSpec with --spec",
        )
    if text is not None:
        try:
            draft |= json.loads(text)
        except ValueError as error:
            raise SpecError(
                f"JSON under {METADATA_KEY!r} in the metadata", f"'{source.path}' ({error})", "Export the model again"
            ) from error
    if request.class_names is not None:
        draft["class_names"] = list(request.class_names)
    merged = merge_fragment(draft, request.fragment)
    spec = ModelSpec.from_json({"task": "detect", **merged})
    return spec if "task" in merged else spec.replace(task=head_from_spec(spec.head).task)
