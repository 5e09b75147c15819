"""TensorRT's Python module as programs import it, where this folder is in their path: the stand-in of one version."""

from __future__ import annotations

import os
import sys

from tensorrt_standin import StandinTensorRT
from tensorrt_surfaces import VERSIONS

_STANDIN = StandinTensorRT(os.environ.get("STANDIN_TENSORRT_VERSION", VERSIONS[0]))
_STANDIN.trt.__spec__ = __spec__
_STANDIN.trt.standin = _STANDIN
sys.modules[__name__] = _STANDIN.trt
