"""NvBufSurface: sizes against hand-counted ones and a C compiler's, calls against a stand-in library.

Whether a Jetson does as its headers say is not known here.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgedet.errors import SourceError
from edgedet.runtime.capture import gstreamer_nvmm as nvmm
from edgedet.runtime.pixel_formats import PictureFormat

SIZE = PictureFormat("NV12", 64, 32)


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler: the package gcc or clang")
    source = Path(__file__).parents[3] / "support" / "standin_nvbufsurface.c"
    built = tmp_path_factory.mktemp("nvmm") / "libstandin.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(built), str(source)], check=True)
    loaded = ctypes.CDLL(str(built))
    loaded.make.restype = ctypes.c_void_p
    loaded.set.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    return loaded


@pytest.fixture
def calls(standin: ctypes.CDLL) -> ctypes.Array[ctypes.c_int]:
    counted = (ctypes.c_int * 3).in_dll(standin, "calls")
    counted[:] = [0, 0, 0]
    return counted


def test_sizes_counted_by_hand():
    """Pointers of 8 bytes: four planes, four spare pointers in each struct (sixteen for the planes).

    Planes: 4 * (1 + 6 * 4) = 100, filled up to 104, + 16 * 8. Addresses: (4 + 1 + 4) * 8. Params: 5 * 4 = 20, filled up
    to 24, + 8 + 4, filled up to 40, + 8 + 232 + 72 + 4 * 8. Surface: 3 * 4 + 1, filled up to 16, + 4, filled up to 24,
    + 8 + 4 * 8.
    """
    sizes = [nvmm._PlaneParams, nvmm._MappedAddresses, nvmm.SurfaceParams, nvmm.Surface]
    assert [ctypes.sizeof(each) for each in sizes] == [232, 72, 384, 64]


def test_sizes_and_offsets_as_a_c_compiler_lays_them_out(standin):
    expected = (ctypes.c_size_t * 10).in_dll(standin, "sizes")
    params, surface = nvmm.SurfaceParams, nvmm.Surface
    assert list(expected) == [
        *map(ctypes.sizeof, (nvmm._PlaneParams, nvmm._MappedAddresses, params, surface)),
        params.buffer_desc.offset,
        params.planes.offset,
        params.mapped.offset,
        nvmm._PlaneParams.pitch.offset,
        surface.mem_type.offset,
        surface.surface_list.offset,
    ]


def test_a_surface_is_mapped_and_given_back(standin, calls):
    mapped = nvmm.MappedSurface(standin.make(64, 32, 256, 17), SIZE, "camera", standin)
    assert (mapped.fd, mapped.pitches) == (17, (256, 256)) and list(calls) == [1, 1, 0]
    assert mapped.addresses[1] - mapped.addresses[0] == 256 * 32
    luma = np.ctypeslib.as_array((ctypes.c_uint8 * (256 * 48)).from_address(mapped.addresses[0]))
    assert np.array_equal(luma, np.arange(256 * 48) * 7 % 256)
    mapped.unmap()
    assert list(calls) == [1, 1, 1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 4, "a batch of 4"),
        ("mem_type", 2, "memory of type 2"),
        ("width", 128, "128x32"),
        ("layout", 1, "a block-linear layout.*bl-output=false"),
        ("num_planes", 1, "1 planes"),
        ("pitch", 32, "rows 256, 32 bytes apart"),
    ],
)
def test_a_surface_that_is_not_as_the_caps_promise_is_refused_before_it_is_mapped(
    standin, calls, field, value, message
):
    surface = standin.make(64, 32, 256, 17)
    standin.set(surface, field.encode(), value)
    with pytest.raises(SourceError, match=message):
        nvmm.MappedSurface(surface, SIZE, "camera", standin)
    assert list(calls) == [0, 0, 0]


def test_a_map_that_fails_is_said(standin):
    failing = ctypes.c_int.in_dll(standin, "fail_map")
    failing.value = 1
    try:
        with pytest.raises(SourceError, match="NvBufSurfaceMap to succeed, got error -1"):
            nvmm.MappedSurface(standin.make(64, 32, 256, 17), SIZE, "camera", standin)
    finally:
        failing.value = 0


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (None, r"a Jetson, for memory:NVMM, got another machine"),
        ("# R32 (release), REVISION: 7.1, GCID: 1", r"Jetson Linux 35, 36, 38, .* got release 32\.7\.1"),
        ("# R99 (release), REVISION: 1.0, GCID: 1", r"got release 99\.1\.0"),
        ("# R36 (release), REVISION: 4.3, GCID: 1", r"NVIDIA's libnvbufsurface"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, release, message):
    if release is not None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "nv_tegra_release").write_text(release)
    with pytest.raises(SourceError, match=message):
        nvmm.load_library(tmp_path)
