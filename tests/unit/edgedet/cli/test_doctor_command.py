"""edgedet doctor: a table for people, one JSON object for programs, exit code 0 whatever is missing."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner

from edgedet.cli import doctor_command
from edgedet.diagnosis import Advice, diagnose
from edgedet.machine import Camera, Jetson


def test_json_is_one_object_with_everything_found():
    result = CliRunner().invoke(doctor_command.command, ["--json"])
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert set(found) == {field.name for field in dataclasses.fields(diagnose())}
    assert found["onnxruntime"]["providers"]


def test_the_table_shows_what_is_there_and_the_commands():
    found = dataclasses.replace(
        diagnose(),
        jetson=Jetson("Orin NX [devkit]", "36.4.3", None),
        cameras=(Camera("/dev/video0", "HD Webcam", False),),
        advice=(Advice("torch>=2.6", "exports", "pip install 'edgedet[torch]'", "large"),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor_command, "diagnose", lambda: found)
        result = CliRunner().invoke(doctor_command.command, [])
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    for text in (
        "Orin NX [devkit], L4T 36.4.3", "edgedet[torch]", "/dev/video0", "HD Webcam, not readable",
        "torch>=2.6, for exports (large) pip install 'edgedet[torch]'",
    ):  # fmt: skip
        assert text in shown


def test_a_complete_machine_is_told_so(monkeypatch):
    found = dataclasses.replace(diagnose(), advice=())
    monkeypatch.setattr(doctor_command, "diagnose", lambda: found)
    assert "Nothing is missing" in CliRunner().invoke(doctor_command.command, []).output
