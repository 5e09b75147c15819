"""The engine that is chosen, and what is said about it."""

from __future__ import annotations

import dataclasses

import pytest

from edgedet import engine_choice
from edgedet.engine_choice import ENGINES, choose_engine
from edgedet.errors import MissingDependencyError, SpecError
from edgedet.model_spec import HeadSpec, InputSpec, ModelSpec, ProposalSpec, TensorSpec

SPEC = ModelSpec(
    name="m",
    task="detect",
    head=HeadSpec("dense_boxes"),
    input=InputSpec(8, 8),
    outputs=(TensorSpec("y", (1, 5, 4), "float32"),),
    class_names=("a",),
)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch):
    """Say which engines this machine has."""

    def have(*names: str) -> None:
        for name, candidate in ENGINES.items():
            lacking = None if name in (*names, "onnxruntime") else "it is not installed"
            changed = dataclasses.replace(candidate, missing=lambda lacking=lacking: lacking)
            monkeypatch.setitem(engine_choice.ENGINES, name, changed)

    return have


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (("tensorrt", "rtx", "onnxruntime-cuda"), "tensorrt"),
        (("rtx", "onnxruntime-cuda"), "rtx"),
        (("onnxruntime-cuda",), "onnxruntime-cuda"),
        ((), "onnxruntime"),
    ],
)
def test_the_first_that_is_here_is_taken_and_the_others_are_explained(here, there, chosen):
    here(*there)
    choice = choose_engine("auto", SPEC)
    assert choice.engine == chosen
    before = list(ENGINES)[: list(ENGINES).index(chosen)]
    assert choice.reason.count("it is not installed") == len(before)
    assert all(f"not {ENGINES[name].title}" in choice.reason for name in before)


@pytest.mark.parametrize("name", ["tensorrt", "rtx", "onnxruntime-cuda"])
def test_what_was_asked_for_is_never_replaced(here, name):
    here()
    with pytest.raises(MissingDependencyError, match="which was asked for, got it is not installed"):
        choose_engine(name, SPEC)
    here(name)
    assert choose_engine(name, SPEC).engine == name


def test_int8_for_the_cpu_stays_there_unless_told_otherwise(here):
    here("tensorrt")
    for_cpu = SPEC.replace(calibration={"target": "cpu"})
    assert choose_engine("auto", for_cpu).engine == "onnxruntime"
    assert choose_engine("tensorrt", for_cpu).engine == "tensorrt"


def test_unknown_engines_and_those_that_cannot(here):
    here("tensorrt")
    with pytest.raises(SpecError, match="one of tensorrt, rtx"):
        choose_engine("openvino", SPEC)
    proposing = SPEC.replace(proposals=ProposalSpec("boxes"))
    assert choose_engine("auto", proposing).engine == "onnxruntime"
    with pytest.raises(SpecError, match="made on the CPU"):
        choose_engine("tensorrt", proposing)


def test_this_machine_tells_what_it_lacks():
    for name, candidate in ENGINES.items():
        lacking = candidate.missing()
        assert lacking is None or lacking
        assert name != "onnxruntime" or lacking is None
