"""edgedet build, verify, engines and keygen, with TensorRT-RTX's real builder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from engine_builds import needs_rtx

from edgedet.cli.main import group
from edgedet.engine_store.trust import KEY_VARIABLE
from edgedet.errors import EdgedetError, EngineError, SinkError, UntrustedFileError

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets and caches of the tests are not the user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit detector in INT8, as the README exports it."""
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("model") / "digits.int8.onnx"
    arguments = [
        "export",
        str(ROOT / "examples/models/digits.pt"),
        "--int8",
        "--calib",
        str(ROOT / "examples/digits/images"),
    ]
    result = CliRunner().invoke(group, [*arguments, "--calib-count", "8", "--max-drop", "100", "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(group, [str(argument) for argument in arguments])
    if isinstance(result.exception, EdgedetError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@needs_rtx
def test_an_engine_is_built_signed_verified_and_refused_once_changed(digits: Path, tmp_path: Path) -> None:
    assert run("keygen").exit_code == 0
    engine = tmp_path / "digits.engine"
    report = json.loads(
        run("build", digits, "-o", engine, "--target", "sm_86,sm_89", "--sign", "edgedet.pem", "--json").stdout
    )
    assert report["target"] == "sm_86, sm_89" and report["flavour"] == "rtx"
    assert report["bytes"] == engine.stat().st_size
    assert report["layers"]["int8_share"] > 0.9
    manifest = json.loads(run("verify", engine, "--key", "edgedet.pub.pem", "--json").stdout)
    assert manifest["target"]["compute_capabilities"] == ["sm_86", "sm_89"]
    assert manifest["spec"]["head"]["name"] and manifest["report"]["layers"] == report["layers"]
    run("keygen", "-o", "stranger.pem")
    with pytest.raises(UntrustedFileError, match="signed with"):
        run("verify", engine, "--key", "stranger.pub.pem")
    engine.write_bytes(engine.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="changed"):
        run("verify", engine, "--key", "edgedet.pub.pem")


@needs_rtx
def test_what_is_printed_names_shares_and_the_next_command(digits: Path, tmp_path: Path) -> None:
    shown = run("build", digits, "-o", tmp_path / "digits.engine", "--target", "sm_86", "--verbose-layers").stdout
    assert "convolutions and matrix products" in shown and "Next: edgedet run" in shown
    assert shown.count("correlation") + shown.count("runtime_fusion") > 5
    assert "Int8" in shown


@needs_rtx
def test_times_of_kernels_are_kept(digits: Path, tmp_path: Path) -> None:
    times = tmp_path / "times.cache"
    for _ in range(2):
        run("build", digits, "-o", tmp_path / "d.engine", "--target", "sm_86", "--timing-cache", times)
        assert times.stat().st_size > 0
    times.write_bytes(b"of another device")
    run("build", digits, "-o", tmp_path / "d.engine", "--target", "sm_86", "--timing-cache", times)
    assert times.read_bytes() != b"of another device"


@needs_rtx
def test_a_file_that_the_cpu_is_to_run_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "cpu.onnx"
    arguments = ["export", ROOT / "examples/models/digits.pt", "--int8", "--calib", ROOT / "examples/digits/images"]
    run(*arguments, "--calib-count", 8, "--max-drop", 100, "--target", "cpu", "-o", path)
    with pytest.raises(EngineError, match="--target tensorrt"):
        run("build", path, "--target", "sm_86")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "ampere"), "got 'ampere'"),
        (("--target", "sm_86", "--flavour", "tensorrt"), "builds for the GPU that is there"),
        (("--target", "sm_86", "-o", "other.onnx"), "an engine's name"),
    ],
)
def test_what_cannot_be_built_is_said(digits: Path, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(EdgedetError, match=said):
        run("build", digits, *arguments)


@pytest.mark.parametrize(
    "arguments", [("--batch", "0"), ("--batch", "4..1"), ("--workspace", "much"), ("--opt-level", "9")]
)
def test_options_that_mean_nothing_are_wrong_usage(digits: Path, arguments: tuple[str, ...]) -> None:
    assert run("build", digits, *arguments).exit_code == 2


def test_keys_are_written_once(tmp_path: Path) -> None:
    assert "Next: edgedet build" in run("keygen", "-o", "a.pem").stdout
    with pytest.raises(SinkError, match="File exists"):
        run("keygen", "-o", "a.pem")


@needs_rtx
def test_a_key_with_a_passphrase_asks_for_it(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    assert runner.invoke(group, ["keygen", "--passphrase"], input="open\nopen\n").exit_code == 0
    build = ["build", str(digits), "-o", "d.engine", "--target", "sm_86", "--sign", "edgedet.pem"]
    assert isinstance(runner.invoke(group, build, input="shut\n").exception, EngineError)
    assert runner.invoke(group, build, input="open\n").exit_code == 0
    monkeypatch.setenv("EDGEDET_SIGN_PASSPHRASE", "open")
    assert runner.invoke(group, build).exit_code == 0
    run("verify", "d.engine", "--key", "edgedet.pub.pem")


@needs_rtx
def test_the_cache_is_listed_verified_and_pruned(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "caches/edgedet/engines"
    assert "No engines" in run("engines").stdout
    run("build", digits, "-o", folder / "digits.engine", "--target", "sm_86")
    assert "digits.engine" in run("engines").stdout
    entries = json.loads(run("engines", "list", "--json").stdout)
    assert [entry["manifest"]["source"] for entry in entries] == [digits.name]
    assert run("engines", "verify").exit_code == 0
    (folder / "digits.engine").write_bytes(b"\0" * entries[0]["bytes"])
    assert run("engines", "verify").exit_code == 1
    assert json.loads(run("engines", "prune", "--keep", "0", "--json").stdout)[0]["path"].endswith("digits.engine")
    assert "No engines" in run("engines").stdout
