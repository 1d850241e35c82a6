"""A signature covers every file, is of one key, and is checked by verify."""

import base64
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from memorization_index.cli import main

pytest.importorskip("cryptography", reason="needs the extra 'sign'")

HOLDS, WRONG_USE, DIFFERS = 0, 2, 4


@pytest.fixture
def signed(tiny, tmp_path: Path) -> SimpleNamespace:
    """A signed reference, and the key."""
    folder = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    key = tmp_path / "keys" / "signer"
    assert main(["sign", str(folder), "--signing-key", str(key), "--make-key"]) == 0
    return SimpleNamespace(
        folder=folder, key=key, public=key.with_name("signer.pub"), signature=folder / "signature.json"
    )


def verify(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["verify", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_signed_reference_is_verified_and_used(signed: SimpleNamespace, tiny, tmp_path: Path, capsys) -> None:
    code, out, err = verify(capsys, signed.folder)
    assert (code, err) == (HOLDS, "")
    assert "signed 20" in out
    assert "by whom was not checked: give --public-key" in out
    code, out, _ = verify(capsys, signed.folder, "--public-key", signed.public)
    assert code == HOLDS
    assert "the one you gave" in out
    assert main(["score", str(signed.folder), str(tiny.training), "--out", str(tmp_path / "out")]) == 0
    if os.name == "posix":
        assert signed.key.stat().st_mode & 0o777 == 0o600


def test_openssl_agrees(signed: SimpleNamespace, tmp_path: Path) -> None:
    """Another implementation checks the same signature."""
    import subprocess

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    document = json.loads(signed.signature.read_text())
    statement = {"files": document["files"], "signed": document["signed"]}
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"))
    (tmp_path / "message").write_bytes(b"memorization-index signature 1\n" + text.encode())
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signature"]))
    command = ["pkeyutl", "-verify", "-pubin", "-inkey", signed.public, "-rawin", "-in", tmp_path / "message"]
    run = subprocess.run(
        [openssl, *map(str, command), "-sigfile", str(tmp_path / "signature")], capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_another_key_is_not_taken_for_it(signed: SimpleNamespace, tmp_path: Path, capsys) -> None:
    """Who changes a reference can sign it again, but not with the same key."""
    other = tmp_path / "keys" / "other"
    assert main(["sign", str(signed.folder), "--signing-key", str(other), "--make-key"]) == 0
    assert verify(capsys, signed.folder)[0] == HOLDS
    code, _, err = verify(capsys, signed.folder, "--public-key", signed.public)
    assert code == DIFFERS
    assert "was not signed with the key" in err


def test_unsigned_is_said_where_a_key_is_expected(signed: SimpleNamespace, tiny, capsys) -> None:
    code, out, _ = verify(capsys, tiny.reference)
    assert code == HOLDS
    assert "as they were" not in out
    assert "is not signed: whoever can write to it can also rewrite the checksums in it" in out
    code, _, err = verify(capsys, tiny.reference, "--public-key", signed.public)
    assert code == DIFFERS
    assert "is not signed" in err


def test_a_public_key_that_is_not_there_is_named(signed: SimpleNamespace, tiny, tmp_path: Path, capsys) -> None:
    for folder in (signed.folder, tiny.reference):
        code, _, err = verify(capsys, folder, "--public-key", tmp_path / "no.pub")
        assert code == WRONG_USE
        assert f"{tmp_path / 'no.pub'}: cannot be read" in err
        assert err.count("expected") == 1


@pytest.mark.parametrize("part", ["signature", "signed", "files", "public_key"])
def test_changed_signatures_are_noticed(signed: SimpleNamespace, capsys, part: str) -> None:
    document = json.loads(signed.signature.read_text())
    if part == "files":
        document["files"]["manifest.json"] = "0" * 64
    elif part == "signed":
        document["signed"] = "1999-01-01T00:00:00+00:00"
    else:
        raw = bytearray(base64.b64decode(document[part]))
        raw[5] ^= 1
        document[part] = base64.b64encode(raw).decode()
    signed.signature.write_text(json.dumps(document))
    code, _, err = verify(capsys, signed.folder)
    assert code == DIFFERS
    assert "signature" in err


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": 3}', b"\xff"])
def test_what_is_no_signature_is_said(signed: SimpleNamespace, capsys, content: bytes) -> None:
    signed.signature.write_bytes(content)
    code, _, err = verify(capsys, signed.folder)
    assert code == DIFFERS
    assert "is no signature" in err


def test_result_is_signed_with_all_its_files(signed: SimpleNamespace, tiny, tmp_path: Path, capsys) -> None:
    result = tmp_path / "result"
    assert main(["score", str(signed.folder), str(tiny.training), "--out", str(result)]) == 0
    assert main(["sign", str(result), "--signing-key", str(signed.key)]) == 0
    arguments = (signed.folder, "--result", result, "--queries", tiny.training, "--public-key", signed.public)
    assert verify(capsys, *arguments)[0] == HOLDS
    files = [p for p in sorted(result.rglob("*")) if p.is_file() and p.name != "signature.json"]
    assert {"slices.csv", "report.html", "0000.nrrd"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        code, _, err = verify(capsys, *arguments)
        assert code == DIFFERS
        assert f"{path}: was changed after signing" in err
        path.unlink()
        code, _, err = verify(capsys, *arguments)
        assert code == DIFFERS
        assert f"{path}: is missing, but was signed" in err
        path.write_bytes(content)
    (result / "decisions.csv").write_text("volume,slice,decision\n")
    code, _, err = verify(capsys, *arguments)
    assert code == DIFFERS
    assert "decisions.csv: was added after signing" in err


def test_result_may_be_signed_with_another_key_or_not_at_all(
    signed: SimpleNamespace, tiny, tmp_path: Path, capsys
) -> None:
    """The reference is its owner's; the result is of whoever scored."""
    result, scorer = tmp_path / "result", tmp_path / "keys" / "scorer"
    assert main(["score", str(signed.folder), str(tiny.training), "--out", str(result)]) == 0
    queries = (signed.folder, "--result", result, "--queries", tiny.training)
    code, out, err = verify(capsys, *queries, "--public-key", signed.public)
    assert code == DIFFERS
    assert f"{result}: is not signed." in err
    assert f"{result}: was not scored again" in err
    assert "--result-public-key; where nobody did, leave --public-key out" in err
    assert "scored again;" not in out

    assert main(["sign", str(result), "--signing-key", str(scorer), "--make-key"]) == 0
    assert verify(capsys, *queries, "--public-key", signed.public)[0] == DIFFERS
    both = ("--public-key", signed.public, "--result-public-key")
    code, out, err = verify(capsys, *queries, *both, scorer.with_name("scorer.pub"))
    assert code == HOLDS, err
    assert out.count("the one you gave") == 2
    code, _, err = verify(capsys, *queries, *both, signed.public)
    assert code == DIFFERS
    assert "was not signed with the key" in err
    assert "--result-public-key" not in err


def test_keys_that_cannot_be_used_are_refused(signed: SimpleNamespace, tmp_path: Path, capsys) -> None:
    (tmp_path / "none").write_text("no key")
    shutil.copy2(signed.key, tmp_path / "open")
    (tmp_path / "none").chmod(0o600)
    (tmp_path / "open").chmod(0o644)
    inside = Path(shutil.copy2(signed.key, signed.folder / "key"))
    cases = [
        (tmp_path / "none", "is no private key"),
        (inside, "may be given away"),
        (tmp_path / "gone", "cannot be read"),
    ]
    if os.name == "posix":
        cases.append((tmp_path / "open", "chmod 600"))
    for path, said in cases:
        capsys.readouterr()
        assert main(["sign", str(signed.folder), "--signing-key", str(path)]) == WRONG_USE
        assert said in capsys.readouterr().err
    assert main(["sign", str(signed.folder), "--signing-key", str(signed.key), "--make-key"]) == WRONG_USE
    assert "exists already" in capsys.readouterr().err


def test_what_is_no_folder_of_files_is_refused(signed: SimpleNamespace, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["sign", str(tmp_path / "empty"), "--signing-key", str(signed.key)]) == WRONG_USE
    assert "is neither a reference nor a result" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())


def test_signing_says_where_the_keys_are(signed: SimpleNamespace, capsys) -> None:
    capsys.readouterr()
    assert main(["sign", str(signed.folder), "--signing-key", str(signed.key)]) == HOLDS
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [
        str(p) for p in (signed.signature, signed.key, signed.public)
    ]


def test_another_file_as_public_key_is_said_in_plain_words(signed: SimpleNamespace, tiny, capsys) -> None:
    image = next(tiny.training.glob("*.nii.gz"))
    code, _, err = verify(capsys, signed.folder, "--public-key", image)
    assert code == WRONG_USE
    assert err.endswith(
        f"{image}: is no public key; expected the file FILE.pub that 'sign --make-key' wrote beside the private key.\n"
    )


def test_missing_public_key_is_said(signed: SimpleNamespace, tmp_path: Path, capsys) -> None:
    code, _, err = verify(capsys, signed.folder, "--public-key", tmp_path / "gone.pub")
    assert code == WRONG_USE
    assert "gone.pub: cannot be read (No such file or directory); expected the public key" in err
