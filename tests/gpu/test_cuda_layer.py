"""The CUDA layer on a real GPU: what the stand-in cannot prove."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading

import numpy as np
import pytest

from edgedet.runtime.cuda.driver import Attribute
from edgedet.runtime.kernels.candidates import CandidateList
from edgedet.runtime.kernels.nms import Nms, NmsRule
from edgedet.runtime.kernels.sources import stages
from edgedet.runtime.selection import Selection


def test_every_kernel_loads(device):
    """As a built cubin or PTX: no compiler is needed on a device that edgedet ships for."""
    for stage in stages().values():
        for kernel in stage.kernels:
            assert device.kernels.function(kernel) is not None


def test_copies_of_rows(device):
    stream = device.stream()
    array = np.arange(48 * 640, dtype=np.uint8).reshape(48, 640)
    buffer = stream.empty((48, 1024), np.uint8)
    stream.upload(buffer[:, :640], array)
    pinned = device.pinned((48, 640), np.uint8)
    stream.download(buffer[:, :640], pinned.array)
    stream.synchronize()
    np.testing.assert_array_equal(pinned.array, array)


@pytest.mark.parametrize("make", ["mapped", "managed", "registered"])
def test_memory_that_both_sides_reach(device, make):
    array = np.zeros(4096, np.uint8)
    if make == "mapped":
        host = device.pinned(array.shape, array.dtype, mapped=True)
    elif make == "managed":
        host = device.managed(array.shape, array.dtype)
    elif device.attribute(Attribute.HOST_REGISTER_SUPPORTED):
        host = device.register(array, mapped=True)
    else:
        pytest.skip("this device cannot register host memory")
    stream = device.stream()
    stream.fill(host.on_device, 7)
    stream.synchronize()
    assert (host.array == 7).all()


@pytest.mark.parametrize("capacity", [60, 3000])
def test_nms_is_bit_identical_to_the_host_build(device, host_kernels, capacity):
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
    expected = Nms(np.zeros, host_list, rule)
    expected.run(host_kernels, placements)
    stream = device.stream()
    words = CandidateList(stream.empty, 2, capacity)
    stream.upload(words.words, host_list.words)
    nms = Nms(stream.empty, words, rule)
    on_device = stream.empty(placements.shape, placements.dtype)
    stream.upload(on_device, placements)
    nms.run(stream, on_device)
    result = stream.download(nms.detections.words)
    stream.synchronize()
    np.testing.assert_array_equal(result, expected.detections.words)


def test_a_captured_graph(device):
    if not device.driver.has_graphs:
        pytest.skip("needs cuda-bindings beside pycuda")
    stream = device.stream()
    source, result = device.pinned((18,), np.uint32), device.pinned((18,), np.uint32)
    words = stream.empty((18,), np.uint32)
    arguments = words, ctypes.c_int(2), ctypes.c_int(1)
    stream.launch("edgedet_candidates_reset", (1,), (32,), *arguments)
    stream.synchronize()

    def record() -> None:
        stream.upload(words, source.array)
        stream.launch("edgedet_candidates_reset", (1,), (32,), *arguments)
        stream.download(words, result.array)

    graph = stream.capture(record)
    for value in (7, 8, 9):
        source.array[:] = value
        stream.run(graph)
        stream.synchronize()
        np.testing.assert_array_equal(result.array, [value] * 16 + [0, 0])


def test_torch_shares_memory_both_ways(device):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    stream = device.stream()
    buffer = stream.empty((4, 6), np.float32)
    stream.upload(buffer, np.arange(24, dtype=np.float32).reshape(4, 6))
    for taken in (torch.from_dlpack(buffer), torch.as_tensor(buffer, device="cuda")):
        assert taken.data_ptr() == buffer.address
        assert taken.sum().item() == 276
    tensor = torch.arange(24, device="cuda", dtype=torch.float32).reshape(4, 6)[:, 1:4]
    view = device.view(tensor, stream=stream)
    assert view.address == tensor.data_ptr()
    result = stream.download(view)
    stream.synchronize()
    np.testing.assert_array_equal(result, tensor.cpu().numpy())


def test_cupy_shares_memory_both_ways(device):
    cupy = pytest.importorskip("cupy")
    stream = device.stream()
    buffer = stream.empty((4, 6), np.float32)
    stream.fill(buffer, 0)
    assert float(cupy.asarray(buffer).sum()) == 0
    array = cupy.arange(24, dtype=cupy.float32)
    view = device.view(array, stream=stream)
    assert view.address == array.data.ptr


def test_workers_with_a_stream_each(device):
    wrong: list[int] = []

    def work(number: int) -> None:
        stream = device.stream()
        with device.current():
            buffer = stream.empty((1 << 16,), np.uint8)
            for turn in range(50):
                stream.fill(buffer, (number + turn) % 256)
                if (stream.download(buffer) != (number + turn) % 256).any():
                    wrong.append(number)
        stream.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_process_ends_well(device):
    program = (
        "import numpy as np\nfrom edgedet.runtime.cuda.device import Device\n"
        f"device = Device(provider={device.driver.name!r}); stream = device.stream()\n"
        "buffer = stream.empty((4,), np.float32); stream.fill(buffer, 1); device.current().__enter__()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
