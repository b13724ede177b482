"""Networks as safetensors and npz files, and the writing of files that must not destroy others.

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
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
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
# The first bytes of files that hold data; reports and tables never replace these. Safetensors files
# have no such bytes, see `_kind_of_data`.
DATA_FILES = {
    b"SQLite format 3\0": "the SQLite file",
    b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7": "the SQLite journal",
    b"\x37\x7f\x06\x82": "the SQLite write-ahead log",
    b"\x37\x7f\x06\x83": "the SQLite write-ahead log",
    b"PK\3\4": "the .npz file",
    END_SIGNATURE: "the .npz file",
    b"\x93NUMPY": "the .npy file",
    b"PAR1": "the Parquet file",
}
# What a path may lead to that is not a file with contents of its own.
SPECIAL = {
    stat.S_IFDIR: "the folder",
    stat.S_IFLNK: "the symbolic link",
    stat.S_IFCHR: "the device",
    stat.S_IFBLK: "the device",
    stat.S_IFIFO: "the named pipe",
    stat.S_IFSOCK: "the socket",
}


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
    path = _text("path", path)
    if os.path.splitext(path)[1] not in SUFFIXES:
        raise ValueError(f"path: expected a name in {' or '.join(SUFFIXES)}; got {path!r}")
    return path


# --- outputs --------------------------------------------------------------------------------------


def replace_file(path: FilePath, data: bytes) -> None:
    """Write a new file or replace a regular file, atomically.

    If anything fails, an existing file remains unchanged and no other file is left behind. A file
    that is replaced keeps its permissions and, as far as the operating system allows, its owner and
    group; the permissions of a new file follow the umask.

    Parameters
    ----------
    path : str or path-like
        A file that does not exist yet, or a regular file. The folder must exist.
    data : bytes

    Raises
    ------
    TypeError
        If `path` is not path-like.
    ValueError
        If `path` leads to a folder, a symbolic link, a device, a pipe or a socket.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_file(Path(folder, "runs.csv"), b"scheme,seed")
    ...     Path(folder, "runs.csv").read_text()
    'scheme,seed'
    """
    path, before = _regular("path", path)
    # In the same folder, because os.replace is atomic only within one file system.
    temporary = os.path.join(os.path.dirname(path), f".fastinit-{secrets.token_hex(8)}")
    # A file that others may not read must not be readable under its temporary name either.
    mode = 0o666 if before is None else 0o600
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            _adopt(temporary, before)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _adopt(path: str, before: os.stat_result) -> None:
    """Give a file the owner, group and permissions of the file that it will replace."""
    mode = stat.S_IMODE(before.st_mode)
    now = os.stat(path)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        # A user may give a file to another group of theirs, but not to another user.
        for uid, gid in ((-1, before.st_gid), (before.st_uid, -1)):
            with suppress(OSError):
                os.chown(path, uid, gid)
        now = os.stat(path)
        if now.st_gid != before.st_gid:
            # What the former group was allowed is not meant for another group.
            mode = mode & ~0o070 | (mode & 0o007) << 3
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            mode &= 0o777
    # Not on file systems without permissions, which may refuse every change of them.
    if stat.S_IMODE(now.st_mode) != mode:
        os.chmod(path, mode)


def check_output(name: str, path: FilePath) -> None:
    """Raise an error if a report or a table cannot or must not be written to a path.

    To be called before any work whose result is written with :func:`replace_file`.

    Parameters
    ----------
    name : str
        Name of the argument or option in error messages.
    path : str or path-like

    Raises
    ------
    TypeError
        If `path` is not path-like.
    ValueError
        If the folder does not exist or cannot be written to; if `path` leads to anything but a
        regular file; or if the file holds data: SQLite, npz, npy, Parquet or safetensors.
    OSError
        If an existing file cannot be read or may not be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_output("csv", Path(folder, "runs.csv"))
    ...     np.save(Path(folder, "weights"), np.zeros(3))
    ...     check_output("csv", Path(folder, "weights.npy"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: csv: expected a file that may be replaced; got the .npy file '...'
    """
    text, before = _regular(name, path)
    check_folder(name, os.path.dirname(text) or os.curdir, must_exist=True)
    kind = None if before is None else _kind_of_data(text)
    if kind is not None:
        raise ValueError(f"{name}: expected a file that may be replaced; got {kind} {text!r}")


def check_folder(name: str, path: FilePath, *, must_exist: bool = False) -> None:
    """Raise an error if a folder cannot be written to or, where it may be absent, be created.

    Parameters
    ----------
    name : str
        Name of the argument or option in error messages.
    path : str or path-like
    must_exist : bool, default False

    Raises
    ------
    TypeError
        If `path` is not path-like.
    ValueError
        If the folder cannot be written to.

    Examples
    --------
    >>> check_folder("out", "new/figures")
    >>> check_folder("out", "new/figures", must_exist=True)
    Traceback (most recent call last):
    ...
    ValueError: out: expected a folder to write to; got 'new/figures'
    """
    text = _text(name, path)
    nearest = Path(text).absolute()
    while not must_exist and not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if not os.path.isdir(nearest) or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{name}: expected a folder to write to; got {text!r}")


def check_distinct(paths: Mapping[str, FilePath | None]) -> None:
    """Raise an error if two paths lead to one file, or would once the files are written.

    Links are followed. Two files that do not exist yet are taken for one if their names differ only
    in case or in Unicode normalisation, because many file systems do not distinguish these.

    Parameters
    ----------
    paths : mapping of str to path or None
        Inputs and outputs by the name of their argument or option; None is skipped.

    Raises
    ------
    TypeError
        If a path is not path-like.
    ValueError
        If two are one file. The message names both arguments.

    Examples
    --------
    >>> check_distinct({"--data": "a.npz", "--store": None, "--csv": "runs.csv"})
    >>> check_distinct({"--report": "runs", "--csv": "./runs"})
    Traceback (most recent call last):
    ...
    ValueError: --csv: expected another file than that of --report; got './runs'
    """
    earlier: dict[str, Path] = {}
    for name, path in paths.items():
        if path is None:
            continue
        text = _text(name, path)
        real = Path(os.path.realpath(text))
        for other, its_real in earlier.items():
            if _is_same_file(real, its_real):
                raise ValueError(
                    f"{name}: expected another file than that of {other}; got {text!r}"
                )
        earlier[name] = real


def _is_same_file(one: Path, two: Path) -> bool:
    """Return whether two absolute paths without links are one file, also through hard links."""
    exist = one.exists(), two.exists()
    if all(exist):
        return os.path.samefile(one, two)
    # Where case is ignored, both names of a file exist as soon as it does.
    if any(exist) or one.parent == one or two.parent == two:
        return False
    names = [unicodedata.normalize("NFC", path.name).casefold() for path in (one, two)]
    return names[0] == names[1] and _is_same_file(one.parent, two.parent)


def _kind_of_data(path: str) -> str | None:
    """Return what a file holds if it must not be replaced by a report or a table."""
    with open(path, "rb") as file:
        start = file.read(max(map(len, DATA_FILES)))
        length = os.fstat(file.fileno()).st_size
    for magic, kind in DATA_FILES.items():
        if start.startswith(magic):
            return kind
    # The length of the header, and the header in JSON. As a length, text is larger than any file.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= length - 8:
        return "the .safetensors file"
    return None


def _regular(name: str, path: FilePath) -> tuple[str, os.stat_result | None]:
    """Return the path as text, and the status of the regular file that is there, if any."""
    text = _text(name, path)
    if not os.path.basename(text):
        raise ValueError(f"{name}: expected a file to write; got the folder {text!r}")
    try:
        status = os.lstat(text)
    except (FileNotFoundError, NotADirectoryError):
        return text, None
    if not stat.S_ISREG(status.st_mode):
        kind = SPECIAL.get(stat.S_IFMT(status.st_mode), "something else at")
        leads = f", which leads to {os.path.realpath(text)!r}" if os.path.islink(text) else ""
        raise ValueError(f"{name}: expected a file to write; got {kind} {text!r}{leads}")
    # The permissions of a folder alone decide whether files in it can be replaced.
    if not os.access(text, os.W_OK):
        raise PermissionError(f"{name}: expected a file that may be written; got {text!r}")
    return text, status


def _text(name: str, path: FilePath) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name}: expected a str or a path; got {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path of str; got one of {type(text).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{name}: expected the path of a file; got {text!r}")
    return text


# --- JSON -----------------------------------------------------------------------------------------


def _parsed(text: str | None) -> dict[str, Any]:
    """Return the architecture, without the format and the version of the file."""
    if text is None:
        raise ValueError("architecture: expected JSON text; got none")
    if len(text) > MAX_JSON_LENGTH:
        raise ValueError(
            f"architecture: expected at most {MAX_JSON_LENGTH} characters; got {len(text)}"
        )
    architecture = parsed_json(text)
    if not isinstance(architecture, dict) or architecture.pop("format", None) != "fastinit":
        raise ValueError("architecture: expected a JSON object of format 'fastinit'")
    version = architecture.pop("version", None)
    if version != VERSION:
        raise ValueError(f"architecture: expected version {VERSION}; got {version!r}")
    return architecture


def parsed_json(text: str | bytes) -> Any:
    """Return the value of JSON text in which every key occurs once and every number is one.

    Raises
    ------
    ValueError
        If the text is not such JSON.

    Examples
    --------
    >>> parsed_json('{"a": 1}')
    {'a': 1}
    """
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
    header = parsed_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
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
