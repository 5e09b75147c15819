"""Torch network -> ONNX, through torch.export ("dynamo") or the older TorchScript exporter.

What comes out is one self-contained ``ModelProto``: weights inside, constants folded, input ``images``, batch axis
``batch`` where it is dynamic, and none of the source paths that torch writes beside each node. A network that is given
proposals as boxes has a second input, named in its description, whose axis ``regions`` is dynamic unless it was fixed.
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
from edgedet.export.torch_operators import torchscript_symbolics, translations
from edgedet.model_spec import InputSpec
from edgedet.optional import require

__all__ = ["run_network", "trace"]

INPUT_NAME = "images"
_LEADING_AXES = ("batch", "regions")
"""What the first axes of the inputs are, in their order."""
_REGIONS = 3
"""Regions to trace with; neither 1, which torch.export takes for a constant, nor the number of anything else."""
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


def run_network(network: Any, *tensors: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Run a module, ScriptModule or ExportedProgram on its input tensors and return its outputs in order.

    Raises:
        ExportError: if it answers with something else than a tensor or a tuple or list of tensors.
    """
    torch = require("torch", extra="torch", purpose="running a torch network")
    runner = network.module() if isinstance(network, torch.export.ExportedProgram) else network
    # Not inference mode: what a script keeps of such a run could not be traced afterwards.
    with torch.no_grad():
        answer = runner(*map(torch.from_numpy, tensors))
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
    samples = _samples(torch, loaded, count, getattr(torch, loaded.input.dtype), _REGIONS)
    outputs = _dry_run(loaded, samples, dynamic)
    names = _output_names(loaded, len(outputs))
    if loaded.tracer == "torchscript":
        model = _with_torchscript(torch, loaded, samples, names, dynamic, opset)
        if loaded.head.batched or loaded.proposals is not None:
            _write_shapes(model, [output.shape for output in outputs])
        return model
    free: list[Any] = [{0: torch.export.Dim("batch", min=1)} if dynamic else {}]
    if loaded.regions_input is not None:
        free.append({0: torch.export.Dim("regions", min=1)})
    model = _with_dynamo(torch, loaded, samples, names, tuple(free) if any(free) else None, opset)
    for value, axes in zip(model.graph.input, free, strict=True):
        if axes and value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            regions = value.name == loaded.regions_input
            raise ExportError(
                f"a network that takes any number of {'regions' if regions else 'pictures'}",
                f"one whose code turns the {'number of regions' if regions else 'batch'} into a constant",
                f"{'T' if regions else 'Pass --batch 1, or t'}ake the constant out of the module's forward",
            )
    return model


def _samples(torch: Any, loaded: LoadedModel, batch: int, dtype: Any, regions: int) -> tuple[Any, ...]:
    """Return input tensors to trace with: black pictures, and the whole picture as each region."""
    image = loaded.input
    pictures = torch.zeros(_example_shape(image, batch), dtype=dtype)
    if loaded.regions_input is None:
        return (pictures,)
    return pictures, torch.tensor([[0.0, 0.0, image.width, image.height]] * regions)


def _dry_run(loaded: LoadedModel, samples: tuple[Any, ...], dynamic: bool) -> list[npt.NDArray[Any]]:
    try:
        return run_network(loaded.network, *(sample.numpy() for sample in samples))
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own code raises
        hint = "Pass --batch 1 if it takes one picture at a time, or check --imgsz" if dynamic else "Check --imgsz"
        raise ExportError(
            f"a network that runs on an input of shape {' and '.join(str(list(sample.shape)) for sample in samples)}",
            _first_line(error),
            hint,
        ) from error


