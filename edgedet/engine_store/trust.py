"""Whom to trust with an engine, and the one way to read one: verified bytes, or an error.

With a public key, only what is signed with its private half is read. Without, only what this user built on this
machine: the manifest carries an HMAC-SHA-256 (RFC 2104) under a secret that is made once for each user and never leaves
the machine. Everything else is refused before TensorRT sees a byte of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet.atomic_file import atomic_file
from edgedet.engine_store.manifest import (
    EngineManifest,
    Seals,
    read_sidecar,
    sha256,
    sidecar_of,
    sidecar_text,
)
from edgedet.engine_store.signature import PublicKey, sign
from edgedet.errors import EngineError, UntrustedFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KEY_VARIABLE", "Trust", "VerifiedEngine", "check_private", "read_engine", "write_engine"]

KEY_VARIABLE = "EDGEDET_ENGINE_KEY"
"""Environment variable with the path of a public key: every engine must then be signed, whatever the program passes."""

_SECRET_BYTES = 32


@dataclass(frozen=True, eq=False)
class Trust:
    """Whom to trust.

    Attributes:
        key: what every engine must be signed with; what this user built is trusted where None.
        state: folder of the user's secret; the user's own where None.
    """

    key: PublicKey | None = None
    state: Path | None = None

    @classmethod
    def from_environment(cls, key: Path | None = None, state: Path | None = None) -> Trust:
        """Return the trust in a key file, else in that of the environment variable, else in the user.

        Raises:
            EngineError: if the file is no public key.
        """
        named = os.environ.get(KEY_VARIABLE)
        path = key or (Path(named) if named else None)
        return cls(PublicKey.read(path) if path is not None else None, state)

    def check(self, engine: Path, manifest: EngineManifest, seals: Seals) -> None:
        """Hold a manifest's seals against whom to trust.

        Raises:
            UntrustedFileError: if they do not vouch for it.
        """
        if self.key is None:
            self._check_own(engine, manifest, seals)
            return
        if seals.signature is None:
            raise UntrustedFileError(
                f"an engine signed with key {self.key.fingerprint}",
                f"'{engine}' without a signature",
                "Sign it where it is built: edgedet build MODEL.onnx --sign KEY",
            )
        if not self.key.verifies(manifest, seals.signature):
            other = seals.signature.key != self.key.fingerprint
            raise UntrustedFileError(
                f"an engine signed with key {self.key.fingerprint}",
                f"'{engine}', signed with {seals.signature.key}"
                if other
                else f"'{engine}', whose manifest was changed after it was signed",
                "Get the engine again from whoever signed it" + (", or pass their key with --key" if other else ""),
            )

    def seal(self, manifest: EngineManifest) -> str:
        """Return the code that says this user built it; the secret is made where there is none."""
        return _code(_secret(self._folder(), create=True), manifest)

    def _check_own(self, engine: Path, manifest: EngineManifest, seals: Seals) -> None:
        secret = _secret(self._folder(), create=False)
        if not seals.own or not secret or not hmac.compare_digest(seals.own.encode(), _code(secret, manifest).encode()):
            raise UntrustedFileError(
                "an engine that this user built on this machine",
                f"'{engine}', which someone else built, or which was changed since",
                "Pass --key with the public key of whoever signed it, or build it here with: edgedet build MODEL.onnx",
            )

    def _folder(self) -> Path:
        if self.state is not None:
            return self.state
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edgedet"


@dataclass(frozen=True, eq=False)
class VerifiedEngine:
    """An engine that may be deserialised: exactly these bytes, and what they were built from, by and for."""

    plan: bytes
    manifest: EngineManifest


def read_engine(engine: Path, trust: Trust) -> VerifiedEngine:
    """Read an engine and its manifest, and verify both.

    Raises:
        EngineError: if either cannot be read, or the plan is not the one that the manifest names.
        UntrustedFileError: if nobody who is trusted vouches for it.
    """
    manifest, seals = read_sidecar(engine)
    trust.check(engine, manifest, seals)
    try:
        plan = engine.read_bytes()
    except OSError as error:
        raise EngineError(f"to read '{engine}'", error.strerror or str(error), "Check the path") from error
    if len(plan) != manifest.plan_bytes or not hmac.compare_digest(sha256(plan), manifest.plan_sha256):
        what = "truncated" if len(plan) < manifest.plan_bytes else "changed"
        raise EngineError(
            f"the engine of {manifest.plan_bytes} bytes that '{sidecar_of(engine)}' describes",
            f"'{engine}', {what} since ({len(plan)} bytes)",
            "Copy both files again, or build the engine with: edgedet build MODEL.onnx",
        )
    return VerifiedEngine(plan, manifest)


def write_engine(
    engine: Path, plan: bytes, manifest: EngineManifest, trust: Trust, key: Ed25519PrivateKey | None = None
) -> None:
    """Write an engine and its manifest, sealed as this user's, and signed where there is a private key.

    Raises:
        EngineError: if the manifest is not the plan's.
        SinkError: if there is no room; what was there before is then unchanged, or is refused by its hash.
    """
    if sha256(plan) != manifest.plan_sha256:
        raise EngineError("the manifest of the plan", "one of another", "Report this as a fault of edgedet")
    seals = Seals(None if key is None else sign(manifest, key), trust.seal(manifest))
    # The plan first: with a manifest of another plan beside it, it is refused.
    with atomic_file(engine) as temporary:
        temporary.write_bytes(plan)
    with atomic_file(sidecar_of(engine)) as temporary:
        temporary.write_text(sidecar_text(manifest, seals), encoding="utf-8")


def check_private(folder: Path) -> None:
    """Refuse a folder that others could put files into.

    Raises:
        EngineError: if it belongs to another user, or its group or everybody may write to it.
    """
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0):
        raise EngineError(
            "a folder of this user's for engines", f"'{folder}', which is another user's", "Name one with --cache DIR"
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise EngineError(
            "a folder for engines that only its owner can write to",
            f"'{folder}' with mode {stat.S_IMODE(found.st_mode):o}",
            f"Run: chmod go-w '{folder}'",
        )


def _code(secret: bytes, manifest: EngineManifest) -> str:
    return hmac.new(secret, manifest.canonical(), hashlib.sha256).hexdigest()


def _secret(folder: Path, *, create: bool) -> bytes:
    path = folder / "engine.secret"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if not create:
            return b""
        data = _make_secret(path)
    except OSError as error:
        raise EngineError(f"to read '{path}'", error.strerror or str(error), "Check its permissions") from error
    if path.stat().st_mode & 0o077:
        raise EngineError(
            "a secret that only its owner can read",
            f"'{path}', open to others",
            f"Delete it and build again: rm '{path}'",
        )
    if len(data) != _SECRET_BYTES:
        raise EngineError(f"a secret of {_SECRET_BYTES} bytes", f"'{path}' of {len(data)}", f"Delete it: rm '{path}'")
    return data


def _make_secret(path: Path) -> bytes:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        # A link fails where the name is taken, so of two processes the first one's secret stays.
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"to write '{path}'", error.strerror or str(error), "Set XDG_STATE_HOME to a folder that can be written to"
        ) from error
