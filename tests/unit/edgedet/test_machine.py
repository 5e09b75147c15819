"""The machine's files, laid out as on a Jetson, on a PC with an NVIDIA card and on one with nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgedet.machine import cameras, cpu, jetson, nvidia, system_tensorrt

OPEN_DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)  Tue Sep 23\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04.2)\n"
)
CLOSED_DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    "GCC version:  gcc version 11.4.0\n"
)
JETSON_DRIVER = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)\n"
)
X86 = "processor\t: 0\nmodel name\t: A Processor 9000\nflags\t\t: fpu avx avx2 avx512_vnni f16c\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\n"
DPKG = """\
Package: nvidia-jetpack-runtime
Status: install ok installed
Version: 1.0

Package: nvidia-jetpack
Status: install ok installed
Priority: standard
Version: 6.2+b77
Description: NVIDIA Jetpack Meta Package

Package: zlib1g
Version: 1:1.2.11
"""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_nothing_anywhere(tmp_path):
    assert jetson(tmp_path) is None
    assert system_tensorrt(tmp_path) == cameras(tmp_path) == ()
    card = nvidia(tmp_path)
    assert (card.driver, card.gpus, card.libcuda, card.toolkit) == (None, (), None, None)
    assert cpu(tmp_path).cores >= 1
    assert cpu(tmp_path).memory is None


@pytest.mark.parametrize(
    ("text", "model", "sets"),
    [(X86, "A Processor 9000", ("avx", "avx2", "f16c", "avx512_vnni")), (ARM, None, ("asimd", "asimdhp", "asimddp"))],
)
def test_cpu(tmp_path, text, model, sets):
    found = cpu(lay_out(tmp_path, {"proc/cpuinfo": text, "proc/meminfo": "MemTotal:       2097152 kB\n"}))
    assert found.instruction_sets == sets
    assert found.memory == 2 << 30
    assert model is None or found.model == model


@pytest.mark.parametrize(
    ("release", "status", "expected"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", DPKG, ("36.4.3", "6.2+b77")),
        ("# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref, EABI: aarch64", "", ("35.5.0", None)),
        (
            "# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic",
            DPKG.replace("jetpack\n", "other\n"),
            ("38.2.0", None),
        ),
    ],
)
def test_jetson(tmp_path, release, status, expected):
    files = {"etc/nv_tegra_release": release, "var/lib/dpkg/status": status, "proc/device-tree/model": "Orin NX\0"}
    found = jetson(lay_out(tmp_path, files))
    assert found is not None
    assert found.model == "Orin NX"
    assert (found.l4t, found.jetpack) == expected


@pytest.mark.parametrize(
    ("text", "version"), [(OPEN_DRIVER, "580.95.05"), (CLOSED_DRIVER, "535.183.01"), (JETSON_DRIVER, "540.4.0")]
)
def test_driver(tmp_path, text, version):
    root = lay_out(
        tmp_path,
        {
            "proc/driver/nvidia/version": text,
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 100\n",
            "usr/lib/x86_64-linux-gnu/libcuda.so.1": "",
        },
    )
    found = nvidia(root)
    assert found.driver == version
    assert found.gpus == ("NVIDIA H100 80GB HBM3",)
    assert found.libcuda == str(root / "usr/lib/x86_64-linux-gnu/libcuda.so.1")


@pytest.mark.parametrize(
    "place", ["usr/lib/aarch64-linux-gnu/tegra", "usr/lib/aarch64-linux-gnu/nvidia", "usr/lib/wsl/lib", "usr/lib64"]
)
def test_libcuda_lies_where_the_driver_put_it(tmp_path, place):
    assert nvidia(lay_out(tmp_path, {f"{place}/libcuda.so.1": ""})).libcuda == str(tmp_path / place / "libcuda.so.1")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}'}, ("12.6.11", "cuda")),
        ({"usr/local/cuda-13.0/include/cuda.h": "/* */\n#define CUDA_VERSION 13000\n"}, ("13.0", "cuda-13.0")),
        ({"usr/local/cuda-12.6/include/cuda.h": "#define CUDA_VERSION 12060\n"}, ("12.6", "cuda-12.6")),
        ({"usr/local/cuda/version.json": "broken", "usr/local/cuda/README": ""}, None),
    ],
)
def test_toolkit(tmp_path, files, expected):
    found = nvidia(lay_out(tmp_path, files))
    path = None if expected is None else str(tmp_path / "usr/local" / expected[1])
    assert (found.toolkit, found.toolkit_path) == ((expected or (None,))[0], path)


@pytest.mark.parametrize(
    ("files", "version", "python"),
    [
        (
            [
                "python3.10/dist-packages/tensorrt/__init__.py",
                "python3.10/dist-packages/tensorrt-10.3.0.dist-info/METADATA",
            ],
            "10.3.0",
            "3.10",
        ),
        (
            [
                "python3/dist-packages/tensorrt/tensorrt.cpython-312-aarch64-linux-gnu.so",
                "python3/dist-packages/tensorrt-10.13.3.9.egg-info/PKG-INFO",
            ],
            "10.13.3.9",
            "3.12",
        ),
        (["python3.8/dist-packages/tensorrt/__init__.py"], "unknown", "3.8"),
        (["python3/dist-packages/tensorrt/__init__.py"], "unknown", "any"),
    ],
)
def test_tensorrt_of_the_system(tmp_path, files, version, python):
    (found,) = system_tensorrt(lay_out(tmp_path, {f"usr/lib/{name}": "" for name in files}))
    assert (found.version, found.python) == (version, python)
    assert Path(found.path).name == "tensorrt"


def test_cameras_in_the_order_of_their_numbers(tmp_path):
    files = {f"dev/video{number}": "" for number in (10, 2, 0)}
    files |= {"sys/class/video4linux/video2/name": "HD Webcam: HD Webcam\n", "dev/vhost": ""}
    found = cameras(lay_out(tmp_path, files))
    assert [(camera.device, camera.name) for camera in found] == [
        ("/dev/video0", "unknown"),
        ("/dev/video2", "HD Webcam: HD Webcam"),
        ("/dev/video10", "unknown"),
    ]
    assert all(camera.readable for camera in found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_camera_of_another_group(tmp_path):
    lay_out(tmp_path, {"dev/video0": ""})
    (tmp_path / "dev/video0").chmod(0)
    assert not cameras(tmp_path)[0].readable
