"""Torch network -> ONNX, through torch.export ("dynamo") or the older TorchScript exporter.

What comes out is one self-contained ``ModelProto``: weights inside, constants folded, input ``images``, batch axis
``batch`` where it is dynamic, and none of the source paths that torch writes beside each node.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy.typing as npt
import onnx

from edgedet.errors import ExportError
from edgedet.export.families.family import LoadedModel
from edgedet.model_spec import InputSpec
from edgedet.optional import require

__all__ = ["run_network", "trace"]

INPUT_NAME = "images"
DEFAULT_OPSET = 18
"""What the dynamo exporter is written in; later steps convert from here."""
TORCHSCRIPT_OPSETS = range(11, 21)
"""What the TorchScript exporter can write of what detectors need (Resize as torch means it came with 11)."""

Batch = int | Literal["dynamic"] | None


def trace(loaded: LoadedModel, *, batch: Batch, opset: int | None) -> onnx.ModelProto:
    """Trace a torch network.

    Args:
        loaded: network (module in eval mode, ScriptModule or ExportedProgram), its input and its exporter.
        batch: pictures per run or ``dynamic``; where None it is dynamic if the network allows, else as it is.
        opset: operator set to write; where the exporter cannot write it, the closest that it can, for a later
            conversion. Default 18.

    Returns:
        A checked model. An ExportedProgram whose batch is dynamic keeps it so, whatever ``batch`` is: the graph pass
        that sets input shapes fixes it.

    Raises:
        ExportError: if the network fails on a picture, an operator has no ONNX form, or the batch is baked in.
    """
    torch = require("torch", extra="torch", purpose="tracing a torch network")
    if isinstance(loaded.network, torch.export.ExportedProgram):
        model = _trace_program(torch, loaded, batch, opset)
    else:
        model = _trace_module(torch, loaded, batch, opset)
    _tidy(model)
    return model


def _example_shape(spec: InputSpec, batch: int) -> tuple[int, int, int, int]:
    """Return the shape of the input tensor for so many pictures."""
    channels = 1 if spec.channels == "GRAY" else 3
    if spec.layout == "NCHW":
        return batch, channels, spec.height, spec.width
    return batch, spec.height, spec.width, channels


def run_network(network: Any, tensor: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Run a module, ScriptModule or ExportedProgram on an input tensor and return its outputs in order.

    Raises:
        ExportError: if it answers with something else than a tensor or a tuple or list of tensors.
    """
    torch = require("torch", extra="torch", purpose="running a torch network")
    runner = network.module() if isinstance(network, torch.export.ExportedProgram) else network
    # Not inference mode: what a script keeps of such a run could not be traced afterwards.
    with torch.no_grad():
        answer = runner(torch.from_numpy(tensor))
    outputs = (answer,) if isinstance(answer, torch.Tensor) else answer
    if not isinstance(outputs, (tuple, list)) or not all(isinstance(output, torch.Tensor) for output in outputs):
        raise ExportError(
            "a network that returns a tensor or a tuple of tensors",
            f"one that returns {_describe(answer)}",
            "Wrap it in a module whose forward returns the tensors that the head reads",
        )
    return [output.detach().cpu().numpy() for output in outputs]


def _trace_module(torch: Any, loaded: LoadedModel, batch: Batch, opset: int | None) -> onnx.ModelProto:
    dynamic = batch == "dynamic" or (batch is None and loaded.dynamic_batch)
    if dynamic and not loaded.dynamic_batch:
        raise ExportError(
            "a network that takes any number of pictures", "one whose batch is fixed", "Leave out --batch dynamic"
        )
    # Two pictures: torch.export takes a sample dimension of 1 for a constant, and a baked-in 1 shows at once.
    count = 2 if dynamic else (batch if isinstance(batch, int) else loaded.input.batch or 1)
    sample = torch.zeros(_example_shape(loaded.input, count), dtype=getattr(torch, loaded.input.dtype))
    outputs = _dry_run(loaded, sample, dynamic)
    names = _output_names(loaded, len(outputs))
    if loaded.tracer == "torchscript":
        model = _with_torchscript(torch, loaded, sample, names, dynamic, opset)
        if loaded.head.batched:
            _write_shapes(model, [output.shape for output in outputs])
        return model
    shapes = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
    model = _with_dynamo(torch, loaded.network, sample, names, shapes, opset)
    if dynamic and model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value"):
        raise ExportError(
            "a network that takes any number of pictures",
            "one whose code turns the batch into a constant",
            "Pass --batch 1, or take the constant out of the module's forward",
        )
    return model


def _dry_run(loaded: LoadedModel, sample: Any, dynamic: bool) -> list[npt.NDArray[Any]]:
    try:
        return run_network(loaded.network, sample.numpy())
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own code raises
        hint = "Pass --batch 1 if it takes one picture at a time, or check --imgsz" if dynamic else "Check --imgsz"
        raise ExportError(
            f"a network that runs on an input of shape {list(sample.shape)}", _first_line(error), hint
        ) from error


