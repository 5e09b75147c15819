"""Ed25519 keys and signatures of engine manifests (RFC 8032), through the package cryptography.

A private key is a PKCS#8 PEM file that only its owner can read, encrypted where a passphrase is given; a public key is
a PEM file too. Keys are told apart by the first 16 hexadecimal digits of the SHA-256 of the raw public key.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet.engine_store.manifest import EngineManifest, Signature
from edgedet.errors import EngineError, SinkError
from edgedet.optional import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["PublicKey", "fingerprint", "generate", "is_encrypted", "read_private_key", "sign"]

_DOMAIN = b"edgedet engine manifest 1\n"
"""Stands before what is signed, so that no signature of anything else can be passed off as one of a manifest."""


@dataclass(frozen=True, eq=False)
class PublicKey:
    """A public key that verifies manifests.

    Attributes:
        key: the package's object.
    """

    key: Ed25519PublicKey

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a PEM file.

        Raises:
            EngineError: if it is no Ed25519 public key.
            MissingDependencyError: if cryptography is not installed.
        """
        serialization, ed25519, _ = _cryptography()
        data = _read(path)
        try:
            key = serialization.load_pem_public_key(data)
        except Exception as error:  # whatever it raises for bytes that are no key
            private = b"PRIVATE KEY" in data
            raise EngineError(
                "an Ed25519 public key (PEM)",
                f"'{path}', which is a private key" if private else f"'{path}': {error}",
                "Pass the .pub.pem file that edgedet keygen wrote",
            ) from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise EngineError(
                "an Ed25519 public key", f"'{path}' with another kind of key", "Make one with: edgedet keygen"
            )
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the raw key's SHA-256."""
        return fingerprint(self.key)

    def verifies(self, manifest: EngineManifest, signature: Signature) -> bool:
        """Tell whether a signature of a manifest was made with the private half of this key."""
        _, _, exceptions = _cryptography()
        try:
            self.key.verify(bytes.fromhex(signature.value), _DOMAIN + manifest.canonical())
        except (exceptions.InvalidSignature, ValueError):
            return False
        return True


def generate(private: Path, public: Path, passphrase: bytes | None = None) -> str:
    """Make a pair of keys and write both; neither file may exist already.

    Returns:
        The fingerprint.

    Raises:
        SinkError: if a file exists or cannot be written; then neither is left.
        MissingDependencyError: if cryptography is not installed.
    """
    serialization, ed25519, _ = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    shown = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(private, secret, 0o600)
    try:
        _write_new(public, shown, 0o644)
    except SinkError:
        private.unlink(missing_ok=True)
        raise
    return fingerprint(key.public_key())


def read_private_key(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        EngineError: if it is none, is encrypted and the passphrase is wrong or missing, or others can read the file.
        MissingDependencyError: if cryptography is not installed.
    """
    serialization, ed25519, _ = _cryptography()
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise EngineError(
            "a private key that only its owner can read", f"'{path}', open to others", f"Run: chmod 600 '{path}'"
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except Exception as error:  # whatever it raises for bytes that are no key, or a wrong passphrase
        raise EngineError(
            "an Ed25519 private key (PEM)",
            f"'{path}': {error}",
            "Make one with: edgedet keygen, or correct the passphrase",
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise EngineError("an Ed25519 private key", f"'{path}' with another kind", "Make one with: edgedet keygen")
    checked: Ed25519PrivateKey = key
    return checked


def is_encrypted(path: Path) -> bool:
    """Tell whether a private key asks for a passphrase."""
    return b"ENCRYPTED PRIVATE KEY" in _read(path)


def sign(manifest: EngineManifest, key: Ed25519PrivateKey) -> Signature:
    """Return the signature of a manifest."""
    value = key.sign(_DOMAIN + manifest.canonical())
    return Signature(fingerprint(key.public_key()), value.hex())


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the first 16 hexadecimal digits of the raw key's SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _cryptography() -> tuple[Any, Any, Any]:
    wanted = {"extra": "sign", "purpose": "signing and verifying engines"}
    base = "cryptography.hazmat.primitives"
    return (
        require(f"{base}.serialization", **wanted),
        require(f"{base}.asymmetric.ed25519", **wanted),
        require("cryptography.exceptions", **wanted),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"a key in '{path}'", error.strerror or str(error), "Check the path") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            path.unlink(missing_ok=True)
        raise SinkError(
            f"to write a new key to '{path}'", error.strerror or str(error), "Choose another place with -o"
        ) from error
