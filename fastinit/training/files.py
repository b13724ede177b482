"""Reading and writing of networks as safetensors and npz files.

Both formats hold the tensors W1, b1, ... and one JSON text, ``architecture``, which describes the
network. Pickle is not used, so that no file can contain code. Files are written atomically. They
are decoded in memory, and the memory that is allocated is bounded by the length of the file,
whatever its headers declare.
"""

import hashlib
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
# Incremented by every change that older versions cannot read.
VERSION = 1
# Largest length of the JSON text, in characters: enough for 100,000 layers. It also bounds the size
# of the parsed objects.
MAX_JSON_LENGTH = 1 << 20
# Length and signature of the end record of a zip file without a comment, the last bytes of the
# file.
END_RECORD, END_SIGNATURE = 22, b"PK\5\6"


def write(path: FilePath, architecture: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a network to a file, in the format that the suffix selects.

    The file is replaced atomically: if anything fails, an existing file remains unchanged.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` or ``.npz``.
    architecture : mapping
        Description of the network; JSON types only.
    tensors : mapping of str to ndarray
        The parameters by name.

    Raises
    ------
    TypeError
        If `path` is not path-like.
    ValueError
        If `path` has another suffix.
    ImportError
        If the suffix is ``.safetensors`` and the package safetensors is not installed.
    OSError
        If the file cannot be written.
    """
    path = _checked_path(path)
    text = json.dumps({"format": "fastinit", "version": VERSION, **architecture}, allow_nan=False)
    encode = _to_npz if path.endswith(".npz") else _to_safetensors
    replace_file(path, encode(text, tensors))


def read(path: FilePath) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the architecture and the tensors of a file.

    Names, shapes and dtypes of the tensors are not checked.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` or ``.npz``.

    Returns
    -------
    architecture : dict
    tensors : dict of str to ndarray

    Raises
    ------
    TypeError, ImportError
        As in :func:`write`.
    ValueError
        If `path` has another suffix, or the file is damaged or was not written by :func:`write`.
    OSError
        If the file cannot be read.
    """
    path = _checked_path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe may block forever
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
    # On damaged files the parsers raise many types of errors. None of them is an I/O error: the
    # data are in memory.
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
    """Replace a file atomically: if anything fails, an existing file remains unchanged.

    A path that exists and is not a regular file, such as a pipe or ``/dev/stdout``, is written to
    directly.

    Parameters
    ----------
    path : str or path-like
        A symbolic link is followed, and its target is replaced.
    data : bytes

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder, "runs.csv"), b"scheme,seed")
    ...     Path(folder, "runs.csv").read_text()
    'scheme,seed'
    """
    path = os.path.realpath(path)  # replace the target of a link, not the link
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(data)
        return
    # In the same directory, because os.replace is atomic only within one file system.
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
    """Return the architecture, without the format and the version of the file."""
    if text is None:
        raise ValueError("architecture: expected JSON text; got none")
    if len(text) > MAX_JSON_LENGTH:
        raise ValueError(
            f"architecture: expected at most {MAX_JSON_LENGTH} characters; got {len(text)}"
        )
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
# https://huggingface.co/docs/safetensors: 8 bytes with the length of the header, the header in
# JSON, whose __metadata__ maps text to text, and the data of the tensors.


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "path: .safetensors requires the package safetensors, which is not installed; "
            "run pip install 'fastinit-nn[files]', or use .npz"
        ) from error
    return safetensors.numpy


def _to_safetensors(text: str, tensors: Mapping[str, Array]) -> bytes:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {"architecture": text, "digest": _digest(text, contiguous)}
    encoded: bytes = _safetensors().save(contiguous, metadata)
    return encoded


def _digest(text: str, tensors: Mapping[str, Array]) -> str:
    """Return a checksum: unlike zip files, the format has none."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode())
        found.update(tensor.tobytes())
    return found.hexdigest()


def _from_safetensors(data: bytes) -> tuple[str | None, dict[str, Array]]:
    # The library checks that the tensors cover the rest of the file without gaps or overlaps.
    tensors = _safetensors().load(data)
    # load() does not return the metadata, and accepts two tensors of one name: parse the header
    # here.
    header = _json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__", {})
    text = metadata.get("architecture")
    if text is not None and metadata.get("digest") != _digest(text, tensors):
        raise ValueError("digest: expected that of the tensors; got another")
    return text, tensors


# --- npz ------------------------------------------------------------------------------------------
# https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html: a zip file of npy files.


def _to_npz(text: str, tensors: Mapping[str, Array]) -> bytes:
    arrays: dict[str, Any] = {"architecture": np.array(text), **tensors}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _from_npz(data: bytes) -> tuple[str | None, dict[str, Array]]:
    import zipfile  # imported here because it is slow to import

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
    """Return the array of an npy file of text or real numbers.

    ``numpy.load`` is not used because it allocates the declared size before it reads the data.
    """
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("expected npy format 1.0")
    shape, in_fortran_order, dtype = npy.read_array_header_1_0(file)
    if dtype.kind not in "fU":
        raise ValueError(f"expected text or real numbers; got dtype {dtype}")
    declared, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if declared != found:
        raise ValueError(f"expected {declared} bytes for {dtype} of shape {shape}; got {found}")
    array: Array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if in_fortran_order else "C")
