"""The example with a GPU, on the stand-in for its driver; in place of cupy stands a reader of the same protocol."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import cv2
import host_kernels
import pytest
import standin_driver
from example_programs import run_example

import edgedet

CLIP = Path(edgedet.__file__).parent / "demo" / "digits.mp4"
FRAMES = 5

CUPY = '''
import ctypes
import numpy as np


driver = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
assert driver.cuInit(0) == 0 and driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0


def wait_for(stream):
    """Wait for a stream in the primary context, as libraries on top of the CUDA runtime do."""
    assert driver.cuCtxPushCurrent_v2(context) == 0
    assert driver.cuStreamSynchronize(ctypes.c_void_p(stream)) == 0
    assert driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0


def asarray(array):
    """Read the memory that __cuda_array_interface__ (version 3) describes, when its stream is done."""
    facts = array.__cuda_array_interface__
    assert facts["version"] == 3
    if facts["stream"] is not None:
        wait_for(facts["stream"])
    address, shape = facts["data"][0], facts["shape"]
    strides = facts["strides"] or np.empty(shape, facts["typestr"]).strides
    nbytes = strides[0] * (shape[0] - 1) + shape[1]
    whole = np.frombuffer((ctypes.c_char * nbytes).from_address(address), facts["typestr"])
    return np.lib.stride_tricks.as_strided(whole, shape, strides)
'''


def test_the_pictures_arrive(pytestconfig: pytest.Config, tmp_path: Path):
    if host_kernels.compiler() is None:
        pytest.skip("needs a C++ compiler (apt install g++)")
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("needs cuda-bindings: pip install 'edgedet[cuda]'")
    assert pytestconfig.cache is not None
    kernels = host_kernels.build(pytestconfig.cache.mkdir("host_kernels"))
    library = standin_driver.build(pytestconfig.cache.mkdir("standin_cuda"))
    (tmp_path / "cupy.py").write_text(CUPY)
    environment = standin_driver.environment(library, kernels)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    name = "07_own_gpu_code.py"
    said = run_example(name, "--frames", str(FRAMES), cwd=tmp_path, environment=environment)
    video = cv2.VideoCapture(str(CLIP))
    pictures = [video.read()[1] for _ in range(FRAMES)]
    video.release()
    assert re.findall(r"mean brightness (\S+)", said) == [f"{picture.mean():.2f}" for picture in pictures]
