"""Open a file of weights without running anything in it, or say in one sentence what the file looks like instead."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any

from memorization_index.errors import MemorizationIndexError
from memorization_index.limits import BoundedFile

#: How files of ``torch.save`` began before they were zip archives: protocol 2, a magic number, end of pickle.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_EXPECTED = "expected a PyTorch (.pth) or .safetensors file of weights"

#: What a pickle of tensors builds, as its GLOBAL instructions name it.
_BUILDERS = re.compile(
    r"collections (OrderedDict|defaultdict|Counter)|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch (\w+Storage|Size|device|float\w*|bfloat16|u?int\d+|bool|half|double|long)|torch\.serialization _get_layout|"
    r"torch\.nn\.parameter Parameter|_codecs encode|argparse Namespace"
)

#: First bytes of files that are often saved under the name of a checkpoint, and what they are.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
    (b"\x89HDF\r\n", "an HDF5 (Keras) file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF language model"),
)


def read_weights(path: Path) -> dict[str, Any]:
    """What a weights file holds: tensors by name, perhaps nested in dictionaries.

    Nothing in the file is run: ``.safetensors`` has no code, and PyTorch's files are read with ``weights_only=True``.
    Raises :class:`MemorizationIndexError` in a sentence that says what the file looks like.
    """
    head = _head(path)
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            raise _wrong(path, f"looks like {what}")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        raise _wrong(path, "looks like a web page (HTML), as a download that needs a login or a confirmation leaves")
    if _is_safetensors(head):
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
    elif head.startswith(b"\x80") and not head.startswith(_OLD_TORCH):
        raise _wrong(path, "looks like a Python pickle that PyTorch did not write, so nothing in it was run")
    elif not head.startswith(_OLD_TORCH):
        kind = "a text file" if _is_text(head) else "a file of no known format"
        raise _wrong(path, f"looks like {kind} (it begins with {head[:16]!r})")
    else:
        _check_old(path)
    return _read_torch(path)


def _wrong(path: Path, looks: str) -> MemorizationIndexError:
    return MemorizationIndexError(f"{path}: {looks}; {_EXPECTED}, so download it again or name another file.")


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise MemorizationIndexError(
            f"{path}: is a folder; {_EXPECTED} (a Hugging Face model folder is given as the encoder hf:{path})."
        )
    if not path.is_file():
        raise MemorizationIndexError(f"{path}: is not there; {_EXPECTED}, so check the name.")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise MemorizationIndexError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}.") from error
    if not head:
        raise _wrong(path, "is empty, as a download that was stopped leaves it")
    return head


def _is_text(head: bytes) -> bool:
    try:
        return head.decode("utf-8", "strict").isprintable() or (head.isascii() and b"\0" not in head)
    except UnicodeDecodeError:
        return False


def _is_safetensors(head: bytes) -> bool:
    """Whether the file begins with the length of a header and the header's brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _wrong(path, f"looks like a .safetensors file that was cut short or damaged ({error})") from error


def _check_archive(path: Path) -> None:
    """A PyTorch file is a zip archive with one pickle ``data.pkl``; its table of contents is at its end."""
    try:
        with zipfile.ZipFile(path) as archive:
            members, names = archive.infolist(), archive.namelist()
            contents = [archive.read(m) for m in members if m.filename.endswith("/data.pkl") and _is_plain(m)]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _wrong(path, f"looks like a PyTorch file that was cut short ({path.stat().st_size} bytes)") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise _wrong(path, "looks like a TorchScript program")
    if not any(name.endswith("/data.pkl") for name in names):
        shown = ", ".join(names[:3]) or "nothing"
        raise _wrong(path, f"looks like a zip archive of other files ({shown})")
    # PyTorch stores its members as they are; compressed ones could hold any number of zeros.
    if not all(map(_is_plain, members)) or len(set(names)) < len(names):
        raise _wrong(path, "looks like an archive that PyTorch did not write (compressed or doubled members)")
    for content in contents:
        _check_builders(path, io.BytesIO(content))


def _is_plain(member: zipfile.ZipInfo) -> bool:
    return member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size


def _check_old(path: Path) -> None:
    """Files before PyTorch 1.6: five pickles, then the tensors, whose sizes are numbers in the pickles."""
    with BoundedFile(path) as stream:
        stream.seek(len(_OLD_TORCH))
        for _ in range(4):
            largest = _check_builders(path, stream)
            if largest > max(path.stat().st_size, 1 << 20):
                raise _wrong(path, f"looks like a PyTorch file that was cut short (it claims {largest:.0f} values)")


def _check_builders(path: Path, stream: IO[bytes]) -> float:
    """Refuse a pickle that builds anything but tensors, before PyTorch reads it; the largest number in it.

    PyTorch also lets through what allocates as much as a file says (bytearray, Tensor). Nothing is run here.
    """
    largest = 0.0
    try:
        for code, value, _ in pickletools.genops(stream):
            if code.name == "GLOBAL" and not _BUILDERS.fullmatch(str(value)):
                raise _asks(path, str(value).replace(" ", "."))
            if isinstance(value, int) and not code.name.startswith(("PUT", "GET", "BINPUT", "BINGET", "LONG_BIN")):
                largest = max(largest, float(min(value, 2**62)))
    except MemorizationIndexError:
        raise
    except Exception as error:  # not a pickle
        raise _wrong(path, f"looks like a PyTorch file that was cut short or damaged ({str(error)[:160]})") from error
    return largest


def _asks(path: Path, what: str) -> MemorizationIndexError:
    return MemorizationIndexError(
        f"{path}: asks to run or build {what[:100]!r}, which weights do not need, so nothing in it was run; "
        f"{_EXPECTED} that holds tensors alone: if you trust where it is from, save its tensors again with torch.save "
        "or safetensors."
    )


def _read_torch(path: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can end the reader in any way
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise _wrong(path, f"holds a {type(content).__name__} instead of tensors by name")
    return content


def _unreadable(path: Path, error: Exception) -> MemorizationIndexError:
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return _asks(path, found[1])
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return _wrong(path, f"looks like a PyTorch file that was cut short or damaged ({first_line})")
