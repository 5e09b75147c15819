"""The exceptions that edgedet raises, each a sentence in three parts: expected, got, what to do now.

EdgedetError
|-- MissingDependencyError      an optional package is not installed (also an ImportError)
|-- ModelFileError              a model file cannot be read as what it claims to be
|-- UntrustedFileError          reading the file would execute code, and nobody vouched for it
|-- UnknownHeadError            the outputs fit no head, or more than one
|-- SpecError                   a ModelSpec contradicts itself or the network
|-- ExportError                 a step of the exporter failed
|   |-- VerificationError       the exported network answers differently from its source
|   `-- AccuracyGateError       the quantised network lost more than allowed (exit code 3)
|-- EngineError                 an inference engine failed to load or run
|   `-- CudaError               a call of the CUDA driver failed
|-- ImageError                  a picture cannot be decoded or has the wrong shape or type
|-- SourceError                 a picture folder, video or camera cannot be opened or ended early
|-- SinkError                   a result cannot be written where it was asked for
`-- DatasetError                a labelled set cannot be read or does not fit the model
"""

from __future__ import annotations

__all__ = [
    "AccuracyGateError",
    "CudaError",
    "DatasetError",
    "EdgedetError",
    "EngineError",
    "ExportError",
    "ImageError",
    "MissingDependencyError",
    "ModelFileError",
    "SinkError",
    "SourceError",
    "SpecError",
    "UnknownHeadError",
    "UntrustedFileError",
    "VerificationError",
]


class EdgedetError(Exception):
    """Base of every error that edgedet raises on purpose.

    Args:
        expected: what the code needed, as a noun phrase ("an ONNX model").
        got: what it found instead ("'a.onnx', which starts with b'PK'").
        action: what the user can do now, as a sentence without a full stop.
    """

    exit_code = 1

    def __init__(self, expected: str, got: str, action: str) -> None:
        super().__init__(expected, got, action)
        self.expected = expected
        self.got = got
        self.action = action

    def __str__(self) -> str:
        return f"Expected {self.expected}, got {self.got}. {self.action}"


class MissingDependencyError(EdgedetError, ImportError):
    """An optional package is needed and not installed."""


class ModelFileError(EdgedetError):
    """A model file is missing, truncated, or not of the format that it claims to be."""


class UntrustedFileError(EdgedetError):
    """Reading the file would run code that it carries, and the user did not pass ``--trust``."""


class UnknownHeadError(EdgedetError):
    """The output tensors fit no known head, or fit several, and no family was named."""


class SpecError(EdgedetError):
    """A ModelSpec is incomplete, contradicts itself, or does not fit the network it describes."""


class ExportError(EdgedetError):
    """A step between checkpoint and ONNX file failed."""


class VerificationError(ExportError):
    """The exported network's outputs differ from the source's by more than the tolerance."""


class AccuracyGateError(ExportError):
    """The quantised network lost more accuracy than ``--max-drop`` allows."""

    exit_code = 3


class EngineError(EdgedetError):
    """An inference engine could not be created or failed while it ran."""


class CudaError(EngineError):
    """The CUDA driver refused a call; `got` begins with its name of the error (CUDA_ERROR_OUT_OF_MEMORY)."""

    @property
    def name(self) -> str:
        """The driver's name of the error."""
        return self.got.partition(" ")[0]


class ImageError(EdgedetError):
    """A picture cannot be decoded, or an array is not an (H, W, 3) uint8 BGR picture."""


class SourceError(EdgedetError):
    """A source of frames cannot be opened, or broke off before its end."""


class SinkError(EdgedetError):
    """Results cannot be written to the place that was asked for."""


class DatasetError(EdgedetError):
    """A labelled set cannot be read, or its classes do not fit the model's."""
