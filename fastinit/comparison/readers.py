"""Readers: files of tables and arrays, checked before they are parsed, because they may be hostile.

pandas and pyarrow parse text and Parquet, and are imported where they are used.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.lib import format as npy

from fastinit.training.network import Array

# From the number of a row to the words that say where it is.
Where = Callable[[int], str]

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")
SEPARATORS = (",", ";", "\t")
# Largest size of the numbers in a file, in bytes. A smaller limit holds where less memory is free.
MOST_BYTES = 1 << 32
# How many times the numbers of a file are in memory at once: as read, as columns, as features, and
# as training and test rows.
COPIES = 4
# Largest length of a line of the header and of the lines next to it, in characters.
MOST_LINE = 1 << 20
# Lines from which the separator and the decimal mark are recognised.
SAMPLE = 100
# Deflate, the compression of .npz files, makes data at most this many times as small:
# https://zlib.net/zlib_tech.html.
MOST_DEFLATE = 1032
CHUNK = 1 << 20
NUMBER_WITH_COMMA = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")
NUMBER_WITH_POINT = re.compile(r"\s*[+-]?\d+\.\d+([eE][+-]?\d+)?\s*")


def length_of(path: str) -> int:
    """Return the length of a regular, non-empty file. Reading a pipe might block forever."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("expected a file; got a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("expected a regular file; got a pipe, a device or a socket")
    if not status.st_size:
        raise ValueError("expected data; got an empty file")
    return status.st_size


def _check_size(size: int) -> None:
    """Raise an error if that many bytes of numbers are too many to be read."""
    limit = min(MOST_BYTES, _available_memory() // COPIES)
    if size > limit:
        raise ValueError(
            f"expected at most {limit / 1e9:.1f} GB of numbers; got {size / 1e9:.1f} GB"
        )


def _available_memory() -> int:
    """Return the bytes of memory that can be allocated without swapping, as far as it is known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = re.search(r"^MemAvailable:\s+(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return COPIES * MOST_BYTES if found is None else 1024 * int(found[1])


def _import(name: str) -> Any:
    """Return an optional module. By name, because mypy would demand stubs that few have."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ValueError(
            f"requires {package}; install with: pip install 'fastinit-nn[data]'"
        ) from None


