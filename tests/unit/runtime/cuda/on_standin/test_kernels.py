from __future__ import annotations

import ctypes
import json

import numpy as np
import pytest

from edgedet.errors import CudaError, EngineError
from edgedet.runtime.cuda import kernel_library
from edgedet.runtime.kernels import sources
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.selection import Selection


@pytest.mark.parametrize("capacity", [60, 3000])
def test_a_stage_answers_as_it_does_without_a_driver(device, stream, kernels, capacity):
    """NMS of two pictures through the provider, and the same launcher on NumPy arrays."""
    random = np.random.default_rng(capacity)
    rule = NmsRule.of(Selection(confidence=0.0, iou=0.5, max_detections=40), suppress=True)
    placements = np.tile(np.float32([1, 1, 0, 0, 640, 640]), (2, 1))

    host_list = CandidateList(np.zeros, 2, capacity)
    arrays = host_list.arrays(host_list.words)
    corner = random.uniform(0, 500, (2, capacity, 2)).astype(np.float32)
    arrays.xyxy[..., :2] = corner
    arrays.xyxy[..., 2:] = corner + random.uniform(5, 140, (2, capacity, 2)).astype(np.float32)
    arrays.score[:] = random.integers(1, 50, (2, capacity)) / np.float32(50)
    arrays.class_id[:] = random.integers(0, 3, (2, capacity))
    arrays.location[:] = arrays.rank[:] = np.arange(capacity)
    arrays.count[:] = capacity, capacity // 2
    host_nms = Nms(np.zeros, host_list, rule)
    host_nms.run(kernels, placements)

    device_list = CandidateList(stream.empty, 2, capacity)
    stream.upload(device_list.words, host_list.words)
    nms = Nms(stream.empty, device_list, rule)
    on_device = stream.empty(placements.shape, placements.dtype)
    stream.upload(on_device, placements)
    nms.run(stream, on_device)
    result = stream.download(nms.detections.words)
    stream.synchronize()
    np.testing.assert_array_equal(result, host_nms.detections.words)
    assert (stream.download(nms.kept_count) > 5).all()


def reset(stream):
    words = stream.empty((9,), np.uint32)
    stream.fill(words, 255)
    stream.launch("edgedet_candidates_reset", (1,), (32,), words, ctypes.c_int(1), ctypes.c_int(1))
    found = stream.download(words)
    stream.synchronize()
    assert found[8] == 0 and (found[:8] == 2**32 - 1).all()


def test_a_kernel_that_is_not_there(stream):
    with pytest.raises(EngineError, match="'edgedet_nothing'"):
        stream.launch("edgedet_nothing", (1,), (1,))


def test_a_stage_is_loaded_once(device, stream):
    import standin_driver

    reset(stream)
    reset(device.stream())
    assert standin_driver.count("modules") == 1


@pytest.fixture
def damaged(monkeypatch, tmp_path):
    """A copy of the built kernels, to change; the stage is up to date in it."""

    def change(**images):
        known = json.loads(sources.MANIFEST.read_text())
        stage = sources.stages()["candidates"]
        known["stages"]["candidates"] = {"sha256": stage.sha256, "kernels": list(stage.kernels)}
        known["images"] = {target: facts for target, (_, facts) in images.items()}
        for target, (image, _) in images.items():
            sources.write_archive(tmp_path / f"{target}.tar.xz", {"candidates": image})
        monkeypatch.setattr(sources, "CUBINS", tmp_path)
        monkeypatch.setattr(kernel_library, "manifest", lambda: known)
        monkeypatch.setattr(sources, "manifest", lambda: known)

    return change


def facts_of(image: bytes) -> dict:
    import hashlib

    return {"candidates": {"sha256": hashlib.sha256(image).hexdigest(), "nvrtc": "12.6"}}


def test_other_bytes_than_were_built(damaged, stream):
    damaged(sm_87=(b"\x7fELF and so on", facts_of(b"something else")))
    with pytest.raises(EngineError, match=r"as they were built, got other bytes. Install edgedet again"):
        reset(stream)


def test_no_kernels_for_the_device_and_no_compiler(damaged, stream, monkeypatch):
    damaged(sm_90=(b"\x7fELF and so on", facts_of(b"\x7fELF and so on")))
    monkeypatch.setattr(kernel_library, "find_nvrtc", lambda version: None)
    with pytest.raises(EngineError, match=r"stand-in \(compute capability 8.7\).*none was built for it.*Install NVRTC"):
        reset(stream)


def test_an_image_the_driver_does_not_take_is_passed_over(damaged, stream, monkeypatch):
    text = sources.read_image("compute_75", "candidates")
    newer = text.replace(b".version 8.5", b".version 9.9")
    damaged(sm_87=(bytes(100), facts_of(bytes(100))), compute_75=(newer, facts_of(newer)))
    monkeypatch.setattr(kernel_library, "find_nvrtc", lambda version: None)
    with pytest.raises(EngineError, match="sm_87: CUDA_ERROR_INVALID_IMAGE; compute_75: CUDA_ERROR_UNSUPPORTED_PTX"):
        reset(stream)


def test_ptx_where_no_cubin_fits(damaged, stream):
    text = sources.read_image("compute_75", "candidates")
    damaged(compute_75=(text, facts_of(text)))
    reset(stream)


class Compiler:
    """Gives the shipped PTX for whatever it is asked."""

    version = (13, 0)
    architectures = (75, 86)

    def __init__(self):
        self.asked = []

    def compile(self, name, source, headers, options):
        self.asked.append((name, options))
        return sources.read_image("compute_75", "candidates") + b"\0"


def test_a_changed_source_is_compiled_here_once(device, stream, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = Compiler()
    monkeypatch.setattr(kernel_library, "find_nvrtc", lambda version: compiler)
    changed = {"stages": {}, "images": {}}
    monkeypatch.setattr(kernel_library, "manifest", lambda: changed)
    reset(stream)
    options = ("--std=c++17", "--fmad=false", "--gpu-architecture=compute_86")
    assert compiler.asked == [("candidates.cu", options)]
    (kept,) = (tmp_path / "edgedet/kernels").iterdir()
    assert kept.name.startswith("candidates-compute_86-")
    with type(device)(provider=device.driver.name) as again:
        reset(again.stream())
    assert len(compiler.asked) == 1


def test_an_error_that_is_not_about_the_image_is_not_passed_over(device, stream, monkeypatch):
    from edgedet.runtime.cuda.error_wording import cuda_error

    def fail(image):
        raise cuda_error("to load a module", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")

    monkeypatch.setattr(device.driver, "load_module", fail)
    with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
        reset(stream)
