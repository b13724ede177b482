"""Parameters in files: safetensors and npz, written whole or not at all, read with suspicion.

Both formats hold the tensors W1, b1, ... and one JSON text, ``architecture``: what the network is.
Neither holds code: nothing here pickles. Files are encoded and decoded in memory, and whatever a
hostile one declares, its length bounds what is allocated.
"""

import io
import json
import math
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]
FilePath = str | os.PathLike[str]

SUFFIXES = (".safetensors", ".npz")
# Grows with every change that older versions cannot read.
VERSION = 1
# Of the JSON text, in characters. A hundred thousand layers fit; what JSON says is bounded with it.
LONGEST = 1 << 20
# Of a zip file without a comment: the end record, 22 bytes from its signature to the end of file.
END_RECORD, END_SIGNATURE = 22, b"PK\5\6"


def write(path: FilePath, architecture: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write the file in the format that the suffix names.

    A new file takes the old one's place once all of it is on the disk: whatever happens before,
    the old one is as it was.

    Raises
    ------
    TypeError, ValueError
        For a path that is none, or has another suffix.
    ImportError
        For ``.safetensors`` without the package of that name.
    OSError
        If the file cannot be written.
    """
    path = _checked_path(path)
    text = json.dumps({"format": "fastinit", "version": VERSION, **architecture}, allow_nan=False)
    encode = _to_npz if path.endswith(".npz") else _to_safetensors
    replace_file(path, encode(text, tensors))


def read(path: FilePath) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the architecture and the tensors of a file, of whatever names, shapes and dtypes.

    Raises
    ------
    TypeError, ImportError
        As :func:`write`.
    ValueError
        For a file that is damaged, or was not written by :func:`write`.
    OSError
        If the file cannot be read.
    """
    path = _checked_path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe or a device might never end
        raise ValueError(f"path: expected a file; got something else at {path!r}")
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".npz"):
        decode, expected = _from_npz, "an .npz file"
    else:
        decode, expected = _from_safetensors, "a .safetensors file"
        _safetensors()
    try:
        text, tensors = decode(data)
        architecture = _parsed(text)
    # Parsers of a damaged file raise whatever they stumble over; the disk is not asked any more.
    except Exception as error:
        raise ValueError(
            f"path: expected {expected} as Network.save writes it; got {path!r}: {error}"
        ) from error
    return architecture, tensors


def _checked_path(path: FilePath) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path; got {type(path).__name__}")
    path = os.fspath(path)
    if os.path.splitext(path)[1] not in SUFFIXES:
        raise ValueError(f"path: expected a name in {' or '.join(SUFFIXES)}; got {path!r}")
    return path


def replace_file(path: FilePath, data: bytes) -> None:
    """Replace a file as a whole: whatever fails, the old one stays as it was.

    What is no regular file, such as a pipe or ``/dev/stdout``, is written to instead.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder, "runs.csv"), b"scheme,seed")
    ...     Path(folder, "runs.csv").read_text()
    'scheme,seed'
    """
    path = os.path.realpath(path)  # a link stays one
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    # In the same folder, for only within a file system is a replacement atomic.
    temporary = os.path.join(os.path.dirname(path), f".fastinit-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


# --- JSON -----------------------------------------------------------------------------------------


def _parsed(text: str | None) -> dict[str, Any]:
    """Return the architecture without what only files need to know."""
    if text is None:
        raise ValueError("architecture: expected JSON text; got none")
    if len(text) > LONGEST:
        raise ValueError(f"architecture: expected at most {LONGEST} characters; got {len(text)}")
    architecture = _json(text)
    if not isinstance(architecture, dict) or architecture.pop("format", None) != "fastinit":
        raise ValueError("architecture: expected a JSON object of format 'fastinit'")
    version = architecture.pop("version", None)
    if version != VERSION:
        raise ValueError(f"architecture: expected version {VERSION}; got {version!r}")
    return architecture


def _json(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("JSON: expected every key once")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"JSON: expected numbers; got {constant}")


# --- safetensors ----------------------------------------------------------------------------------
# https://huggingface.co/docs/safetensors: the length of a JSON header in 8 bytes, the header, whose
# __metadata__ maps text to text, and the numbers.


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "path: .safetensors needs a package that is not here; install it with: "
            "pip install 'fastinit-nn[files]', or choose .npz"
        ) from error
    return safetensors.numpy


def _to_safetensors(text: str, tensors: Mapping[str, Array]) -> bytes:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    encoded: bytes = _safetensors().save(contiguous, {"architecture": text})
    return encoded


def _from_safetensors(data: bytes) -> tuple[str | None, dict[str, Array]]:
    # The library checks that the tensors cover the rest of the file, exactly and once.
    tensors = _safetensors().load(data)
    # It does not hand out the metadata of bytes, and takes the last of two tensors of one name.
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {}).get("architecture"), tensors


# --- npz ------------------------------------------------------------------------------------------
# https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html: a zip file of npy files.


def _to_npz(text: str, tensors: Mapping[str, Array]) -> bytes:
    arrays: dict[str, Any] = {"architecture": np.array(text), **tensors}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _from_npz(data: bytes) -> tuple[str | None, dict[str, Array]]:
    import zipfile  # here, for it is slow to import

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in members):
            raise ValueError("expected uncompressed members")
        if sum(info.file_size for info in members) > len(data):
            raise ValueError("expected members no longer than the file")
        starts = any(info.header_offset == 0 for info in members)
        if not starts or data[-END_RECORD:][: len(END_SIGNATURE)] != END_SIGNATURE:
            raise ValueError("expected nothing before or after the members")
        arrays = {
            info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in members
        }
    if len(arrays) < len(members):
        raise ValueError("expected every name once")
    text = arrays.pop("architecture", None)
    return None if text is None else str(text[()]), arrays


def _array(data: bytes) -> Array:
    """Return the array of an npy file: text or real numbers, as many as there are bytes for.

    ``numpy.load`` would allocate what the header declares before it looks for the bytes.
    """
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("expected npy format 1.0, as small headers have")
    shape, in_fortran_order, dtype = npy.read_array_header_1_0(file)
    if dtype.kind not in "fU":
        raise ValueError(f"expected text or real numbers; got dtype {dtype}")
    declared, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if declared != found:
        raise ValueError(f"expected {declared} bytes for {dtype} of shape {shape}; got {found}")
    array: Array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if in_fortran_order else "C")
