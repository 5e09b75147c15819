"""What doctor concludes from what it found, and that every conclusion comes with a command."""

from __future__ import annotations

import dataclasses
import sys
from importlib import metadata

import numpy as np
import onnxruntime
import pytest

from edgedet import diagnosis
from edgedet.diagnosis import (
    EXTRAS,
    Diagnosis,
    Extra,
    OnnxRuntime,
    Package,
    PythonFacts,
    TensorRT,
    advise,
    diagnose,
    extras,
    required_packages,
)
from edgedet.machine import Camera, Cpu, Jetson, Nvidia, SystemTensorRT

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
NO_CARD = Nvidia(None, (), None, None, None)
CARD = Nvidia("580.95.05", ("NVIDIA RTX 4070",), "/usr/lib/x86_64-linux-gnu/libcuda.so.1", None, None)
ORIN = Jetson("NVIDIA Jetson Orin NX", "36.4.3", "6.2+b77")
HEALTHY = Diagnosis(
    edgedet="0.1.0",
    python=PythonFacts("3.12.3", "/venv", True, False),
    platform="Linux",
    cpu=Cpu("a processor", 8, 1 << 34, ("avx2",)),
    jetson=None,
    nvidia=NO_CARD,
    tensorrt=TensorRT(None, ()),
    onnxruntime=OnnxRuntime(("CPUExecutionProvider",)),
    packages=(Package("numpy", ">=1.26", "2.0", True),),
    extras=tuple(Extra(name, purpose, True, ()) for name, purpose in EXTRAS.items()),
    cameras=(Camera("/dev/video0", "HD Webcam", True),),
    advice=(),
)


def advice_for(**changes):
    return list(advise(dataclasses.replace(HEALTHY, **changes)))


def test_a_healthy_machine_needs_nothing():
    assert advice_for() == []


@pytest.mark.parametrize(
    ("changes", "missing", "command"),
    [
        ({"packages": (Package("numpy", ">=1.26", "1.21", False),)}, "numpy>=1.26", "pip install 'numpy>=1.26'"),
        ({"packages": (Package("rich", ">=13", None, False),)}, "rich>=13", "pip install 'rich>=13'"),
        (
            {"extras": (Extra("eval", "edgedet eval", False, ("PyYAML>=6",)),)},
            "PyYAML>=6",
            "pip install 'edgedet[eval]'",
        ),
        (
            {"cameras": (Camera("/dev/video0", "x", False), Camera("/dev/video1", "x", False))},
            "permission to read /dev/video0",
            'sudo usermod -aG video "$USER"',
        ),
        (
            {"onnxruntime": OnnxRuntime((), "libonnx.so: cannot open")},
            "a working ONNX Runtime",
            "pip install --force-reinstall onnxruntime",
        ),
    ],
)
def test_one_thing_missing(changes, missing, command):
    (advice,) = advice_for(**changes)
    assert (advice.missing, advice.command) == (missing, command)


def test_a_pc_with_a_card_is_told_of_both_accelerators():
    assert [item.missing for item in advice_for(nvidia=CARD)] == ["CUDAExecutionProvider", "tensorrt"]


def test_a_pc_that_has_both_is_told_nothing():
    providers = OnnxRuntime(("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert advice_for(nvidia=CARD, onnxruntime=providers, tensorrt=TensorRT("10.16.1", ())) == []


@pytest.mark.parametrize(
    ("system", "command", "note"),
    [
        ((), "sudo apt install nvidia-jetpack", "comes with JetPack"),
        (
            (SystemTensorRT("10.3.0", RUNNING, "/usr/lib/t"),),
            f"python{RUNNING} -m venv --system-site-packages",
            "'/usr/lib/t'",
        ),
        (
            (SystemTensorRT("10.3.0", "any", "/usr/lib/t"),),
            f"python{RUNNING} -m venv --system-site-packages",
            "the system",
        ),
        (
            (SystemTensorRT("8.5.2", "3.8", "/usr/lib/t"),),
            "python3.8 -m venv --system-site-packages",
            "is for Python 3.8",
        ),
    ],
)
def test_tensorrt_on_a_jetson(system, command, note):
    (advice,) = advice_for(jetson=ORIN, nvidia=CARD, tensorrt=TensorRT(None, system))
    assert advice.command.startswith(command)
    assert note in advice.note


def test_a_jetson_without_libcuda():
    first, *_ = advice_for(jetson=ORIN)
    assert (first.missing, first.command) == ("libcuda.so.1", "sudo apt install nvidia-jetpack")


def test_this_machine():
    found = diagnose()
    assert found.python.version == sys.version.split()[0]
    assert found.onnxruntime.providers == tuple(onnxruntime.get_available_providers())
    versions = {package.name: package.version for package in found.packages}
    assert versions["numpy"] == np.__version__
    assert all(item.command for item in found.advice)


def test_what_edgedet_needs_is_there():
    found = required_packages()
    assert {"numpy", "click", "onnx"} <= {package.name for package in found}
    assert all(package.fits for package in found)


def test_any_distribution_of_a_module_will_do(monkeypatch):
    installed = {"onnxruntime-gpu": "1.23.0", "opencv-python-headless": "4.11.0.86"}
    monkeypatch.setattr(diagnosis, "_installed", installed.get)
    found = {package.name: package for package in required_packages()}
    assert found["onnxruntime-gpu"].fits and found["opencv-python-headless"].fits
    assert found["numpy"].version is None and not found["numpy"].fits


def test_an_extra_lacks_what_its_own_extras_lack(monkeypatch):
    real = metadata.version

    def version(name):
        if name in ("torch", "ultralytics"):
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "safetensors" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = {extra.name: extra for extra in extras()}
    lacking = {text.partition(">")[0] for text in found["ultralytics"].lacking}
    assert {"torch", "safetensors", "ultralytics"} <= lacking
    assert not found["torch"].complete


def test_versions_are_not_compared_as_text(monkeypatch):
    monkeypatch.setattr(diagnosis, "_installed", lambda _: "100.2.0")
    assert all(package.fits for package in required_packages())
    monkeypatch.setattr(diagnosis, "_installed", lambda _: "not a version")
    assert not any(package.fits for package in required_packages())
