"""What the options of ``edgedet export`` that ask for a lower precision become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgedet.cli.precision_options import precision_options
from edgedet.errors import ExportError
from edgedet.export.quantisation.request import QuantisationRequest


def asked(*arguments: object) -> QuantisationRequest | None:
    found: list[QuantisationRequest | None] = []

    @click.command()
    @precision_options
    def command(quantisation: QuantisationRequest | None, **_: Any) -> None:
        found.append(quantisation)

    result = CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return found[0]


def test_statistics_are_kept_for_the_user_unless_told_otherwise(tmp_path: Path, user_cache: Path) -> None:
    for arguments, expected in (
        ((), user_cache / "edgedet/calibration"),
        (("--calib-cache", tmp_path / "kept"), tmp_path / "kept"),
        (("--no-calib-cache",), None),
    ):
        request = asked("--int8", "--calib", tmp_path, *arguments)
        assert request is not None and request.calib_cache == expected


def test_both_cache_options_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="one of --calib-cache and --no-calib-cache"):
        asked("--int8", "--calib", tmp_path, "--calib-cache", tmp_path, "--no-calib-cache")


@pytest.mark.parametrize("idle", [("--no-calib-cache",), ("--calib-cache", "kept"), ("--calib-count", 8)])
def test_options_without_a_precision_are_refused(idle: tuple[object, ...]) -> None:
    with pytest.raises(ExportError, match=str(idle[0])):
        asked(*idle)
    assert asked() is None


@pytest.mark.parametrize(
    ("flags", "precision"), [(("--int8",), "int8"), (("--fp16",), "float16"), (("--int8", "--fp16"), "int8+float16")]
)
def test_flags_name_the_precision(tmp_path: Path, flags: tuple[str, ...], precision: str) -> None:
    request = asked(*flags, "--calib", tmp_path)
    assert request is not None and request.precision == precision
