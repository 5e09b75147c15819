"""Which built kernels run where, and whether those that are shipped are those of the source."""

from __future__ import annotations

import hashlib
import importlib.util
import struct

import pytest

from edgedet.runtime.cuda.kernel_library import fitting_targets
from edgedet.runtime.kernels import build_cubins
from edgedet.runtime.kernels.sources import CUBINS, Stage, archive, manifest, read_image, stages, write_archive

REBUILD = "the kernels have changed since they were built: run make cubins"
SHIPPED = tuple(build_cubins.TARGETS)


@pytest.mark.parametrize(
    ("device", "capability", "integrated", "targets"),
    [
        ("Jetson Xavier", (7, 2), True, ["sm_72"]),
        ("Jetson Orin", (8, 7), True, ["sm_87", "compute_75"]),
        ("Jetson Thor", (11, 0), True, ["sm_110", "compute_75"]),
        ("DGX Spark, which shares the host's memory", (12, 1), True, ["compute_75"]),
        ("V100", (7, 0), False, []),
        ("RTX 2080", (7, 5), False, ["sm_75", "compute_75"]),
        ("A100", (8, 0), False, ["compute_75"]),
        ("RTX 3090", (8, 6), False, ["sm_86", "compute_75"]),
        ("RTX 4090", (8, 9), False, ["sm_89", "sm_86", "compute_75"]),
        ("H100", (9, 0), False, ["sm_90", "compute_75"]),
        ("B200", (10, 0), False, ["compute_75"]),
        ("RTX 5090", (12, 0), False, ["sm_120", "compute_75"]),
        ("RTX of a later minor version", (12, 1), False, ["sm_120", "compute_75"]),
        ("a device of the future", (13, 0), False, ["compute_75"]),
    ],
)
def test_what_runs_on(device, capability, integrated, targets):
    assert fitting_targets(capability, integrated, SHIPPED) == targets, device


def test_the_newest_ptx_comes_first():
    assert fitting_targets((9, 0), False, ["compute_75", "compute_90", "compute_100"]) == ["compute_90", "compute_75"]


@pytest.mark.parametrize("stage", stages())
def test_the_built_kernels_are_of_this_source(stage):
    assert manifest()["stages"].get(stage) == {
        "sha256": stages()[stage].sha256,
        "kernels": list(stages()[stage].kernels),
    }, REBUILD


def test_nothing_is_shipped_of_stages_that_are_gone():
    assert set(manifest()["stages"]) == set(stages()), REBUILD
    assert {path.name for path in CUBINS.iterdir()} == {"manifest.json", *(f"{target}.tar.xz" for target in SHIPPED)}


@pytest.mark.parametrize("target", SHIPPED)
def test_the_images_are_what_was_built(target):
    """Hash, architecture by the ELF header's flags, and the names of the kernels."""
    images = archive(CUBINS / f"{target}.tar.xz")
    assert set(images) == set(manifest()["images"][target]) == set(manifest()["stages"])
    for name, image in images.items():
        assert read_image(target, name) == image
        for kernel in manifest()["stages"][name]["kernels"]:
            assert kernel.encode() in image
        if target.startswith("compute_"):
            assert f".target sm_{target[8:]}".encode() in image
        else:
            (flags,) = struct.unpack_from("<I", image, 48)
            assert image[:4] == b"\x7fELF"
            assert (flags >> 8 if image[8] >= 8 else flags) & 0xFF == int(target[3:])


def test_products_and_sums_are_rounded_on_their_own():
    """In a stage without exp(), whose own arithmetic is fused."""
    image = read_image("compute_75", "nms")
    assert b"mul.rn.f32" in image
    assert b"fma.rn.f32" not in image


def test_the_packed_images_are_small():
    assert sum(path.stat().st_size for path in CUBINS.iterdir()) < 4 << 20


def test_a_stage_s_hash_is_of_everything_that_it_is_made_of():
    stage = Stage("a", b'#include "b.cuh"', {"b.cuh": b"int x;", "c.cuh": b""})
    others = [
        Stage("a", b'#include "b.cuh" ', stage.headers),
        Stage("a", stage.source, {"b.cuh": b"int y;", "c.cuh": b""}),
        Stage("a", stage.source, {"b.cuh": b"", "c.cuh": b"int x;"}),
        Stage("a", stage.source, {"b.cuh": b"int x;"}),
    ]
    assert len({stage.sha256, *(other.sha256 for other in others)}) == 5
    assert stage.sha256 == Stage("z", stage.source, dict(reversed(stage.headers.items()))).sha256


def test_headers_are_found_through_headers():
    assert {"nms.cuh", "candidates.cuh", "host_device.cuh"} <= set(stages()["nms"].headers)


def test_an_archive_there_and_back(tmp_path):
    images = {"b": b"\0\1" * 999, "a": b""}
    write_archive(tmp_path / "one.tar.xz", images)
    write_archive(tmp_path / "two.tar.xz", dict(sorted(images.items())))
    assert archive(tmp_path / "one.tar.xz") == images
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="needs NVRTC: pip install 'edgedet[cubins]'")
@pytest.mark.parametrize("target", SHIPPED)
def test_building_again_gives_the_same_bytes(target):
    from importlib import metadata

    package = build_cubins.TARGETS[target]
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs {package}: pip install 'edgedet[cubins]'")
    image = build_cubins.compile_stage(build_cubins.compiler_of(package), stages()["candidates"], target)
    assert hashlib.sha256(image).hexdigest() == manifest()["images"][target]["candidates"]["sha256"], REBUILD
