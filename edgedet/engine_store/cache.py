"""EngineCache: built engines in a folder of the user's, found by what they were built from, by and for.

An entry is an engine and its manifest. Its name starts with the model's, for people, and ends with a digest of
everything that the plan depends on, for programs. Of two processes that want the same engine at once, one builds and
the other waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet.engine_store.manifest import EngineManifest, read_sidecar, sha256, sidecar_of
from edgedet.engine_store.trust import Trust, VerifiedEngine, check_private, read_engine
from edgedet.errors import EdgedetError, EngineError
from edgedet.target import Target

__all__ = ["Build", "CachedEngine", "EngineCache", "EngineKey"]

Build = Callable[[Path], None]
"""Builds an engine and writes it and its manifest to the path (`trust.write_engine`)."""

_SUFFIX = ".engine"


@dataclass(frozen=True)
class EngineKey:
    """Everything that a plan depends on.

    Attributes:
        source_sha256: of the ONNX file.
        flavour: ``tensorrt`` or ``rtx``.
        version: of TensorRT.
        target: the device.
        options: of the builder, as JSON.
    """

    source_sha256: str
    flavour: str
    version: str
    target: Target
    options: Mapping[str, Any]

    def digest(self) -> str:
        """Return 16 hexadecimal digits."""
        parts = [
            self.source_sha256,
            self.flavour,
            self.version,
            self.target.gpu,
            *self.target.compute_capabilities,
            json.dumps(self.options, sort_keys=True),
        ]
        return sha256("\n".join(parts).encode())[:16]


@dataclass(frozen=True)
class CachedEngine:
    """An entry of the cache.

    Attributes:
        path: of the engine.
        size: of the plan in bytes.
        used: when it was last loaded or built, in seconds since 1970.
        manifest: None where it is broken.
        problem: why it cannot be used; None where it can.
    """

    path: Path
    size: int
    used: float
    manifest: EngineManifest | None
    problem: str | None = None


class EngineCache:
    """Built engines of this user.

    Args:
        folder: where they are; the user's cache folder where None. Made on first use, for its owner alone.
        trust: whom to trust with what is in it.

    Raises:
        EngineError: if the folder is another user's, or others may write to it.
    """

    def __init__(self, folder: Path | None = None, trust: Trust | None = None) -> None:
        self.folder = folder or _default_folder()
        self.trust = trust or Trust()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineError(
                f"to keep engines in '{self.folder}'", error.strerror or str(error), "Name a folder with --cache DIR"
            ) from error
        check_private(self.folder)

    def path(self, name: str, key: EngineKey) -> Path:
        """Return where the engine of a model is kept.

        Args:
            name: of the model, for people; whatever a file name cannot hold is replaced.
            key: what the engine depends on.
        """
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:64] or "model"
        return self.folder / f"{readable}-{key.digest()}{_SUFFIX}"

    def get(self, path: Path) -> VerifiedEngine | None:
        """Return a verified engine, or None where there is none; its time of use is set to now.

        Raises:
            EngineError: if it cannot be read or was changed.
            UntrustedFileError: if nobody who is trusted vouches for it.
        """
        if not path.exists():
            return None
        engine = read_engine(path, self.trust)
        with contextlib.suppress(OSError):  # a cache on a read-only disk serves as well
            os.utime(path)
        return engine

    def get_or_build(self, path: Path, build: Build, on_wait: Callable[[], None] | None = None) -> VerifiedEngine:
        """Return a verified engine, built now where there is none or the one that is there is broken.

        An engine that is whole but not trusted is not replaced: that is for the user to decide.

        Args:
            path: of the entry (see `path`).
            build: what makes it.
            on_wait: called when another process is building it.

        Raises:
            UntrustedFileError: if nobody who is trusted vouches for what is there.
            EdgedetError: what `build` raises.
        """
        found = self._sound(path)
        if found is not None:
            return found
        with self._locked(path, on_wait):
            found = self._sound(path)
            if found is not None:
                return found
            build(path)
        built = self.get(path)
        if built is None:
            raise EngineError(
                f"an engine in '{path}' after the build", "none", "Look whether another program deletes it"
            )
        return built

    def entries(self, *, verify: bool = False) -> list[CachedEngine]:
        """List what is there, the last used first.

        Args:
            verify: whether to hold plans against hashes and seals too, which reads all of them.
        """
        found = [self._entry(path, verify=verify) for path in self.folder.glob(f"*{_SUFFIX}")]
        return sorted(found, key=lambda entry: -entry.used)

    def prune(self, *, unused_since: float | None = None, keep_bytes: int | None = None) -> list[CachedEngine]:
        """Delete broken entries, those that were not used lately, and the longest unused while too much is kept.

        Args:
            unused_since: seconds since 1970; what was last used before goes.
            keep_bytes: at most so much stays.

        Returns:
            What was deleted.
        """
        entries = self.entries()
        gone = [entry for entry in entries if entry.problem or entry.used < (unused_since or 0)]
        kept = 0
        for entry in entries:
            if entry in gone:
                continue
            kept += entry.size
            if keep_bytes is not None and kept > keep_bytes:
                gone.append(entry)
        for entry in gone:
            for path in (entry.path, sidecar_of(entry.path), _lock_of(entry.path)):
                path.unlink(missing_ok=True)
        return gone

    def _sound(self, path: Path) -> VerifiedEngine | None:
        try:
            return self.get(path)
        except EngineError:
            return None

    def _entry(self, path: Path, *, verify: bool) -> CachedEngine:
        facts = path.stat()
        try:
            manifest, _ = read_sidecar(path)
        except EdgedetError as error:
            return CachedEngine(path, facts.st_size, facts.st_mtime, None, str(error))
        problem = None
        if verify:
            try:
                read_engine(path, self.trust)
            except EdgedetError as error:
                problem = str(error)
        elif facts.st_size != manifest.plan_bytes:
            problem = f"{facts.st_size} bytes, built with {manifest.plan_bytes}"
        return CachedEngine(path, facts.st_size, facts.st_mtime, manifest, problem)

    @contextlib.contextmanager
    def _locked(self, path: Path, on_wait: Callable[[], None] | None) -> Iterator[None]:
        # The system lets go of the lock when its process ends, however it ends.
        with _lock_of(path).open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgedet" / "engines"
