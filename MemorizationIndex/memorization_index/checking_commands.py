"""The commands that check and vouch: ``verify`` and ``sign``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.progress import Progress
    from memorization_index.recheck import Recheck

#: Exit codes: as it should be; a file was changed; a result does not hold or a signature is not the one expected.
_HOLDS, _CHANGED, DIFFERS = 0, 2, 4


def add_verify(commands: Any) -> None:
    """Define ``verify``."""
    verify = commands.add_parser(
        "verify", help="check the files of a reference, its signature, and whether a result can be had again"
    )
    verify.add_argument("reference", metavar="REF", type=Path)
    verify.add_argument("--result", metavar="DIR", type=Path, help="score this result's images again and compare")
    verify.add_argument("--volume", metavar="V", help="compare this image of the result alone")
    verify.add_argument("--queries", metavar="PATH", nargs="+", default=[], help="where the result's images are now")
    verify.add_argument("--public-key", metavar="FILE", type=Path, help="insist on signatures with this key")
    verify.add_argument("--training-root", metavar="DIR", type=Path, help="as in score")
    verify.add_argument("--key", metavar="FILE", type=Path, help="as in score")
    verify.add_argument("--weights", metavar="FILE", type=Path, help="as in score")
    verify.add_argument("--device", default="auto", help="as in score")
    verify.set_defaults(run=_verify)


def add_sign(commands: Any) -> None:
    """Define ``sign``."""
    sign = commands.add_parser("sign", help="sign the files of a reference or a result (Ed25519)")
    sign.add_argument("folder", metavar="DIR", type=Path)
    sign.add_argument("--signing-key", metavar="FILE", type=Path, required=True, help="private key, PEM; stays home")
    sign.add_argument("--make-key", action="store_true", help="make the key first: FILE, and FILE.pub to give away")
    sign.set_defaults(run=_sign)


def _verify(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.bundle import check_files, fingerprint_of, read_manifest

    manifest = read_manifest(options.reference)
    if problems := check_files(options.reference, manifest):
        _tell(problems)
        return _CHANGED
    print(f"{options.reference}: {len(manifest['files'])} files are as they were built; {fingerprint_of(manifest)}")
    folders = [options.reference] if options.result is None else [options.reference, options.result]
    bad = [folder for folder in folders if _has_bad_signature(folder, options.public_key)]
    if bad:
        return DIFFERS
    return _HOLDS if options.result is None else _recheck(options, progress)


def _has_bad_signature(folder: Path, public_key: Path | None) -> bool:
    from memorization_index.bundle import SIGNATURE

    if public_key is None and not (folder / SIGNATURE).exists():
        return False
    from memorization_index.signing import check_signature

    said, problems = check_signature(folder, public_key)
    _tell(problems)
    if not problems:
        print(said)
    return bool(problems)


def _recheck(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.recheck import recheck
    from memorization_index.reference import Reference
    from memorization_index.scoring import Options

    where = Options(options.training_root, options.weights, options.device, None, options.key)
    reference = Reference.open(options.reference)
    found: Recheck = recheck(reference, options.result, options.queries, options.volume, where, progress)
    progress.close()
    _tell(found.problems)
    largest = ", ".join(f"{column} {value:.6f}" for column, value in found.largest.items())
    holds = "." if found.problems else " — the result holds."
    print(
        f"{options.result}: {counted(found.volumes, 'volume')}, {counted(found.slices, 'slice')} scored again; "
        f"largest differences: {largest or 'none'}; {len(found.problems)} do not hold{holds}"
    )
    return DIFFERS if found.problems else _HOLDS


def _sign(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.signing import make_signing_key, sign

    if options.make_key:
        make_signing_key(options.signing_key)
    print(f"Signature: {sign(options.folder, options.signing_key).absolute()}")
    print(f"Private key, which stays home: {options.signing_key.absolute()}")
    public = options.signing_key.with_name(f"{options.signing_key.name}.pub")
    if public.is_file():
        print(f"Public key, to give away: {public.absolute()}")
    return _HOLDS


def _tell(problems: list[str]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
