"""Capsules against independent readers and writers: NumPy and torch, on memory that both can reach."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from edgedet.errors import EngineError
from edgedet.runtime.cuda import dlpack
from edgedet.runtime.cuda.dlpack import DeviceType, ForeignTensor, export_tensor, import_tensor

DTYPES = ["bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "float16", "float32", "float64"]


class Exported:
    """An array that offers itself through our capsules."""

    def __init__(self, array: np.ndarray, *, versioned: bool) -> None:
        self.array, self.versioned = array, versioned

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: object) -> object:
        array = self.array
        tensor = ForeignTensor(
            array.ctypes.data, DeviceType.CPU, 0, array.dtype, array.shape, array.strides, keep=array
        )
        return export_tensor(tensor, versioned=self.versioned)


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_reads_what_is_exported(dtype, versioned):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)[:, ::2]
    read = np.from_dlpack(Exported(array, versioned=versioned))
    assert read.dtype == array.dtype and read.ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_reads_what_is_exported(dtype, versioned):
    torch = pytest.importorskip("torch")
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)[:, ::2]
    read = torch.from_dlpack(Exported(array, versioned=versioned).__dlpack__())
    assert read.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(read.numpy(), array)


@pytest.mark.parametrize("writer", ["numpy", "numpy 1.0", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_others_export_is_read(dtype, writer):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    if writer == "torch":
        torch = pytest.importorskip("torch")
        capsule = torch.from_numpy(array).__dlpack__()
    else:
        capsule = array.__dlpack__(**({"max_version": (1, 0)} if writer == "numpy 1.0" else {}))
    read = import_tensor(capsule)
    assert (read.address, read.dtype, read.shape, read.strides) == (
        array.ctypes.data, array.dtype, array.shape, array.strides,
    )  # fmt: skip
    assert read.device_type is DeviceType.CPU


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_the_memory_lives_as_long_as_its_last_user(versioned, taken):
    array = np.zeros(8)
    before = sys.getrefcount(array)
    capsule = Exported(array, versioned=versioned).__dlpack__()
    assert sys.getrefcount(array) == before + 1
    user = import_tensor(capsule) if taken else None
    del capsule
    assert sys.getrefcount(array) == before + taken
    del user
    gc.collect()
    assert sys.getrefcount(array) == before
    assert not dlpack._exported


def test_what_we_take_is_deleted_for_its_owner():
    array = np.zeros(8)
    before = sys.getrefcount(array)
    read = import_tensor(array.__dlpack__())
    assert sys.getrefcount(array) == before + 1
    del read
    assert sys.getrefcount(array) == before


def test_a_capsule_is_taken_once():
    capsule = np.zeros(8).__dlpack__()
    import_tensor(capsule)
    with pytest.raises(EngineError, match="nobody has taken"):
        import_tensor(capsule)
    with pytest.raises(EngineError, match="nobody has taken"):
        import_tensor(object())


def test_types_that_only_one_side_has():
    torch = pytest.importorskip("torch")
    with pytest.raises(EngineError, match="an element type that NumPy has"):
        import_tensor(torch.zeros(4, dtype=torch.bfloat16).__dlpack__())
    with pytest.raises(BufferError, match="datetime64"):
        Exported(np.zeros(3, "datetime64[s]"), versioned=True).__dlpack__()
    with pytest.raises(BufferError, match=">f4"):
        Exported(np.zeros(3, ">f4"), versioned=True).__dlpack__()


@pytest.mark.parametrize("versioned", [False, True])
def test_a_tensor_without_axes(versioned):
    array = np.array(5.0)
    assert import_tensor(Exported(array, versioned=versioned).__dlpack__()).shape == ()
    assert np.from_dlpack(Exported(array, versioned=versioned)) == 5