def _trace_program(torch: Any, loaded: LoadedModel, batch: Batch, opset: int | None) -> onnx.ModelProto:
    program = loaded.network
    image, *regions = _placeholders(program, 1 if loaded.regions_input is None else 2)
    fixed = _fixed(image)
    if fixed is not None and batch not in (None, fixed):
        raise ExportError(
            f"a program that takes batch {batch}",
            f"one that was exported with batch {fixed}",
            f'Pass --batch {fixed}, or export the program again with dynamic_shapes=({{0: Dim("batch")}},)',
        )
    rows = next(filter(None, map(_fixed, regions)), _REGIONS)
    samples = _samples(torch, loaded, fixed or 2, image.dtype, rows)
    names = _output_names(loaded, len(program.graph_signature.user_outputs))
    return _with_dynamo(torch, loaded, samples, names, None, opset)


def _placeholders(program: Any, count: int) -> list[Any]:
    """Return what stands for the program's inputs."""
    inputs = program.graph_signature.user_inputs
    if len(inputs) != count:
        raise ExportError(
            "a program with one input, the picture"
            if count == 1
            else "a program with two inputs, picture and proposals",
            f"{len(inputs)} inputs ({', '.join(map(str, inputs))})",
            f"Export a module whose forward takes {'the picture alone' if count == 1 else 'both'}",
        )
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name].meta["val"] for name in inputs]


def _fixed(tensor: Any) -> int | None:
    """Return the length of the first axis, or None where it is dynamic."""
    return tensor.shape[0] if isinstance(tensor.shape[0], int) else None


def _with_dynamo(
    torch: Any, loaded: LoadedModel, samples: tuple[Any, ...], names: list[str], shapes: Any, opset: int | None
) -> onnx.ModelProto:
    require("onnxscript", extra="torch", purpose="torch's ONNX exporter")
    program = _exported(
        lambda: torch.onnx.export(
            loaded.network,
            samples,
            dynamo=True,
            # An older operator set is reached by converting afterwards; the exporter itself starts at 18.
            opset_version=max(opset or DEFAULT_OPSET, DEFAULT_OPSET),
            input_names=_input_names(loaded),
            output_names=names,
            dynamic_shapes=shapes,
            custom_translation_table=translations(),
            external_data=False,
            verbose=False,
        )
    )
    model: onnx.ModelProto = program.model_proto
    return model


def _with_torchscript(
    torch: Any, loaded: LoadedModel, samples: tuple[Any, ...], names: list[str], dynamic: bool, opset: int | None
) -> onnx.ModelProto:
    inputs = _input_names(loaded)
    # Axes that may have another length than the sample's: those of the pictures, or of the one picture's regions.
    axes: dict[str, Mapping[int, str]] = {inputs[-1]: {0: _LEADING_AXES[len(inputs) - 1]}}
    if loaded.head.batched or loaded.proposals is not None:
        axes |= dict.fromkeys(names, axes[inputs[-1]])
    low, high = TORCHSCRIPT_OPSETS[0], TORCHSCRIPT_OPSETS[-1]
    written = min(max(opset or DEFAULT_OPSET, low), high)
    buffer = io.BytesIO()
    with torchscript_symbolics(written):
        _exported(
            lambda: torch.onnx.export(
                loaded.network,
                samples,
                buffer,
                dynamo=False,
                opset_version=written,
                input_names=inputs,
                output_names=names,
                dynamic_axes=axes if dynamic or len(inputs) > 1 else None,
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


def _input_names(loaded: LoadedModel) -> list[str]:
    return [INPUT_NAME] if loaded.regions_input is None else [INPUT_NAME, loaded.regions_input]


def _output_names(loaded: LoadedModel, count: int) -> list[str]:
    names = list(loaded.output_names or (f"output{index}" for index in range(count)))
    if len(names) != count:
        raise ExportError(
            f"{len(names)} outputs ({', '.join(names)})", f"a network with {count}", "Correct the outputs of the spec"
        )
    return names


def _tidy(model: onnx.ModelProto) -> None:
    """Name the first axes of dynamic inputs, wherever they come up, and drop torch's notes to itself (local paths)."""
    firsts = [value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input]
    names = {symbol: name for symbol, name in zip(firsts, _LEADING_AXES, strict=False) if symbol}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names:
                axis.dim_param = names[axis.dim_param]
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