def _trace_program(torch: Any, loaded: LoadedModel, batch: Batch, opset: int | None) -> onnx.ModelProto:
    program = loaded.network
    placeholder = _image_placeholder(program)
    found = placeholder.meta["val"].shape[0]
    fixed = found if isinstance(found, int) else None
    if fixed is not None and batch not in (None, fixed):
        raise ExportError(
            f"a program that takes batch {batch}",
            f"one that was exported with batch {fixed}",
            f'Pass --batch {fixed}, or export the program again with dynamic_shapes=({{0: Dim("batch")}},)',
        )
    sample = torch.zeros(_example_shape(loaded.input, fixed or 2), dtype=placeholder.meta["val"].dtype)
    names = _output_names(loaded, len(program.graph_signature.user_outputs))
    return _with_dynamo(torch, program, sample, names, None, opset)


def _image_placeholder(program: Any) -> Any:
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1:
        raise ExportError(
            "a program with one input, the picture",
            f"{len(inputs)} inputs ({', '.join(map(str, inputs))})",
            "Export a module whose forward takes the picture alone",
        )
    return next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == inputs[0])


def _with_dynamo(
    torch: Any, network: Any, sample: Any, names: list[str], shapes: Any, opset: int | None
) -> onnx.ModelProto:
    require("onnxscript", extra="torch", purpose="torch's ONNX exporter")
    program = _exported(
        lambda: torch.onnx.export(
            network,
            (sample,),
            dynamo=True,
            # An older operator set is reached by converting afterwards; the exporter itself starts at 18.
            opset_version=max(opset or DEFAULT_OPSET, DEFAULT_OPSET),
            input_names=[INPUT_NAME],
            output_names=names,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    )
    model: onnx.ModelProto = program.model_proto
    return model


def _with_torchscript(
    torch: Any, loaded: LoadedModel, sample: Any, names: list[str], dynamic: bool, opset: int | None
) -> onnx.ModelProto:
    axes: dict[str, Mapping[int, str]] = {INPUT_NAME: {0: "batch"}}
    if loaded.head.batched:
        axes |= {name: {0: "batch"} for name in names}
    low, high = TORCHSCRIPT_OPSETS[0], TORCHSCRIPT_OPSETS[-1]
    buffer = io.BytesIO()
    _exported(
        lambda: torch.onnx.export(
            loaded.network,
            (sample,),
            buffer,
            dynamo=False,
            opset_version=min(max(opset or DEFAULT_OPSET, low), high),
            input_names=[INPUT_NAME],
            output_names=names,
            dynamic_axes=axes if dynamic else None,
            do_constant_folding=True,
        )
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _write_shapes(model: onnx.ModelProto, shapes: list[tuple[int, ...]]) -> None:
    """Fill in the axes that this exporter left open behind the batch; they do not depend on it."""
    for output, shape in zip(model.graph.output, shapes, strict=True):
        for dim, size in list(zip(output.type.tensor_type.shape.dim, shape, strict=True))[1:]:
            dim.dim_value = size


def _exported(export: Callable[[], Any]) -> Any:
    try:
        with _quiet(), require("torch", extra="torch", purpose="tracing").no_grad():
            return export()
    except Exception as error:  # the exporters pass on whatever torch, onnxscript or the network raises
        raise ExportError(
            "a network whose operators all have an ONNX form",
            _culprit(error),
            "Replace that operation in the module, or try another --opset",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress lines, log records and known notices away from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        # Python-side values in forward (sizes, list lengths) become constants: wanted, and checked by verify.
        warnings.filterwarnings("ignore", category=_tracer_warning())
        # The TorchScript exporter is chosen on purpose, for what the newer one cannot do.
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export")
        warnings.filterwarnings("ignore", message=".*feature will be removed", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated", category=DeprecationWarning)
        # torch.export and the exporters call other parts of torch by their old names.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", module="torch\\.", category=UserWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _tracer_warning() -> type[Warning]:
    warning: type[Warning] = require("torch.jit", extra="torch", purpose="tracing").TracerWarning
    return warning


def _output_names(loaded: LoadedModel, count: int) -> list[str]:
    names = list(loaded.output_names or (f"output{index}" for index in range(count)))
    if len(names) != count:
        raise ExportError(
            f"{len(names)} outputs ({', '.join(names)})", f"a network with {count}", "Correct the outputs of the spec"
        )
    return names


def _tidy(model: onnx.ModelProto) -> None:
    """Call the first axis of a dynamic input ``batch`` everywhere and drop torch's notes to itself (local paths)."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    symbol = dim.dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if symbol and axis.dim_param == symbol:
                axis.dim_param = "batch"
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            node.doc_string = ""
            graphs += [sub for attribute in node.attribute for sub in (attribute.g, *attribute.graphs) if sub.node]
            del node.metadata_props[:]
        for item in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del item.metadata_props[:]
        graph.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]


_OPERATOR = re.compile(
    r"(?:No ONNX function found for|No decompositions registered for|Exporting the operator|unsupported operator:?)"
    r"\s*[<'\"]?(?:OpOverload\(op=)?['\"]?([\w.:]+)",
    re.IGNORECASE,
)


def _culprit(error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        found = _OPERATOR.search(str(link))
        if found:
            return f"the operator {found.group(1)}, which has none"
    return _first_line(chain[-1])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if lines and "TorchScript interpreter" in lines[0]:
        # The interpreter writes its whole stack first.
        return lines[-1].rstrip(".")
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _describe(answer: Any) -> str:
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {', '.join(type(item).__name__ for item in answer)}"
    return f"a {type(answer).__name__}"
