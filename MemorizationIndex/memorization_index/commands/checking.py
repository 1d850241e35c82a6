"""The commands that check and vouch: ``verify`` and ``sign``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorization_index.commands.options import DIFFERS, DONE, WRONG_USE
from memorization_index.errors import MemorizationIndexError
from memorization_index.progress import JsonProgress, Progress
from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.recheck import Recheck

#: What cannot be had again without the training images.
_NOT_HAD = "classes, matches and NCC"
#: Of these a result has one at least; a folder without any is none.
_PARTS = ("run.json", "slices.csv", "volumes.csv")
#: So many things of a kind that do not hold are told; --json tells all.
_TOLD = 20


def add_verify(commands: Any) -> None:
    """Define ``verify``."""
    verify = commands.add_parser(
        "verify", help="check the files of a reference, its signature, and whether a result can be had again"
    )
    verify.add_argument("reference", metavar="REF", type=Path, help="folder of the reference, which 'build' wrote")
    verify.add_argument("--result", metavar="DIR", type=Path, help="score this result's images again and compare")
    verify.add_argument("--volume", metavar="V", help="compare this image of the result alone")
    verify.add_argument("--queries", metavar="PATH", nargs="+", default=[], help="where the result's images are now")
    verify.add_argument("--public-key", metavar="FILE", type=Path, help="insist on signatures with this key")
    verify.add_argument(
        "--result-public-key",
        metavar="FILE",
        type=Path,
        help="insist on a result that is signed with this key (default: that of --public-key)",
    )
    verify.add_argument("--training-root", metavar="DIR", type=Path, help="as in score")
    verify.add_argument("--key", metavar="FILE", type=Path, help="as in score")
    verify.add_argument(
        "--result-key",
        metavar="FILE",
        type=Path,
        help="key of a result under pseudonyms, where it is another (RESULT.key)",
    )
    verify.add_argument("--weights", metavar="FILE", type=Path, help="as in score")
    verify.add_argument("--device", default="auto", help="as in score")
    verify.add_argument("--json", action="store_true", help="JSON lines on standard output, for programs")
    verify.set_defaults(run=_verify)


def add_sign(commands: Any) -> None:
    """Define ``sign``."""
    sign = commands.add_parser("sign", help="sign the files of a reference or a result (Ed25519)")
    sign.add_argument("folder", metavar="DIR", type=Path, help="folder of a reference or a result")
    sign.add_argument("--signing-key", metavar="FILE", type=Path, required=True, help="private key, PEM; stays home")
    sign.add_argument("--make-key", action="store_true", help="make the key first: FILE, and FILE.pub to give away")
    sign.set_defaults(run=_sign)


def _verify(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.bundle import check_files, fingerprint_of, read_manifest

    if options.result is not None and not any((options.result / name).is_file() for name in _PARTS):
        raise MemorizationIndexError(
            f"--result {options.result}: is no result; expected the folder that 'memorization-index score' wrote, so "
            f"check the path."
        )
    manifest = read_manifest(options.reference)
    if problems := check_files(options.reference, manifest):
        _tell([("file", said) for said in problems], progress)
        return WRONG_USE
    count, fingerprint = len(manifest["files"]), fingerprint_of(manifest)
    _say(f"{options.reference}: {count} files agree with the manifest; fingerprint {fingerprint}", progress)
    if _has_bad_signature(options.reference, options.public_key, progress):
        return DIFFERS
    if options.result is None:
        if isinstance(progress, JsonProgress):
            progress.event("done", command="verify", holds=True)
        return DONE
    if _has_bad_signature(options.result, options.result_public_key or options.public_key, progress):
        progress.warning(_not_scored_again(options))
        return DIFFERS
    return _recheck(options, progress)


def _not_scored_again(options: argparse.Namespace) -> str:
    said = f"{options.result}: was not scored again, because of its signature"
    if options.public_key is None or options.result_public_key is not None:
        return f"{said}."
    return (
        f"{said}; where somebody else signed the result, name that key with --result-public-key; where nobody did, "
        f"leave --public-key out and check the reference by itself."
    )


def _has_bad_signature(folder: Path, public_key: Path | None, progress: Progress) -> bool:
    from memorization_index.bundle import SIGNATURE

    if public_key is None and not (folder / SIGNATURE).exists():
        _say(f"{folder}: is not signed: whoever can write to it can also rewrite the checksums in it", progress)
        return False
    from memorization_index.signing import check_signature

    said, problems = check_signature(folder, public_key)
    _tell([("signature", problem) for problem in problems], progress)
    if not problems:
        whose = "the one you gave" if public_key else "but by whom was not checked: give --public-key FILE"
        _say(f"{said}, {whose}", progress)
    return bool(problems)


def _recheck(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.recheck import recheck
    from memorization_index.reference import Reference
    from memorization_index.scoring import Options, check_root

    where = Options(options.training_root, options.weights, options.device, None, options.key)
    reference = Reference.open(options.reference)
    check_root(reference, where)
    found: Recheck = recheck(
        reference, options.result, options.queries, options.volume, where, progress, options.result_key
    )
    progress.close()
    if found.unchecked:
        progress.warning(found.reason)
        progress.warning(
            f"{_NOT_HAD} of {counted(found.unchecked, 'slice')} were not checked: the training images of the reference "
            f"are not {_where(options.training_root)} (and the reference's --key where it is pseudonymized)."
        )
    _tell(found.problems, progress)
    if isinstance(progress, JsonProgress):
        progress.event(
            "done",
            command="verify",
            holds=not found.problems,
            problems=Counter(kind for kind, _ in found.problems),
            volumes=found.volumes,
            slices=found.slices,
            unchecked=found.unchecked,
            unclassed=found.unclassed,
            largest=found.largest,
        )
    else:
        print(_summary(found, options.result, options.volume))
    return DIFFERS if found.problems else DONE


def _where(training_root: Path | None) -> str:
    """Where training images were looked for in vain, and what is to be given then."""
    return "here; give --training-root" if training_root is None else f"all in {training_root}; name another folder"


def _summary(found: Recheck, result: Path, volume: str | None) -> str:
    largest = ", ".join(f"{column} {value:.6f}" for column, value in found.largest.items())
    compared = f"{counted(found.volumes, 'volume')}, {counted(found.slices, 'slice')} scored again"
    return f"{result}: {compared}; largest differences: {largest or 'none'}; {_conclusion(found, volume)}."


def _conclusion(found: Recheck, volume: str | None) -> str:
    if found.problems:
        kinds = Counter(kind for kind, _ in found.problems)
        count = len(found.problems)
        by_kind = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
        return f"by kind: {by_kind}; {count} {'does' if count == 1 else 'do'} not hold"
    what = "the result holds" if volume is None else f"volume {volume} holds"
    if found.unchecked:
        what = f"what could be checked{'' if volume is None else f' of volume {volume}'} holds; {_NOT_HAD} of "
        what += f"{counted(found.unchecked, 'slice')} were not checked"
    if found.unclassed:
        what += (
            f"; without a class in the result: {counted(found.unclassed, 'slice')}, not compared with training scans"
        )
    return what if volume is None else f"{what} (1 of {found.whole}; its verdict is checked only with all)"


def _sign(options: argparse.Namespace, progress: Progress) -> int:
    from memorization_index.signing import make_signing_key, sign

    if options.make_key:
        make_signing_key(options.signing_key)
    print(f"Signature: {sign(options.folder, options.signing_key).absolute()}")
    print(f"Private key, which stays home: {options.signing_key.absolute()}")
    public = options.signing_key.with_name(f"{options.signing_key.name}.pub")
    if public.is_file():
        print(f"Public key, to give away: {public.absolute()}")
    return DONE


def _say(text: str, progress: Progress) -> None:
    if isinstance(progress, JsonProgress):
        progress.event("checked", message=text)
    else:
        print(text)


def _tell(problems: Sequence[tuple[str, str]], progress: Progress) -> None:
    """Tell what does not hold, the first of each kind; programs are told all."""
    kinds = dict.fromkeys(kind for kind, _ in problems)
    for kind in kinds:
        own = [said for one, said in problems if one == kind]
        if isinstance(progress, JsonProgress):
            for said in own:
                progress.event("problem", kind=kind, message=said)
            continue
        for said in own[:_TOLD]:
            print(said, file=sys.stderr)
        if len(own) > _TOLD:
            print(f"… and {len(own) - _TOLD} more of this kind ({kind})", file=sys.stderr)
