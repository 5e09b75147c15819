"""What may be deserialised: every way in which an engine can be swapped, tampered with or broken is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedet.engine_store.manifest import EngineManifest, sha256, sidecar_of
from edgedet.engine_store.signature import PublicKey, generate, read_private_key
from edgedet.engine_store.trust import KEY_VARIABLE, Trust, check_private, read_engine, write_engine
from edgedet.errors import EngineError, SinkError, UntrustedFileError

Make = Callable[..., EngineManifest]


@pytest.fixture
def engine(tmp_path: Path, plan: bytes, make_manifest: Make, trust: Trust) -> Path:
    """An engine that this user built."""
    path = tmp_path / "model.engine"
    write_engine(path, plan, make_manifest(), trust)
    return path


def keys(folder: Path, name: str = "fleet", passphrase: bytes | None = None) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    generate(private, public, passphrase)
    return private, public


def change_sidecar(engine: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(sidecar_of(engine).read_text(encoding="utf-8"))
    change(document)
    sidecar_of(engine).write_text(json.dumps(document), encoding="utf-8")


def test_what_this_user_built_is_read(engine: Path, plan: bytes, make_manifest: Make, trust: Trust) -> None:
    found = read_engine(engine, trust)
    assert found.plan == plan
    assert found.manifest == make_manifest()


def test_what_another_user_built_is_refused(engine: Path, tmp_path: Path) -> None:
    for other in ("nobody", "someone"):
        if other == "someone":
            Trust(state=tmp_path / other).seal(read_engine(engine, Trust(state=tmp_path / "state")).manifest)
        with pytest.raises(UntrustedFileError, match="someone else built"):
            read_engine(engine, Trust(state=tmp_path / other))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["manifest"].update(version="10.4.0"),
        lambda d: d["manifest"]["target"].update(gpu="Thor"),
        lambda d: d["manifest"].update(plan_sha256=sha256(b"other")),
        lambda d: d["manifest"]["options"].update(optimization_level=5),
        lambda d: d["seals"].update(own=""),
        lambda d: d["seals"].update(own="é" * 64),
        lambda d: d["seals"].update(own="0" * 64),
    ],
)
def test_a_changed_manifest_is_refused(engine: Path, trust: Trust, change: Callable[[dict], object]) -> None:
    change_sidecar(engine, change)
    with pytest.raises(UntrustedFileError):
        read_engine(engine, trust)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plan: plan[:-1], "truncated"),
        (lambda plan: b"", "truncated"),
        (lambda plan: plan[:-1] + b"\0", "changed"),
        (lambda plan: plan + b"\0", "changed"),
    ],
)
def test_a_changed_plan_is_refused(
    engine: Path, plan: bytes, trust: Trust, damage: Callable[[bytes], bytes], said: str
) -> None:
    engine.write_bytes(damage(plan))
    with pytest.raises(EngineError, match=said):
        read_engine(engine, trust)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"manifest": {}, "seals": {}}', '{"manifest": {"format": 9}, "seals": {}}', "[" * 100_000]
)
def test_a_broken_manifest_is_said_to_be_broken(engine: Path, trust: Trust, text: str) -> None:
    sidecar_of(engine).write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match="edgedet build"):
        read_engine(engine, trust)


def test_without_a_manifest_nothing_is_read(engine: Path, trust: Trust) -> None:
    sidecar_of(engine).unlink()
    with pytest.raises(EngineError, match="no such file"):
        read_engine(engine, trust)


def test_a_signed_engine_is_read_by_whoever_has_the_public_key(
    tmp_path: Path, plan: bytes, make_manifest: Make, trust: Trust
) -> None:
    private, public = keys(tmp_path)
    path = tmp_path / "signed.engine"
    write_engine(path, plan, make_manifest(), trust, read_private_key(private))
    elsewhere = Trust(PublicKey.read(public), tmp_path / "elsewhere")
    assert read_engine(path, elsewhere).plan == plan


def test_with_a_key_nothing_else_is_read(
    engine: Path, tmp_path: Path, plan: bytes, make_manifest: Make, trust: Trust
) -> None:
    _, public = keys(tmp_path)
    other, _ = keys(tmp_path, "other")
    with_key = Trust(PublicKey.read(public), trust.state)
    with pytest.raises(UntrustedFileError, match="without a signature"):
        read_engine(engine, with_key)
    write_engine(engine, plan, make_manifest(), trust, read_private_key(other))
    with pytest.raises(UntrustedFileError, match="signed with"):
        read_engine(engine, with_key)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["manifest"].update(plan_sha256=sha256(b"other")),
        lambda d: d["manifest"].update(built="2030-01-01T00:00:00Z"),
        lambda d: d["seals"]["signature"].update(value="00" * 64),
        lambda d: d["seals"]["signature"].update(value="no hexadecimal"),
        lambda d: d["seals"]["signature"].update(value=d["seals"]["signature"]["value"][:-2]),
    ],
)
def test_a_signature_holds_for_what_was_signed_only(
    tmp_path: Path, plan: bytes, make_manifest: Make, trust: Trust, change: Callable[[dict], object]
) -> None:
    private, public = keys(tmp_path)
    path = tmp_path / "signed.engine"
    write_engine(path, plan, make_manifest(), trust, read_private_key(private))
    change_sidecar(path, change)
    with pytest.raises(UntrustedFileError, match="changed after it was signed"):
        read_engine(path, Trust(PublicKey.read(public)))


def test_a_signature_of_one_engine_does_not_serve_for_another(
    tmp_path: Path, plan: bytes, make_manifest: Make, trust: Trust
) -> None:
    private, public = keys(tmp_path)
    first, second = tmp_path / "a.engine", tmp_path / "b.engine"
    write_engine(first, plan, make_manifest(), trust, read_private_key(private))
    write_engine(second, plan[::-1], make_manifest(plan[::-1]), trust, read_private_key(private))
    first.write_bytes(second.read_bytes())
    with pytest.raises(EngineError, match="changed"):
        read_engine(first, Trust(PublicKey.read(public)))


def test_the_environment_can_demand_a_key(
    engine: Path, tmp_path: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, public = keys(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, str(public))
    with pytest.raises(UntrustedFileError):
        read_engine(engine, Trust.from_environment(state=trust.state))
    monkeypatch.delenv(KEY_VARIABLE)
    assert read_engine(engine, Trust.from_environment(state=trust.state)).plan


@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
def test_keys_are_private_and_read_back(tmp_path: Path, passphrase: bytes | None) -> None:
    private, public = keys(tmp_path, passphrase=passphrase)
    assert private.stat().st_mode & 0o777 == 0o600
    key = read_private_key(private, passphrase)
    assert key.public_key().public_bytes_raw() == PublicKey.read(public).key.public_bytes_raw()
    if passphrase:
        with pytest.raises(EngineError, match="passphrase"):
            read_private_key(private, b"wrong")
        with pytest.raises(EngineError, match="passphrase"):
            read_private_key(private)


def test_keys_are_never_overwritten_and_come_in_pairs(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    before = private.read_bytes()
    with pytest.raises(SinkError):
        generate(private, tmp_path / "new.pub.pem")
    assert private.read_bytes() == before
    assert not (tmp_path / "new.pub.pem").exists()
    with pytest.raises(SinkError):
        generate(tmp_path / "new.pem", public)
    assert not (tmp_path / "new.pem").exists()


def test_wrong_key_files_are_named(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    with pytest.raises(EngineError, match="which is a private key"):
        PublicKey.read(private)
    with pytest.raises(EngineError, match="private key"):
        public.chmod(0o600)
        read_private_key(public)
    private.chmod(0o644)
    with pytest.raises(EngineError, match="chmod 600"):
        read_private_key(private)
    with pytest.raises(EngineError, match="No such file"):
        PublicKey.read(tmp_path / "none.pem")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_folders_that_others_can_write_to_are_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EngineError, match="chmod go-w"):
        check_private(folder)
    folder.chmod(0o755)
    check_private(folder)


def test_a_secret_that_others_can_read_is_refused(engine: Path, trust: Trust) -> None:
    assert trust.state is not None
    secret = trust.state / "engine.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    secret.chmod(0o644)
    with pytest.raises(EngineError, match="open to others"):
        read_engine(engine, trust)
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(EngineError, match="of 5"):
        read_engine(engine, trust)


def _seal(state: str, answers: multiprocessing.Queue[str], manifest: EngineManifest) -> None:
    answers.put(Trust(state=Path(state)).seal(manifest))


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path, make_manifest: Make) -> None:
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    answers = context.Queue()
    arguments = (str(tmp_path / "state"), answers, make_manifest())
    processes = [context.Process(target=_seal, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    codes = {answers.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert len(codes) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["engine.secret"]