def read_text(path: str, length: int, suffix: str) -> tuple[Any, Where, list[str]]:
    """Return the data frame of a CSV file, the words for the place of a row, and notes."""
    pandas = _import("pandas")
    # The shortest field, a digit and a separator, becomes a float64.
    _check_size(4 * length)
    _check_encoding(path)
    sample = _sample(path)
    separator = "\t" if suffix == ".tsv" else _separator(sample)
    rows = [fields for _, fields in _csv_rows(sample, separator)]
    names = rows[0] if rows else []
    if len(names) < 2:
        known = "tabs" if suffix == ".tsv" else "commas, semicolons or tabs"
        raise ValueError(
            f"expected the names of at least two columns, separated by {known}; got {names}"
        )
    check_names(names)
    numeric = [name for name in names if is_number(name)]
    # Columns may be called 0, 1, 2, such as the pixels of a picture, if not all of them are.
    if len(numeric) == len(names) or not all(name.isdecimal() for name in numeric):
        raise ValueError(
            f"expected a first line with the names of the columns; got numbers: {listed(numeric)}"
        )
    if "" in names[1:]:
        raise ValueError(
            f"expected a name for every column; got none for column {names.index('', 1)}"
        )
    notes = [] if separator == "," or suffix == ".tsv" else [f"separator: {separator!r}"]
    fields = list(chain.from_iterable(rows[1:]))
    comma = separator != "," and any(map(NUMBER_WITH_COMMA.fullmatch, fields))
    comma = comma and not any(map(NUMBER_WITH_POINT.fullmatch, fields))
    if comma:
        notes.append("decimal mark: ','")
    # Since version 3.1, pandas always reads the nearest number.
    old = tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1)
    exact = {"float_precision": "round_trip"} if old else {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        frame = pandas.read_csv(
            file,
            sep=separator,
            decimal="," if comma else ".",
            skipinitialspace=True,
            low_memory=False,
            **exact,
        )
    # Where all lines have more fields than the first, pandas takes the first ones for an index.
    if not isinstance(frame.index, pandas.RangeIndex) or len(frame.columns) != len(names):
        raise ValueError(f"expected {len(names)} fields in every line, as in the first; got more")
    frame.columns = names
    if not names[0]:
        if not (frame[""] == frame.index).all():
            raise ValueError("expected a name for every column; got none for column 0")
        frame = frame.drop(columns="")
        notes.append("column 0, which has no name and numbers the rows, left out")

    def where(row: int) -> str:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line, _ = next(islice(_csv_rows(file, separator), row + 1, None))
        return f"row {row} (line {line} of the file)"

    return frame, where, notes


def _check_encoding(path: str) -> None:
    """Raise an error if a file is not text in UTF-8, or has characters that no text has."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                byte = error.object[error.start]
                raise ValueError(
                    f"line {line}: expected text in UTF-8; got the byte {byte:#04x}"
                ) from None
            if b"\0" in chunk:
                line += chunk.count(b"\n", 0, chunk.index(b"\0"))
                raise ValueError(f"line {line}: expected text; got the byte 0x00")
            line += chunk.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise ValueError(f"line {line}: expected text in UTF-8; got half a character") from None


def _sample(path: str) -> list[str]:
    """Return the first lines of a file, of limited length."""
    lines: list[str] = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        while len(lines) < SAMPLE and (line := file.readline(MOST_LINE + 1)):
            if len(line) > MOST_LINE:
                raise ValueError(
                    f"line {len(lines) + 1}: expected at most {MOST_LINE:,} characters; got more"
                )
            lines.append(line)
    return lines


def _csv_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the fields of every row. Blank lines are skipped, as by pandas."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    line = 1
    for fields in reader:
        if len(fields) > 1 or (fields and fields[0].strip()):
            yield line, fields
        line = reader.line_num + 1


def _separator(sample: Sequence[str]) -> str:
    """Return the separator that gives all rows as many fields as the first, and the most."""
    found = {}
    for separator in SEPARATORS:
        try:
            lengths = [len(fields) for _, fields in _csv_rows(sample, separator)]
        except csv.Error:  # a field is too long, such as a line without the separator
            lengths = []
        # The last row may be cut, if a quoted field has several lines.
        if len(sample) == SAMPLE:
            lengths = lengths[:-1]
        # Rows that are not like the first are reported by pandas, for the likeliest separator.
        same = len(set(lengths)) == 1 and lengths[0] > 1
        found[separator] = (same, lengths[0] if lengths else 0)
    return max(found, key=lambda separator: found[separator])


def read_parquet(path: str) -> tuple[Any, list[str]]:
    """Return the data frame of a Parquet file, and notes."""
    pandas = _import("pandas")
    parquet = _import("pyarrow.parquet")
    types = _import("pyarrow").types
    with parquet.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        names = schema.names
        check_names(names)
        # Not the sizes of the columns: on damaged files, asking for these aborts the process.
        declared = sum(
            metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
        )
        # Repeated values take no space in the file.
        _check_size(max(declared, 8 * metadata.num_rows * metadata.num_columns))
        texts = [
            field.name
            for field in schema
            if types.is_string(field.type) or types.is_large_string(field.type)
        ]
    # Text as a dictionary, in which a long text that many rows share is in memory once.
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        frame = file.read().to_pandas()
    frame = frame.astype({name: object for name in texts if name in frame.columns})
    plain = isinstance(frame.index, pandas.RangeIndex) and frame.index.name is None
    return frame, [] if plain else ["index of the data frame left out"]


def read_npz(path: str, length: int, target: str) -> list[tuple[tuple[str, str], Array, Array]]:
    """Return names and arrays of the examples for training and, if there are any, for testing."""
    import zipfile  # imported here because it is slow to import

    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise ValueError(f"arrays: expected every name once; got {name!r} twice")
            members[name] = info
        pairs = [("X", target), ("X_test", f"{target}_test")]
        wanted = [name for pair in pairs for name in pair]
        absent = [name for name in wanted if name not in members]
        # Both arrays for testing, or none of them.
        if absent and absent != [*pairs[1]]:
            raise ValueError(
                f"expected arrays X and {target}, and X_test and {target}_test or none of these; "
                f"got {listed(sorted(members))}"
            )
        found = [members[name] for name in wanted if name in members]
        for info in found:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{info.filename}: expected no compression or deflate; got method "
                    f"{info.compress_type}"
                )
            if info.compress_size > length or info.file_size > MOST_DEFLATE * info.compress_size:
                raise ValueError(
                    f"{info.filename}: expected a size that the file can hold; got "
                    f"{info.file_size:,} bytes"
                )
        _check_size(sum(info.file_size for info in found))
        arrays = {
            info.filename.removesuffix(".npy"): _npy_array(info.filename, archive.read(info))
            for info in found
        }
    return [((X, y), arrays[X], arrays[y]) for X, y in pairs if X in arrays]


def _npy_array(name: str, data: bytes) -> Array:
    """Return the array of an npy file. The data are not copied, and no pickle is opened."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name}: expected npy format 1.0 or 2.0; got {version}")
    shape, in_fortran_order, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name}: expected numbers or text; got objects, which are not read")
    declared, found = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if declared != found or min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected {declared} bytes of shape {shape}; got {found}")
    array: Array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if in_fortran_order else "C")


# --- words ----------------------------------------------------------------------------------------


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, shortened, as text."""
    short = [name if len(name) <= 40 else f"{name[:37]}..." for name in names[:most]]
    more = f", ... ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(short) + more


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError for a name that occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"columns: expected every name once; got {name!r} twice")
        seen.add(name)


def is_number(text: str) -> bool:
    """Return whether a text is a number, with a decimal point or comma."""
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
