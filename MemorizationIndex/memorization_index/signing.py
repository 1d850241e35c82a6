"""Sign a reference or a result (Ed25519), and check who signed it. Needs the extra ``sign``."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.bundle import LEFT_BY_SYSTEMS, SIGNATURE, is_reference, is_result, sha256_of
from memorization_index.errors import MemorizationIndexError, install
from memorization_index.provenance import timestamp
from memorization_index.pseudonyms import write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: What is signed begins with this, so that a signature of something else is never taken for one of these.
_CONTEXT = b"memorization-index signature 1\n"


def make_signing_key(path: Path) -> None:
    """Write a new private key to ``path`` (PEM, for its owner alone) and the public one to ``path.pub``."""
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if path.exists():
        raise MemorizationIndexError(f"{path}: exists already; expected a new file for the key, so choose another.")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, private.decode("ascii"))
    path.with_name(f"{path.name}.pub").write_bytes(public)


def sign(folder: Path, key_file: Path) -> Path:
    """Sign every file in a folder as it is now; returns the signature's file, ``signature.json`` in the folder.

    Raises :class:`MemorizationIndexError` where the folder is neither a reference nor a result, and where the key is
    none, or lies in the folder.
    """
    if not (is_reference(folder) or is_result(folder)):
        raise MemorizationIndexError(
            f"{folder}: is neither a reference nor a result; expected a folder that 'build' or 'score' wrote."
        )
    if key_file.resolve().is_relative_to(folder.resolve()):
        raise MemorizationIndexError(f"{key_file}: lies in {folder}, which may be given away; keep the key elsewhere.")
    key = _private_key(key_file)
    statement = {"files": _sums(folder), "signed": timestamp()}
    document = {
        **statement,
        "algorithm": "Ed25519",
        "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii"),
        "signature": base64.b64encode(key.sign(_message(statement))).decode("ascii"),
    }
    path, beside = folder / SIGNATURE, folder / f".{SIGNATURE}.{os.getpid()}"
    beside.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
    os.replace(beside, path)
    return path


def check_signature(folder: Path, public_key: Path | None = None) -> tuple[str, list[str]]:
    """Who signed a folder (a sentence), and one sentence for everything that is not as it was signed.

    With ``public_key`` the signature must be that key's; without, it only shows that nothing changed since *somebody*
    signed. An unsigned folder is a problem only where a key is given.
    """
    path, expected = folder / SIGNATURE, _public_key(public_key) if public_key else None
    if not path.is_file():
        return f"{folder}: is not signed", [f"{folder}: is not signed."] if public_key else []
    _require()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        statement = {"files": files, "signed": str(document["signed"])}
        raw = base64.b64decode(document["public_key"], validate=True)
        key = Ed25519PublicKey.from_public_bytes(raw)
        signature = base64.b64decode(document["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{path}: cannot be read", [f"{path}: is no signature ({error}); expected what 'sign' wrote."]
    try:
        key.verify(signature, _message(statement))
    except InvalidSignature:
        return f"{path}: is not valid", [f"{path}: is not a valid signature; it was changed after signing."]
    problems = []
    if expected is not None and expected.public_bytes_raw() != raw:
        problems.append(f"{path}: was not signed with the key {public_key}.")
    problems += _differences(folder, files)
    return f"{folder}: signed {statement['signed']} with the key {document['public_key']}", problems


def _differences(folder: Path, signed: dict[str, str]) -> list[str]:
    now = _sums(folder)
    problems = [
        f"{folder / name}: {'was changed after signing' if name in now else 'is missing, but was signed'}."
        for name in signed
        if now.get(name) != signed[name]
    ]
    return problems + [f"{folder / name}: was added after signing." for name in now if name not in signed]


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, but of the signature and of what operating systems leave."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in LEFT_BY_SYSTEMS)
    names = {path.relative_to(folder).as_posix(): path for path in files}
    names.pop(SIGNATURE, None)
    return {name: sha256_of(path) for name, path in names.items()}


def _message(statement: dict[str, Any]) -> bytes:
    return _CONTEXT + json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MemorizationIndexError(
            f"Signatures need the package cryptography; expected it installed, {install('sign')}."
        ) from error


def _content(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MemorizationIndexError(
            f"{path}: cannot be read ({error.strerror}); expected {expected}, so check the path."
        ) from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if os.name == "posix" and path.is_file() and path.stat().st_mode & 0o077:
        raise MemorizationIndexError(
            f"{path}: can be read by others; expected a key for its owner alone, so run: chmod 600 {path}"
        )
    content = _content(path, "a private key, which --make-key makes")
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise MemorizationIndexError(
            f"{path}: is no private key that can be read; expected an unencrypted Ed25519 key in PEM, as --make-key "
            f"makes one."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise MemorizationIndexError(
            f"{path}: is a key of another kind; expected Ed25519, so make one with --make-key."
        )
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    _require()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path, "the public key (FILE.pub) that 'sign --make-key' wrote")
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise MemorizationIndexError(
            f"{path}: is no public key; expected the file FILE.pub that 'sign --make-key' wrote beside the private key."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise MemorizationIndexError(f"{path}: is a key of another kind; expected Ed25519.")
    return key
