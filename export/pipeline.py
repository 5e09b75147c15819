"""The exporter's recipe: read, load, trace, rewrite, describe, verify, quantise, measure, write, build the engine.

Each step takes the state and returns it with its own result, and says in a few words what it did.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgedet.class_names import KNOWN_NAMES, fit_class_names
from edgedet.errors import AccuracyGateError, ExportError, SinkError, SpecError
from edgedet.export.engine.exported import EngineOutcome, check_engine_is_possible, engine_of_export
from edgedet.export.families import Family, LoadedModel, choose_family
from edgedet.export.onnx_file import graph_inputs, graph_outputs, pick_tensors, stamp_spec, write_onnx
from edgedet.export.quantisation.outcome import QuantisationOutcome
from edgedet.export.quantisation.quantise import Progress, quantise
from edgedet.export.quantisation.report.measure import Measurements, measure
from edgedet.export.quantisation.report.page import check_page_packages, write_page
from edgedet.export.quantisation.request import QuantisationRequest
from edgedet.export.report import ExportReport, StepReport
from edgedet.export.request import ExportRequest
from edgedet.export.rewrite import (
    InputShape,
    Refusal,
    convert_opset,
    find_refusals,
    hide_initializers,
    run_passes,
    set_input_shape,
)
from edgedet.export.source import Source, open_source, without_nms
from edgedet.export.trace import trace
from edgedet.export.verify import OutputDifference, verify
from edgedet.model_spec import InputSpec, ModelSpec, Task, TensorSpec, merge_fragment
from edgedet.runtime.heads import EndToEnd, head_from_spec
from edgedet.runtime.heads.proposal_boxes import check_stage
from edgedet.schema import to_json

__all__ = ["STEPS", "ExportState", "export_model", "run_export"]


@dataclass(frozen=True, eq=False)
class ExportState:
    """What is known so far; a field is None until the step that fills it has run."""

    request: ExportRequest
    source: Source | None = None
    family: Family | None = None
    loaded: LoadedModel | None = None
    model: onnx.ModelProto | None = None
    refusals: tuple[Refusal, ...] = ()
    spec: ModelSpec | None = None
    differences: tuple[OutputDifference, ...] = ()
    outcome: QuantisationOutcome | None = None
    measurements: Measurements | None = None
    refusal: AccuracyGateError | None = None
    engine: EngineOutcome | None = None
    output: Path | None = None
    notes: tuple[str, ...] = ()
    progress: Progress | None = None

    def to(self, **changes: Any) -> ExportState:
        """Return the state with some fields filled."""
        return dataclasses.replace(self, **changes)


Step = Callable[[ExportState], tuple[ExportState, str]]


def read_source(state: ExportState) -> tuple[ExportState, str]:
    """Tell what the file is, and whose; make sure that the results can be made and will have a place."""
    request = state.request
    if request.html is not None:
        check_page_packages()
    if request.engine:
        check_engine_is_possible()
    source = open_source(request.source)
    output = request.output_of(source.path)
    if output.exists() and output.samefile(source.path):
        raise ExportError(
            f"another file to write than the source '{source.path}'", "the same one", "Choose it with -o OUT.onnx"
        )
    for path, flag in ((output, "-o"), (request.report, "--report"), (request.html, "--html")):
        if path is not None and not os.access(path.parent, os.W_OK):
            raise SinkError(
                f"a folder to write '{path}' into", "none that can be written", f"Choose another with {flag}"
            )
    source, notes = _without_nms(source, request)
    family = choose_family(source, request)
    return state.to(
        source=source, family=family, output=output, notes=notes
    ), f"{source.kind.replace('_', '.')}, family {family.name}"


def load_network(state: ExportState) -> tuple[ExportState, str]:
    """Let the family read it."""
    assert state.source is not None and state.family is not None
    loaded = state.family.load(state.source, state.request)
    if state.request.task not in (None, loaded.task):
        raise SpecError(
            f"a model that answers with the task {state.request.task}",
            f"'{state.request.source}', of task {loaded.task}",
            "Leave out --task",
        )
    size = f"{loaded.input.width}x{loaded.input.height}"
    return state.to(loaded=loaded, notes=(*state.notes, *loaded.notes)), f"head {loaded.head.name}, input {size}"


def trace_network(state: ExportState) -> tuple[ExportState, str]:
    """Turn a torch network into ONNX; an ONNX source is taken as it is."""
    assert state.loaded is not None
    network = state.loaded.network
    if isinstance(network, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(network)
        return state.to(model=model), "already ONNX"
    model = trace(state.loaded, batch=state.request.batch, opset=state.request.opset)
    return state.to(model=model), f"{len(model.graph.node)} nodes, opset {_opset(model)}"


def rewrite_graph(state: ExportState) -> tuple[ExportState, str]:
    """Run the graph passes that the request and the runtime call for."""
    assert state.loaded is not None and state.model is not None
    model, done = state.model, []
    if touched := hide_initializers(model):
        done.append(f"{touched} initializers tidied")
    if touched := set_input_shape(model, _picture_input(model, state.loaded).name, _wanted_shape(state)):
        done.append(f"{touched} input axes set")
    wanted = state.request.opset
    if wanted is not None and wanted != _opset(model):
        model = convert_opset(model, wanted)
        done.append(f"opset {wanted}")
    done += run_passes(model)
    return state.to(model=model, refusals=find_refusals(model)), ", ".join(done) or "nothing to do"


def describe_model(state: ExportState) -> tuple[ExportState, str]:
    """Write the ModelSpec, with the user's fragment laid over it, and hold it against the network."""
    assert (
        state.loaded is not None and state.model is not None and state.source is not None and state.family is not None
    )
    spec = ModelSpec.from_json(merge_fragment(_draft(state), state.request.fragment))
    if state.request.class_names is not None:
        spec = spec.replace(class_names=_asked_names(state.request.class_names, state.loaded))
    if not spec.class_names:
        raise SpecError(
            "class names for the model",
            f"none in '{state.source.path}'",
            f"Pass --names with a file, or one of {', '.join(KNOWN_NAMES)}",
        )
    head = head_from_spec(spec.head)
    check_stage(head, spec.proposals)
    head.check(spec.outputs, len(spec.class_names), (spec.input.width, spec.input.height))
    stamp_spec(state.model, spec)
    return state.to(spec=spec), f"{len(spec.class_names)} classes, head {spec.head.name}"


