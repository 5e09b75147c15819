"""The cache of engines: what an entry's name depends on, two processes at once, broken entries, pruning."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedet.engine_store.cache import EngineCache, EngineKey
from edgedet.engine_store.manifest import EngineManifest, sidecar_of
from edgedet.engine_store.trust import Trust, write_engine
from edgedet.errors import EngineError, SinkError, UntrustedFileError
from edgedet.target import Target

Make = Callable[..., EngineManifest]
KEY = EngineKey("ab" * 32, "tensorrt", "10.3.0", Target(("sm_87",), "Orin"), {"batch": None})
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path: Path, trust: Trust) -> EngineCache:
    """An empty cache."""
    return EngineCache(tmp_path / "cache", trust)


def builder(plan: bytes, manifest: EngineManifest, trust: Trust, calls: list[Path]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        calls.append(path)
        write_engine(path, plan, manifest, trust)

    return build


@pytest.mark.parametrize(
    "change",
    [
        {"source_sha256": "cd" * 32},
        {"flavour": "rtx"},
        {"version": "10.3.1"},
        {"target": Target(("sm_87",), "Orin NX")},
        {"target": Target(("sm_86",), "Orin")},
        {"options": {"batch": 4}},
    ],
)
def test_another_engine_has_another_name(cache: EngineCache, change: dict[str, object]) -> None:
    other = dataclasses.replace(KEY, **change)  # type: ignore[arg-type]  # the fields are named above
    assert cache.path("m", KEY) != cache.path("m", other)
    assert cache.path("m", KEY) == cache.path("m", dataclasses.replace(KEY))


@pytest.mark.parametrize("name", ["a/b", "../../etc/passwd", "", ".", "…", "x" * 500])
def test_no_name_leaves_the_folder(cache: EngineCache, name: str) -> None:
    path = cache.path(name, KEY)
    assert path.parent == cache.folder
    assert len(path.name) < 120


def test_what_is_there_is_not_built_again(cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust) -> None:
    calls: list[Path] = []
    path = cache.path("m", KEY)
    for _ in range(2):
        assert cache.get_or_build(path, builder(plan, make_manifest(), trust, calls)).plan == plan
    assert calls == [path]


@pytest.mark.parametrize("broken", ["plan", "manifest", "no manifest"])
def test_a_broken_entry_is_built_again(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust, broken: str
) -> None:
    calls: list[Path] = []
    path = cache.path("m", KEY)
    build = builder(plan, make_manifest(), trust, calls)
    cache.get_or_build(path, build)
    if broken == "plan":
        path.write_bytes(plan[:100])
    elif broken == "manifest":
        sidecar_of(path).write_text("{", encoding="utf-8")
    else:
        sidecar_of(path).unlink()
    assert cache.entries()[0].problem is not None
    assert cache.get_or_build(path, build).plan == plan
    assert len(calls) == 2


def test_what_is_not_trusted_is_left_to_the_user(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust, tmp_path: Path
) -> None:
    calls: list[Path] = []
    path = cache.path("m", KEY)
    write_engine(path, plan, make_manifest(), Trust(state=tmp_path / "stranger"))
    with pytest.raises(UntrustedFileError):
        cache.get_or_build(path, builder(plan, make_manifest(), trust, calls))
    assert not calls


def test_a_build_that_fails_leaves_nothing(cache: EngineCache) -> None:
    def fail(_path: Path) -> None:
        raise EngineError("an engine", "none", "Try again")

    path = cache.path("m", KEY)
    with pytest.raises(EngineError):
        cache.get_or_build(path, fail)
    assert cache.entries() == []


def _race(cache: EngineCache, plan: bytes, manifest: EngineManifest, log: Path) -> None:
    def build(path: Path) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write("built\n")
        time.sleep(0.3)
        write_engine(path, plan, manifest, cache.trust)

    assert cache.get_or_build(cache.path("m", KEY), build).plan == plan


def test_two_processes_build_it_once(cache: EngineCache, plan: bytes, make_manifest: Make, tmp_path: Path) -> None:
    log = tmp_path / "log"
    racers = [FORK.Process(target=_race, args=(cache, plan, make_manifest(), log)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert log.read_text(encoding="utf-8") == "built\n"


def _hang(cache: EngineCache, started: Path) -> None:
    def build(_path: Path) -> None:
        started.touch()
        time.sleep(60)

    cache.get_or_build(cache.path("m", KEY), build)


def test_a_killed_build_does_not_block_the_next(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust, tmp_path: Path
) -> None:
    victim = FORK.Process(target=_hang, args=(cache, tmp_path / "started"))
    victim.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    calls: list[Path] = []
    assert cache.get_or_build(cache.path("m", KEY), builder(plan, make_manifest(), trust, calls)).plan == plan


def test_pruning_takes_broken_old_and_surplus_entries(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust
) -> None:
    paths = [cache.path(f"m{index}", KEY) for index in range(5)]
    for age, path in enumerate(paths):
        write_engine(path, plan, make_manifest(), trust)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert [entry.path for entry in cache.entries(verify=True)] == paths
    sidecar_of(paths[0]).write_text("{", encoding="utf-8")
    assert [entry.path for entry in cache.prune()] == [paths[0]]
    assert [entry.path for entry in cache.prune(unused_since=1_000_000 - 3)] == [paths[4]]
    assert [entry.path for entry in cache.prune(keep_bytes=len(plan) + 1)] == [paths[2], paths[3]]
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted((paths[1].name, sidecar_of(paths[1]).name))


def test_a_tampered_entry_is_listed_with_its_problem(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust
) -> None:
    path = cache.path("m", KEY)
    write_engine(path, plan, make_manifest(), trust)
    path.write_bytes(plan[:-1] + b"\1")
    assert cache.entries()[0].problem is None
    problem = cache.entries(verify=True)[0].problem
    assert problem is not None and "changed" in problem


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="chmod"):
        EngineCache(folder)


def test_a_full_disk_leaves_the_old_engine_refused_or_whole(
    cache: EngineCache, plan: bytes, make_manifest: Make, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache.path("m", KEY)
    write_engine(path, plan, make_manifest(), trust)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SinkError, match="No space left"):
        write_engine(path, plan[::-1], make_manifest(plan[::-1]), trust)
    monkeypatch.undo()
    found = cache.get(path)
    assert found is not None and found.plan == plan


@pytest.mark.parametrize(
    ("built", "here", "any_gpu", "said"),
    [
        (Target(("sm_87",), "Orin"), Target(("sm_87",), "Orin"), False, None),
        (Target(("sm_87",), "Orin"), Target(("sm_87",), "Orin NX"), False, "built on a Orin, this is a Orin NX"),
        (Target(("sm_87",), "Orin"), Target(("sm_87",), "Orin NX"), True, None),
        (Target(("sm_86", "sm_89")), Target(("sm_89",), "RTX 4090"), True, None),
        (Target(("sm_86",)), Target(("sm_120",), "RTX 5090"), True, "built for sm_86, this is RTX 5090 (sm_120)"),
    ],
)
def test_a_device_that_cannot_run_it_is_told_why(built: Target, here: Target, any_gpu: bool, said: str | None) -> None:
    assert built.differs_from(here, any_gpu=any_gpu) == said
