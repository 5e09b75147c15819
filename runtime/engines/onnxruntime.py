"""ONNX Runtime on the CPU: the engine that is always there."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgedet.errors import EngineError, ModelFileError
from edgedet.machine import cpu
from edgedet.model_spec import TensorSpec

__all__ = ["AS_WRITTEN", "OnnxRuntimeEngine", "integer_config"]

AS_WRITTEN = {"session.disable_quant_qdq": "1"}
"""Configuration with which Q/DQ are computed where they stand, and not by integer kernels that round otherwise."""

# How threads wait for work within a run (benchmarks/thread_settings.py). Spinning for long starves whatever else the
# process does: capture, pre-processing, a second session (six times slower). Sleeping at once makes a run up to a tenth
# slower. Spinning for a moment costs neither. Releases that do not know the duration should spin until the run ends.
_CONFIG = {
    "session.intra_op.allow_spinning": "1",
    "session.intra_op.spin_duration_us": "5",
    "session.force_spinning_stop": "1",
}

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instructions of x86 that sum products of bytes in 32 bits."""

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16"}


class OnnxRuntimeEngine:
    """An ONNX file in an ONNX Runtime session on the CPU.

    Args:
        model: path of the file, or its serialised bytes.
        threads: threads of one run; the processors that this process may use where None.
        config: entries of ONNX Runtime's session configuration, laid over the ones that are set here.
        arena: whether memory of one run is kept for the next; without, a run takes as long and the memory goes back.

    Raises:
        ModelFileError: if ONNX Runtime cannot load the file.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int | None = None,
        config: Mapping[str, str] | None = None,
        arena: bool = True,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = arena
        for key, value in {**_CONFIG, **_integer_config(), **(config or {})}.items():
            options.add_session_config_entry(key, value)
        where = f"'{model}'" if isinstance(model, Path) else "the model"
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise ModelFileError(
                "an ONNX file that ONNX Runtime can load", f"{where}: {_first_line(error)}", "Export it again"
            ) from error
        self._inputs = tuple(_tensor_spec(value) for value in self._session.get_inputs())
        self._outputs = tuple(_tensor_spec(value) for value in self._session.get_outputs())
        self._output_names = [value.name for value in self._outputs]

    @property
    def name(self) -> str:
        """Backend and device in words."""
        return "onnxruntime (CPU)"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's inputs."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that `infer` returns, in its order."""
        return self._outputs

    def select_outputs(self, names: Sequence[str]) -> None:
        """Compute only these outputs from now on, and answer in this order.

        Raises:
            ModelFileError: if the network has no output of such a name.
        """
        known = {value.name: _tensor_spec(value) for value in self._session.get_outputs()}
        absent = [name for name in names if name not in known]
        if absent:
            raise ModelFileError(
                f"the outputs {', '.join(names)}, which the ModelSpec names",
                f"only {', '.join(known)}",
                "Export it again",
            )
        self._outputs = tuple(known[name] for name in names)
        self._output_names = list(names)

    @property
    def metadata(self) -> dict[str, str]:
        """The ONNX file's metadata properties."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def infer(self, *tensors: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
        """Run the network on its input tensors, in the order of `inputs`.

        Raises:
            EngineError: if ONNX Runtime fails, or the engine is closed.
        """
        if self._session is None:
            raise EngineError("an open engine", "one that was closed", "Load the model again")
        feeds = {value.name: tensor for value, tensor in zip(self._inputs, tensors, strict=True)}
        try:
            answer: list[npt.NDArray[Any]] = self._session.run(self._output_names, feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise EngineError(
                "ONNX Runtime to run the network",
                f"on {' and '.join(f'{tensor.dtype} {tensor.shape}' for tensor in tensors)}: {_first_line(error)}",
                "Check the input size and batch, or export the model again",
            ) from error
        return answer

    def close(self) -> None:
        """Drop the session."""
        self._session = None


@functools.cache
def _integer_config() -> Mapping[str, str]:
    return integer_config(cpu(Path("/")).instruction_sets)


def integer_config(instruction_sets: Sequence[str]) -> dict[str, str]:
    """Return the session configuration with which INT8 networks are computed exactly on a processor.

    Without VNNI the kernels for uint8 x int8 on x86 sum two products in 16 bits, where 255 * 127 * 2 does not fit: such
    sums are cut off, and scores with them. There both factors are made uint8, whose kernels are slower and exact.

    Args:
        instruction_sets: of the processor (see `edgedet.machine.cpu`).
    """
    x86 = "sse4_2" in instruction_sets
    return {"session.x64quantprecision": "1"} if x86 and _VNNI.isdisjoint(instruction_sets) else {}


def _tensor_spec(value: Any) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in value.shape)
    dtype = str(value.type).removeprefix("tensor(").removesuffix(")")
    return TensorSpec(value.name, shape, _DTYPES.get(dtype, dtype))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