def verify_model(state: ExportState) -> tuple[ExportState, str]:
    """Compare source and export on real pictures."""
    assert state.loaded is not None and state.model is not None and state.spec is not None
    differences = verify(state.loaded, state.model, state.spec, pictures=state.request.pictures)
    worst = max(difference.max_rel for difference in differences)
    return state.to(differences=differences), f"{len(differences)} outputs, worst relative difference {worst:.1e}"


def quantise_model(state: ExportState) -> tuple[ExportState, str]:
    """Bring the network to the precision that is asked for, within what may be lost."""
    assert state.model is not None and state.spec is not None
    request = state.request.quantisation
    if request is None:
        return state, "not asked for"
    outcome = quantise(state.model, state.spec, request, state.progress)
    spec = state.spec.replace(precision=request.precision, calibration=outcome.record())
    stamp_spec(outcome.model, spec)
    text = f"{outcome.metric} {outcome.reference.value:.3f} -> {outcome.verdict.value:.3f}"
    return state.to(spec=spec, outcome=outcome, notes=(*state.notes, *outcome.notes)), text


def measure_model(state: ExportState) -> tuple[ExportState, str]:
    """Measure the float network and the quantised one side by side; from here on the latter is the model."""
    outcome = state.outcome
    if outcome is None:
        return state, "not asked for"
    assert state.model is not None and state.spec is not None
    measured = measure(state.model, outcome, state.spec, state.progress or (lambda _what, _done, _of: None))
    text = f"{measured.size / measured.float_size:.2f} of the size, {measured.latency.speedup:.2f}x as fast on a CPU"
    return state.to(model=outcome.model, measurements=measured, refusal=outcome.refusal()), text


def write_model(state: ExportState) -> tuple[ExportState, str]:
    """Write the ONNX file, unless it lost more than it may."""
    assert state.model is not None and state.output is not None
    if state.refusal is not None:
        return state, "nothing: the accuracy gate refused it"
    write_onnx(state.model, state.output)
    return state, f"'{state.output}', {state.output.stat().st_size / 1e6:.2f} MB"


def engine_of_model(state: ExportState) -> tuple[ExportState, str]:
    """Build the TensorRT engine of what was written, where this machine can; the file stays, whatever goes wrong."""
    if (wanted := state.request.engine) is False:
        return state, "not asked for"
    if state.refusal is not None:
        return state, "nothing: the accuracy gate refused the network"
    assert state.output is not None and state.spec is not None
    outcome = engine_of_export(state.output, state.spec, insisted=bool(wanted), on_progress=state.progress)
    return state.to(engine=outcome), outcome.detail


STEPS: tuple[tuple[str, Step], ...] = (
    ("read", read_source),
    ("load", load_network),
    ("trace", trace_network),
    ("rewrite", rewrite_graph),
    ("describe", describe_model),
    ("verify", verify_model),
    ("quantise", quantise_model),
    ("measure", measure_model),
    ("write", write_model),
    ("engine", engine_of_model),
)
"""The recipe, in order."""


def run_export(
    request: ExportRequest, on_step: Callable[[str], None] | None = None, progress: Progress | None = None
) -> ExportReport:
    """Run every step of an export; where the accuracy gate refuses the network, the report says so.

    Args:
        request: what to export and how.
        on_step: called with each step's name before it starts, for progress.
        progress: told about the slow parts of a step.

    Raises:
        EdgedetError: of the kind that fits the step that failed; nothing has been written then.
    """
    state, reports = ExportState(request, progress=progress), []
    for name, step in STEPS:
        if on_step is not None:
            on_step(name)
        start = time.perf_counter()
        state, detail = step(state)
        reports.append(StepReport(name, round(time.perf_counter() - start, 3), detail))
    assert state.output and state.spec and state.family and state.model
    report = ExportReport(
        source=request.source,
        output=state.output,
        size=state.model.ByteSize(),
        family=state.family.name,
        spec=state.spec,
        steps=tuple(reports),
        differences=state.differences,
        refusals=state.refusals,
        notes=state.notes,
        outcome=state.outcome,
        measurements=state.measurements,
        refusal=state.refusal,
        engine=state.engine,
    )
    if request.report is not None:
        report.write(request.report)
    if request.html is not None:
        write_page(report, request.html)
    return report


def export_model(
    source: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    family: str | None = None,
    task: Task | None = None,
    size: tuple[int, int] | None = None,
    batch: int | Literal["dynamic"] | None = None,
    class_names: tuple[str, ...] | None = None,
    opset: int | None = None,
    keep_nms: bool = False,
    trust: bool = False,
    anchors: npt.NDArray[np.float32] | None = None,
    fragment: Mapping[str, Any] | None = None,
    pictures: str | PathLike[str] | None = None,
    quantisation: QuantisationRequest | None = None,
    engine: bool | None = None,
) -> ExportReport:
    """Turn a checkpoint or ONNX file into an ONNX file that carries everything needed to run it.

    Args:
        source: checkpoint, ONNX file, torch.export or TorchScript archive, or transformers folder.
        output: the file to write; the source's stem with ``.onnx`` in the current folder where None.

    The other arguments are those of `ExportRequest`.

    Raises:
        AccuracyGateError: if the quantised network lost more than it may.
        EdgedetError: of the kind that fits; nothing has been written then, unless the engine is what failed.
    """
    request = ExportRequest(
        source=Path(source),
        output=None if output is None else Path(output),
        family=family,
        task=task,
        size=size,
        batch=batch,
        class_names=class_names,
        opset=opset,
        keep_nms=keep_nms,
        trust=trust,
        anchors=anchors,
        fragment=fragment or {},
        pictures=None if pictures is None else Path(pictures),
        quantisation=quantisation,
        engine=engine,
    )
    report = run_export(request)
    if report.fault is not None:
        raise report.fault
    return report


def _without_nms(source: Source, request: ExportRequest) -> tuple[Source, tuple[str, ...]]:
    """Cut a NonMaxSuppression off, unless its flag or the head for what comes out behind it asks for it."""
    head = request.fragment.get("head")
    if request.keep_nms or (isinstance(head, Mapping) and head.get("name") == EndToEnd.name):
        return source, ()
    source, tail = without_nms(source)
    if tail is None:
        return source, ()
    note = (
        "The graph's own NonMaxSuppression was cut off: the runtime does it (--keep-nms keeps it). "
        f"Its limits were: {tail.limits}"
    )
    return source, (note,)


def _draft(state: ExportState) -> dict[str, Any]:
    """The ModelSpec as family and graph give it, before the user's fragment."""
    assert (
        state.loaded is not None and state.model is not None and state.source is not None and state.family is not None
    )
    loaded, found = state.loaded, graph_outputs(state.model)
    return {
        "name": loaded.name or state.source.path.stem,
        "task": loaded.task,
        "head": to_json(loaded.head.spec()),
        "input": to_json(_bound_input(loaded, state.model)),
        "outputs": to_json(found if loaded.output_names is None else pick_tensors(found, loaded.output_names)),
        "class_names": list(loaded.class_names or ()),
        **({} if loaded.proposals is None else {"proposals": to_json(loaded.proposals)}),
        "family": state.family.name,
        "source_sha256": state.source.sha256,
        **{key: value for key, value in loaded.record.items() if value},
    }


def _asked_names(names: tuple[str, ...], loaded: LoadedModel) -> tuple[str, ...]:
    # Lists such as COCO's 91 begin with a background that the head may have dropped.
    return names if loaded.class_names is None else fit_class_names(names, len(loaded.class_names))


def _opset(model: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def _picture_input(model: onnx.ModelProto, loaded: LoadedModel) -> TensorSpec:
    inputs = [value for value in graph_inputs(model) if value.name != loaded.regions_input]
    if len(inputs) != 1:
        raise ExportError(
            "a network with one input, the picture",
            f"the inputs {', '.join(value.name for value in inputs)}",
            "Fold the others into constants first",
        )
    return inputs[0]


def _wanted_shape(state: ExportState) -> InputShape:
    assert state.loaded is not None and state.model is not None
    spec, request = state.loaded.input, state.request
    width, height = request.size or (spec.width, spec.height)
    found = _picture_input(state.model, state.loaded).shape[0]
    batch = ("dynamic" if found < 1 else found) if request.batch is None else request.batch
    return InputShape(None if batch == "dynamic" else batch, width, height, spec.layout)


def _bound_input(loaded: LoadedModel, model: onnx.ModelProto) -> InputSpec:
    spec, found = loaded.input, _picture_input(model, loaded)
    batch, *rest = found.shape
    height, width = rest[1:] if spec.layout == "NCHW" else rest[:2]
    return dataclasses.replace(spec, name=found.name, batch=None if batch < 1 else batch, width=width, height=height)
