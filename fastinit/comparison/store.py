"""Store: finished runs of comparisons in an SQLite file that several processes may share.

A store has these tables:

- ``comparisons``: all that is needed to rebuild a :class:`Comparison` without its runs.
- ``tensors``: the arrays of comparisons, such as the data, each once.
- ``settings``: the values of all axes but the seed, as text and numbers for people.
- ``runs``: one narrow row for each run. Its numbers are packed, because a million rows of 17
  columns each would take Python ten seconds to read.
- ``arrays``: the cost curve and the parameters of each run, apart from ``runs``, so that reading
  all numbers does not read them.
- ``members``: which runs belong to which cells of which comparison. A run is stored once, also if
  several comparisons have it.

``fastinit report STORE --csv FILE`` writes the runs as a table.

Every row has a checksum of all its cells and their types, which is compared whenever it is read.

Files on network drives are not supported, because SQLite depends on locks that these do not provide
reliably: write one file for each job on a local disk, and :func:`merge` them.
"""

import hashlib
import json
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.encoding import (
    as_json,
    decoder,
    described,
    dtype_text,
    little,
    packed,
    stored_dtype,
    tensor_digest,
    tensors_of,
    unpacked,
)  # fmt: skip
from fastinit.comparison.grid import Cell, Grid, as_code, optimizer_label
from fastinit.comparison.results import Comparison
from fastinit.comparison.tables import Table
from fastinit.comparison.trials import COLUMNS, Block, Data, Training
from fastinit.training.network import Array, Matrix

T = TypeVar("T")
StorePath = str | os.PathLike[str]
Integers = NDArray[np.int64]

APPLICATION_ID = 0x46494E54  # "FINT": distinguishes these files from other SQLite files
VERSION = 2
# Time to wait for the transaction of another process. It takes less than a millisecond, but a slow
# disk may need seconds to flush it.
BUSY_SECONDS = 30.0
# Rows that are converted at once, and parameters of one statement: SQLite before 3.32 takes 999.
MOST_ROWS = 2048
MOST_PARAMETERS = 500
MOST_BYTES = 64 * 2**20
# Ranges of rows are read as one if at most so many other rows are between them.
GAP = 64
# The largest training inputs, in bytes, that are stored with a comparison. Above, their digest is.
MOST_DATA = 64 * 2**20
KEY_LENGTH = 16

# The numbers of a run.
OUTCOME = np.dtype(
    [(name, dtype.newbyteorder("<")) for name, dtype in COLUMNS.items()] + [("finished", "<i8")]
)
# What the checksum of a run includes before the outcome.
HEAD = np.dtype(
    [("key", f"V{KEY_LENGTH}"), ("run", "<i8"), ("comparison", "<i8"), ("setting", "<i8"),
     ("seed", "<i8"), ("kind", "<i8")]
)  # fmt: skip
# The type of a seed in its cell; the checksum includes the CRC of a text instead of the text.
KINDS = {type(None): 0, int: 1, str: 2}


# --- tables -------------------------------------------------------------------------------------


SCHEMA = {
    "comparisons": """CREATE TABLE comparisons (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    called TEXT NOT NULL,
    network TEXT NOT NULL,
    schemes TEXT NOT NULL,
    cells INTEGER NOT NULL,
    description TEXT NOT NULL,
    codes BLOB NOT NULL,
    digest BLOB NOT NULL
)""",
    "tensors": """CREATE TABLE tensors (
    digest BLOB PRIMARY KEY,
    dtype TEXT NOT NULL,
    shape TEXT NOT NULL,
    content BLOB
)""",
    "settings": """CREATE TABLE settings (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    scheme TEXT NOT NULL,
    depth INTEGER NOT NULL,
    width INTEGER,
    activation TEXT NOT NULL,
    optimizer TEXT NOT NULL,
    learning_rate,
    batch_size INTEGER,
    scale REAL NOT NULL,
    network TEXT NOT NULL,
    digest BLOB NOT NULL
)""",
    "runs": """CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    comparison INTEGER NOT NULL REFERENCES comparisons,
    setting INTEGER NOT NULL REFERENCES settings,
    seed,
    outcome BLOB NOT NULL,
    checksum INTEGER NOT NULL
)""",
    # In this order SQLite does not read the parameters of a large network for its cost curve.
    "arrays": """CREATE TABLE arrays (
    run INTEGER PRIMARY KEY REFERENCES runs,
    costs BLOB NOT NULL,
    costs_checksum INTEGER NOT NULL,
    start BLOB NOT NULL,
    theta BLOB NOT NULL,
    parameters_checksum INTEGER NOT NULL
)""",
    "members": """CREATE TABLE members (
    id INTEGER PRIMARY KEY,
    comparison INTEGER NOT NULL REFERENCES comparisons,
    places BLOB NOT NULL,
    runs BLOB NOT NULL,
    checksum INTEGER NOT NULL
)""",
}
RUN = ("id", "key", "comparison", "setting", "seed", "outcome", "checksum")
ARRAYS = ("run", "costs", "costs_checksum", "start", "theta", "parameters_checksum")
MEMBERS = ("id", "comparison", "places", "runs", "checksum")
TENSOR = ("digest", "dtype", "shape", "content")
COMPARISON = (
    "key", "called", "network", "schemes", "cells", "description", "codes", "digest",
)  # fmt: skip
SETTING = (
    "key", "scheme", "depth", "width", "activation", "optimizer", "learning_rate", "batch_size",
    "scale", "network", "digest",
)  # fmt: skip


def _insert(table: str, columns: Sequence[str]) -> str:
    # INSERT OR IGNORE would also ignore violations of NOT NULL.
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT DO NOTHING"
    )


# --- the file -------------------------------------------------------------------------------------


class Store:
    """Finished runs of comparisons in an SQLite file.

    Runs that were added survive if the process is killed, also by ``kill -9``. Any number of
    processes may use the same file at the same time, on a local disk. One object is used by one
    thread.

    Parameters
    ----------
    path : path-like
        The name of a regular file.
    writable : bool, default True
        Whether the file is created if it does not exist; an empty file becomes a store. Otherwise
        the file must be a store.

    Raises
    ------
    OSError
        If the file cannot be opened or written; runs that it contains are kept.
    ValueError
        If the name is not that of a regular file, or the file is not a store or has another
        version; it is not changed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store(Path(folder, "runs.sqlite")) as store:
    ...     len(store)
    0
    """

    def __init__(self, path: StorePath, *, writable: bool = True) -> None:
        self.path = checked_path(path)
        self._connection = self._connected(writable)
        try:
            with self._explained():
                if writable:
                    self._create()
                elif not self._is_store():
                    raise ValueError(f"store: expected a fastinit store; got an empty {self.path}")
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM runs")[0])

    def close(self) -> None:
        """Close the file; SQLite then removes its auxiliary files."""
        with self._explained():
            self._connection.close()

    def _connected(self, writable: bool) -> sqlite3.Connection:
        uri = Path(self.path).as_uri()

        def connect(mode: str) -> sqlite3.Connection:
            with self._explained():
                connection = sqlite3.connect(
                    f"{uri}?mode={mode}", timeout=BUSY_SECONDS, isolation_level=None, uri=True
                )
            # Text that is not UTF-8 must not be an error before its checksum was compared.
            connection.text_factory = lambda text: text.decode(errors="surrogateescape")
            return connection

        if writable:
            return connect("rwc")
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"store: expected a file; got {self.path}, which is absent")
        # Readers open the file for writing, so that the last one removes the auxiliary files of a
        # writer that was killed. SQLite opens a file without permission to write for reading.
        connection = connect("rw")
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            # The log of a WAL file can only be opened by those who may write to its folder. Without
            # a log, nothing is missing in the file.
            return connect("ro" if os.path.exists(f"{self.path}-wal") else "ro&immutable=1")
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            pass  # explained later
        return connection

    def _create(self) -> None:
        identity = os.stat(self.path)
        self._identity = identity.st_dev, identity.st_ino
        if not self._is_store():
            # With a write-ahead log a commit does not wait for the disk, nor a reader for a writer.
            self._connection.execute("PRAGMA journal_mode = WAL")
        # Commits survive if the process is killed; a power failure may lose the last ones.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        # 64 MB each. With the defaults, a million runs would write the index of the keys, whose
        # order is random, several times as often.
        self._connection.execute("PRAGMA wal_autocheckpoint = 16384")
        self._connection.execute("PRAGMA cache_size = -65536")
        # Fails before the training, not after it, if the file cannot be written.
        with self.transaction():
            if not self._is_store():  # again: another process may have created the tables
                for statement in SCHEMA.values():
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def _is_store(self) -> bool:
        """Return whether the file is a store; False for an empty one, ValueError for any other."""
        found = self._connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
        if not found:
            return False
        if self._one("PRAGMA application_id")[0] != APPLICATION_ID:
            raise ValueError(
                f"store: expected a fastinit store; got another database in {self.path}"
            )
        version = self._one("PRAGMA user_version")[0]
        if version != VERSION:
            raise ValueError(f"store: expected version {VERSION}; got {version} in {self.path}")
        # People may add indexes and views of their own.
        for name, statement in SCHEMA.items():
            if (name, statement) not in found:
                raise ValueError(
                    f"store: expected the table {name} of version {VERSION}; "
                    f"got a damaged one in {self.path}"
                )
        return True

    def check_identity(self) -> None:
        """Raise if the file has been deleted or replaced: what is written would be lost."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._identity:
            raise OSError(
                f"store: expected the file to stay; it is deleted or replaced: {self.path}"
            )

    def begin(self) -> None:
        """Begin a transaction in which all reads see the file as it is now."""
        with self._explained():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM comparisons").fetchone()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of the block, or none if it fails."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                # After some errors, such as a full disk, SQLite has already rolled back.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _one(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        with self._explained():
            return self._connection.execute(statement, parameters).fetchone()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of SQLite into errors that name the store."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # SQL that fails, such as that of a column that is missing, is due to the file as well.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
                raise OSError(
                    f"store: expected a file to read and write; got {self.path}: {error}"
                ) from None
            raise ValueError(
                f"store: expected a fastinit store; got {self.path}: {error}"
            ) from None
        except MemoryError:  # also if the length of a damaged row is too large
            raise ValueError(
                f"store: expected rows that fit into the memory; got larger ones in {self.path}"
            ) from None
        except UnicodeDecodeError as error:  # the message of SQLite quotes the damaged text
            raise ValueError(
                f"store: expected a fastinit store; got {self.path}: {error.object!r}"
            ) from None

    def damaged(self, table: str, rows: Sequence[Any]) -> ValueError:
        """Return the error for rows that are not as they were written."""
        numbers = [str(row) for row in rows]
        shown = ", ".join(numbers[:5]) + (", ..." if len(numbers) > 5 else "")
        return ValueError(
            f"store: expected complete rows; got {len(numbers):,} damaged in the table {table} of "
            f"{self.path}: {shown}"
        )

    # --- runs -------------------------------------------------------------------------------------

    def runs(self, condition: str, parameters: Sequence[Any] = ()) -> "Iterator[Rows]":
        """Yield the runs that satisfy an SQL condition, many at a time; checks their checksums."""
        statement = f"SELECT {', '.join(RUN)} FROM runs WHERE {condition}"
        with self._explained():
            cursor = self._connection.execute(statement, parameters)
            while found := cursor.fetchmany(MOST_ROWS):
                rows = _rows_of(found)
                if rows is None:
                    raise self.damaged("runs", [r[0] for r in found if _rows_of([r]) is None])
                yield rows

    def runs_of(self, ids: Integers) -> "Iterator[Rows]":
        """Yield the runs of sorted ids, and perhaps others between them."""
        for first, last in _ranges(ids):
            yield from self.runs("id BETWEEN ? AND ? ORDER BY id", (first, last))

    def arrays(
        self, names: Sequence[str], ids: Integers, checksums: Integers, lengths: Mapping[str, int]
    ) -> dict[str, bytes]:
        """Return arrays of runs of sorted ids, one after another; checks their checksums.

        Parameters
        ----------
        names : sequence of str
            ``["costs"]`` or ``["start", "theta"]``.
        ids, checksums : ndarray of shape (n,), int64
            The different ids of the runs, in order, and the checksums of their rows.
        lengths : mapping of str to int
            The number of bytes of each array of a run.
        """
        checksum = "costs_checksum" if "costs" in names else "parameters_checksum"
        statement = f"SELECT run, {checksum}, {', '.join(names)} FROM arrays WHERE run "
        wanted = dict(zip(ids.tolist(), checksums.tolist(), strict=True))
        # By id: pages of a damaged file may be exchanged, and SQLite returns rows as they come.
        found: dict[int, list[bytes]] = {}
        with self._explained():
            for condition, asked in _conditions(ids.tolist()):
                for run, own, *contents in self._connection.execute(statement + condition, asked):
                    expected = wanted[run]
                    for name, content in zip(names, contents, strict=True):
                        if type(content) is not bytes or len(content) != lengths[name]:
                            raise self.damaged("arrays", [run])
                        expected = zlib.crc32(content, expected)
                    if type(own) is not int or own != expected:
                        raise self.damaged("arrays", [run])
                    found[run] = contents
        if len(found) < len(wanted):
            raise self.damaged("arrays", [run for run in wanted if run not in found])
        return {name: b"".join(found[run][i] for run in wanted) for i, name in enumerate(names)}

    def members(self, comparison: int) -> tuple[Integers, Integers]:
        """Return the indices of the cells of a comparison that have a run, in order, and the runs.

        Returns
        -------
        places, runs : ndarray of shape (n,), int64
        """
        places, runs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        statement = f"SELECT {', '.join(MEMBERS)} FROM members WHERE comparison = ? ORDER BY id"
        with self._explained():
            for row in self._connection.execute(statement, (comparison,)):
                *cells, checksum = row
                if type(checksum) is not int or checksum != _crc(cells):
                    raise self.damaged("members", [row[0]])
                places.append(np.frombuffer(cells[2], "<i8"))
                runs.append(np.frombuffer(cells[3], "<i8"))
        place = np.concatenate(places)
        run_of = np.full(place.max(initial=-1) + 1, -1)
        run_of[place] = np.concatenate(runs)
        found = np.flatnonzero(run_of >= 0)
        return found, run_of[found]

    def add_members(self, comparison: int, places: NDArray[np.intp], runs: Integers) -> None:
        """Write which runs belong to cells of a comparison."""
        number = self._one("SELECT ifnull(max(id), 0) + 1 FROM members")[0]
        cells = (number, comparison, little(places, np.int64), little(runs, np.int64))
        self._connection.execute(_insert("members", MEMBERS), (*cells, _crc(cells)))

    def add_runs(
        self,
        keys: Sequence[bytes],
        comparisons: Sequence[int],
        settings: Sequence[int],
        seeds: Sequence[Any],
        outcomes: NDArray[Any],
        arrays: Sequence[Sequence[bytes]],
    ) -> Integers:
        """Write runs, except those whose key is there, within a transaction.

        Parameters
        ----------
        keys, comparisons, settings, seeds : sequence of length k
            The cells of ``runs``.
        outcomes : ndarray of shape (k,), OUTCOME
        arrays : sequence of three sequences of bytes
            Costs, starts and thetas of each run.

        Returns
        -------
        ndarray of shape (k,), int64
            The ids of the runs, old or new.
        """
        connection, k = self._connection, len(keys)
        last = self._one("SELECT ifnull(max(id), 0) FROM runs")[0]
        ids = np.arange(last + 1, last + 1 + k)
        packed = _split(outcomes.tobytes(), k)
        checksums = _checksums(ids, keys, comparisons, settings, seeds, packed).tolist()  # type: ignore[arg-type]
        before = connection.total_changes
        connection.executemany(
            _insert("runs", RUN),
            zip(ids.tolist(), keys, comparisons, settings, seeds, packed, checksums, strict=True),
        )
        rows = zip(ids.tolist(), *arrays, checksums, strict=True)
        if connection.total_changes - before < k:
            # Another process, or another cell, has trained some of them first.
            old = np.array([self._one("SELECT id FROM runs WHERE key = ?", (e,))[0] for e in keys])
            rows = (row for row, own in zip(rows, old == ids, strict=True) if own)  # type: ignore[assignment]
            ids = old
        crc32 = zlib.crc32
        connection.executemany(
            _insert("arrays", ARRAYS),
            (
                (run, costs, crc32(costs, own), start, theta, crc32(theta, crc32(start, own)))
                for run, costs, start, theta, own in rows
            ),
        )
        return ids

    def setting(self, cells: Sequence[Any]) -> int:
        """Return the id of a row of ``settings``, which is written if it is not there."""
        self._connection.execute(_insert("settings", SETTING), (*cells, _digest(cells)))
        return int(self._one("SELECT id FROM settings WHERE key = ?", (cells[0],))[0])

    def settings(self) -> dict[int, tuple[Any, ...]]:
        """Return the cells of all rows of ``settings`` without the digest, by id."""
        found = {}
        with self._explained():
            for number, *cells, digest in self._connection.execute(
                f"SELECT id, {', '.join(SETTING)} FROM settings"
            ):
                if digest != _digest(cells):
                    raise self.damaged("settings", [number])
                found[number] = tuple(cells)
        return found

    def whole_runs(
        self, bad: Mapping[str, list[int]]
    ) -> Iterator[tuple["Rows", list[list[bytes]]]]:
        """Yield all undamaged runs, many at a time, and their costs, starts and thetas.

        Parameters
        ----------
        bad : mapping of str to list
            The ids of damaged rows of "runs" and "arrays" are appended to its lists.
        """
        statement = (
            f"SELECT {', '.join(f'runs.{name}' for name in RUN)}, "
            f"{', '.join(f'arrays.{name}' for name in ARRAYS[1:])} "
            f"FROM runs LEFT JOIN arrays ON arrays.run = runs.id ORDER BY runs.id"
        )
        n = len(RUN)
        for found in self._chunks(statement):
            intact = found
            if _rows_of([row[:n] for row in found]) is None:
                intact = [row for row in found if _rows_of([row[:n]]) is not None]
                kept = {row[0] for row in intact}
                bad["runs"].extend(row[0] for row in found if row[0] not in kept)
            whole = [row for row in intact if _are_whole(row[n - 1], *row[n:])]
            kept = {row[0] for row in whole}
            bad["arrays"].extend(row[0] for row in intact if row[0] not in kept)
            rows = _rows_of([row[:n] for row in whole])
            if rows is not None:
                yield rows, [[row[i] for row in whole] for i in (n, n + 2, n + 3)]

    def _chunks(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rows in lists of limited length and size."""
        found, size = [], 0
        with self._explained():
            for row in self._connection.execute(statement):
                found.append(row)
                size += sum(len(cell) for cell in row if type(cell) is bytes)
                if len(found) == MOST_ROWS or size > MOST_BYTES:
                    yield found
                    found, size = [], 0
        if found:
            yield found

    # --- comparisons ------------------------------------------------------------------------------

    def register(self, comparison: Comparison) -> int:
        """Write a comparison without its runs, and return its id."""
        description, arrays = described(comparison)
        codes = packed(comparison.cells.codes)
        # What the settings repeat is not part of the identity: a range and a list of seeds are the
        # same grid.
        identity = {name: value for name, value in description.items() if name != "settings"}
        key = hashlib.blake2b(as_json(identity).encode() + codes, digest_size=KEY_LENGTH).digest()
        with self.transaction():
            for digest, (array, needed) in arrays.items():
                content = little(array) if needed or array.nbytes <= MOST_DATA else None
                self.add_tensor((digest, dtype_text(array), json.dumps(array.shape), content))
            return self.add_comparison(
                (
                    key, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
                    repr(comparison.network), ", ".join(comparison.schemes), len(comparison.cells),
                    as_json(description), codes,
                )
            )  # fmt: skip

    def add_comparison(self, cells: Sequence[Any]) -> int:
        """Write a comparison, or the time of its last call, and return its id."""
        key, called = cells[:2]
        old = self._one("SELECT id FROM comparisons WHERE key = ?", (key,))
        if old is not None:
            known = self.comparison_row(old[0])
            if called > known[1]:
                known = (key, called, *known[2:])
                self._connection.execute(
                    "UPDATE comparisons SET called = ?, digest = ? WHERE id = ?",
                    (called, _digest(known), old[0]),
                )
            return int(old[0])
        row = (*cells, _digest(cells))
        self._connection.execute(_insert("comparisons", COMPARISON), row)
        return int(self._one("SELECT last_insert_rowid()")[0])

    def comparison_row(self, number: int) -> tuple[Any, ...]:
        """Return the cells of a comparison, in the order of COMPARISON without the digest."""
        row = self._one(f"SELECT {', '.join(COMPARISON)} FROM comparisons WHERE id = ?", (number,))
        if row is None or row[-1] != _digest(row[:-1]):
            raise self.damaged("comparisons", [number])
        return tuple(row[:-1])

    def comparisons(self) -> list[int]:
        """Return the ids of the comparisons, that of the last call last."""
        with self._explained():
            rows = self._connection.execute("SELECT id FROM comparisons ORDER BY called, id")
            return [number for (number,) in rows]

    def add_tensor(self, cells: Sequence[Any]) -> None:
        """Write an array, if it is not there."""
        self._connection.execute(_insert("tensors", TENSOR), cells)

    def tensor_row(self, digest: str) -> Any:
        """Return the cells of an array, or None."""
        return self._one(
            f"SELECT {', '.join(TENSOR)} FROM tensors WHERE digest = ?", (bytes.fromhex(digest),)
        )

    def tensor(self, digest: str) -> tuple[Array, bool]:
        """Return an array, and whether its content is there; without, it has NaN."""
        try:
            _, dtype, shape, content = self.tensor_row(digest)
            if content is None:
                missing = np.broadcast_to(np.dtype(dtype).type(np.nan), json.loads(shape))
                return missing, False
            array = np.frombuffer(content, dtype).reshape(json.loads(shape))
            if tensor_digest(array) != bytes.fromhex(digest):
                raise ValueError(digest)
        except (TypeError, ValueError):
            raise self.damaged("tensors", [digest]) from None
        return array, True

    def comparison(self, number: int) -> Comparison:
        """Return a comparison without its runs."""
        row = self.comparison_row(number)
        absent: list[str] = []

        def tensor(digest: str) -> Array:
            array, complete = self.tensor(digest)
            if not complete:
                absent.append(digest)
            return array

        found = decoder(tensor)(json.loads(row[5]))
        grid = found["grid"]
        networks = {tuple(place): network for place, network in grid["networks"]}
        cells = Grid(grid["values"], unpacked(row[6], len(grid["values"]), row[4]), networks)
        test = found["test"]
        data = Data(
            found["X"], found["Y"], None if test is None else tuple(test),
            Training(**found["training"]), found["target_cost"], found["target_accuracy"],
        )  # fmt: skip
        result = Comparison(data, cells, found["network"], found["settings"])
        if absent:
            result._digest = found["digest"]
        return result


def checked_path(path: StorePath) -> str:
    """Return the absolute name of a file; raise if SQLite would not use it as such.

    Raises
    ------
    TypeError
        If it is not path-like.
    ValueError
        If it is empty, the name of no regular file, or a name of special meaning for SQLite.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"store: expected a str or a path; got {type(path).__name__}") from None
    special = name == ":memory:" or name.lower().startswith("file:")
    if not name or "\0" in name or special:
        raise ValueError(f"store: expected the name of a file; got {name!r}")
    name = os.path.abspath(name)
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return name
    except OSError as error:
        raise OSError(f"store: expected a file to read and write; got {name}: {error}") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"store: expected a regular file; got a folder or device: {name}")
    return name


# --- writing the runs of a comparison ------------------------------------------------------------


class Writer:
    """The runs of one comparison in a store that :func:`fastinit.compare` writes to.

    The comparison is written before its runs, so that each finished run can be read at once by
    :func:`open_comparison`.

    Parameters
    ----------
    path : path-like
        As for :class:`Store`.
    comparison : Comparison
        Without runs.

    Raises
    ------
    OSError, ValueError
        As for :class:`Store`.
    """

    def __init__(self, path: StorePath, comparison: Comparison) -> None:
        self.store = Store(path)
        self._comparison = comparison
        try:
            self._number = self.store.register(comparison)
            self._is_member = np.zeros(len(comparison.cells), bool)
            self._is_member[self.store.members(self._number)[0]] = True
        except BaseException:
            self.store.close()
            raise
        self._settings: dict[tuple[int, ...], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.close()

    def get(
        self, keys: Sequence[bytes], places: NDArray[np.intp], starts: Matrix
    ) -> tuple[NDArray[np.bool_], Block]:
        """Look up runs of one network and batch size.

        Parameters
        ----------
        keys : sequence of bytes
        places : ndarray of shape (k,), intp
            The indices of their cells in the grid.
        starts : ndarray of shape (k, n_parameters)
            Their initial parameters.

        Returns
        -------
        known : ndarray of shape (k,), bool
            Which of the runs are in the store.
        block : Block
            These runs, in the order of the keys.

        Raises
        ------
        ValueError
            If a run was changed after it was added.
        """
        found: list[Rows] = []
        for condition, asked in _conditions(keys):
            found += self.store.runs(f"key {condition}", asked)
        row_of = {key: i for i, key in enumerate(key for rows in found for key in rows.keys)}
        rows = np.array([row_of.get(key, -1) for key in keys], np.intp)
        known = rows >= 0
        rows = rows[known]
        ids = np.concatenate([np.empty(0, np.int64), *(each.ids for each in found)])
        checksums = np.concatenate([np.empty(0, np.int64), *(each.checksums for each in found)])
        outcomes = np.concatenate([np.empty(0, OUTCOME), *(each.outcomes for each in found)])[rows]
        columns = {name: outcomes[name].astype(dtype) for name, dtype in COLUMNS.items()}
        cell = self._comparison.cells[int(places[0])]
        points = self._comparison.data.points_of(cell.batch_size)
        ids, checksums = ids[rows], checksums[rows]
        costs = StoredRows.of(self.store, "costs", ids, checksums, np.float64, len(points))
        thetas = StoredRows.of(self.store, "theta", ids, checksums, starts.dtype, starts.shape[1])
        block = Block(columns, starts[known], thetas, points, costs)
        fresh = ~self._is_member[places[known]]
        if fresh.any():
            with self.store.transaction():
                self.store.add_members(self._number, places[known][fresh], ids[fresh])
            self._is_member[places[known]] = True
        return known, block

    def add(self, keys: Sequence[bytes], places: NDArray[np.intp], block: Block) -> None:
        """Write finished runs, all or none, except those that the store already contains.

        One transaction writes them all.

        Parameters
        ----------
        keys, places
            As for :meth:`get`.
        block : Block

        Raises
        ------
        OSError
            If the store cannot be written, or was deleted or replaced.
        """
        k = len(keys)
        if not k:
            return
        self.store.check_identity()
        outcomes = np.empty(k, OUTCOME)
        for name in COLUMNS:
            outcomes[name] = block.columns[name]
        outcomes["finished"] = int(datetime.now(UTC).timestamp())
        arrays = [_split(little(each), k) for each in (block.costs, block.starts, block.thetas)]
        grid = self._comparison.cells
        seeds = [_cell_of_seed(grid.values["seed"][c]) for c in grid.code("seed")[places].tolist()]
        # The id of an unfinished transaction must not be remembered.
        settings = dict(self._settings)
        with self.store.transaction():
            numbers = self._setting_ids(places, settings)
            ids = self.store.add_runs(keys, [self._number] * k, numbers, seeds, outcomes, arrays)
            self.store.add_members(self._number, places, ids)
        self._settings = settings
        self._is_member[places] = True

    def _setting_ids(
        self, places: NDArray[np.intp], known: dict[tuple[int, ...], int]
    ) -> list[int]:
        """Return the id of the settings of each cell; writes those that are not known."""
        grid = self._comparison.cells
        codes = np.delete(grid.codes[places], list(grid.values).index("seed"), axis=1)
        found = list(map(tuple, codes.tolist()))
        for place, code in dict(zip(found, places.tolist(), strict=True)).items():
            if place not in known:
                known[place] = self.store.setting(_setting_cells(grid[code]))
        return [known[code] for code in found]


def _setting_cells(cell: Cell) -> tuple[Any, ...]:
    """Return the cells of a row of ``settings``."""
    rate = cell.learning_rate
    row = (
        cell.scheme, cell.depth, cell.width, cell.activation, optimizer_label(cell.optimizer),
        rate if rate is None or isinstance(rate, float) else repr(rate), cell.batch_size,
        float(cell.scale), repr(cell.network),
    )  # fmt: skip
    # The label of an optimiser does not have its learning rate.
    return (_digest([*row, repr(cell.optimizer)])[:KEY_LENGTH], *row)


def _cell_of_seed(seed: Any) -> Any:
    """Return a seed as a cell: NULL, an integer of 64 bits, or the text of another seed."""
    if seed is None or (type(seed) is int and -(2**63) <= seed < 2**63):
        return seed
    return as_code(seed)


# --- reading a comparison -------------------------------------------------------------------------


class StoredRows:
    """An array of shape (k, n) whose rows are read from a store when it is indexed.

    Parameters
    ----------
    path : path-like
    name : {"costs", "start", "theta"}
    ids, checksums : ndarray of shape (k,), int64
        The ids of the runs and the checksums of their rows.
    dtype : dtype
    n : int

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
    """

    def __init__(
        self, path: StorePath, name: str, ids: Integers, checksums: Integers, dtype: Any, n: int
    ) -> None:
        self.shape, self.dtype = (len(ids), n), np.dtype(dtype)
        self._path, self._name, self._ids, self._checksums = path, name, ids, checksums

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        """Return the rows of an index along the first axis: an integer, a slice or an array."""
        ids, checksums = self._ids[index], self._checksums[index]
        with Store(self._path, writable=False) as store:
            found = self._read(store, np.atleast_1d(ids), np.atleast_1d(checksums))
        return found[0] if np.ndim(ids) == 0 else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def _read(self, store: Store, ids: Integers, checksums: Integers) -> Array:
        names = ["costs"] if self._name == "costs" else ["start", "theta"]
        unique, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        lengths = dict.fromkeys(names, self.shape[1] * self.dtype.itemsize)
        content = store.arrays(names, unique, checksums[first], lengths)[self._name]
        rows = np.frombuffer(content, stored_dtype(self.dtype)).reshape(len(unique), self.shape[1])
        return rows[inverse].astype(self.dtype)

    @classmethod
    def of(
        cls, store: Store, name: str, ids: Integers, checksums: Integers, dtype: Any, n: int
    ) -> Array:
        """Return all rows from a store that is open."""
        return cls(store.path, name, ids, checksums, dtype, n)._read(store, ids, checksums)


def comparisons(path: StorePath) -> Table:
    """Return the comparisons of a store, that of the last call last.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Table
        One row for each: its number, which :func:`open_comparison` takes, when it was called last,
        its network and schemes, and how many of its cells have runs.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, is not a store, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "runs.sqlite")
    ...     for n in (2, 3):
    ...         _ = fi.compare(
    ...             X, Y, fi.Network([2, 3, 1]), "zeros", seed=range(n), iterations=10, store=path
    ...         )
    ...     [(row["number"], row["runs"]) for row in comparisons(path)]
    [(1, 2), (2, 3)]
    """
    with Store(path, writable=False) as store:
        rows = []
        for number in store.comparisons():
            _, called, network, schemes, cells, *_ = store.comparison_row(number)
            rows.append(
                {
                    "number": number,
                    "called": called[:19],
                    "network": network,
                    "schemes": schemes,
                    "cells": cells,
                    "runs": len(store.members(number)[0]),
                }
            )
        return Table(rows)


def open_comparison(path: StorePath, which: int | None = None) -> Comparison:
    """Return a comparison from a store, with all runs that were finished until now.

    The numbers of all runs are read at once. Parameters and cost curves are read when they are
    used, so the file must stay where it is. Another process may write to the store.

    Parameters
    ----------
    path : path-like
        A file that ``compare(store=...)`` has written.
    which : int, optional
        The number of the comparison, as in :func:`comparisons`. By default the one that was called
        last.

    Returns
    -------
    Comparison
        If the training inputs were too large to be stored (above 64 MB), they are replaced by NaN
        of the same shape, and ``has_data`` is False. A function, such as a schedule of learning
        rates, is replaced by its text.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is not a store, has no comparison of this number, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "runs.sqlite")
    ...     grid = dict(schemes=["zeros", "he_normal"], seed=range(3), iterations=50)
    ...     first = fi.compare(X, Y, fi.Network([2, 3, 1]), **grid, store=path)
    ...     again = open_comparison(path)
    ...     len(again), again.trials[5].final_cost == first.trials[5].final_cost
    (6, True)
    """
    with Store(path, writable=False) as store:
        numbers = store.comparisons()
        if not numbers:
            raise ValueError(f"store: expected a comparison; got none in {store.path}")
        if which is not None and which not in numbers:
            known = ", ".join(map(str, sorted(numbers)))
            raise ValueError(f"which: expected one of {known}; got {which!r}")
        number = numbers[-1] if which is None else which
        result = store.comparison(number)
        places, runs = store.members(number)
        if len(places) and places[-1] >= len(result.cells):
            raise store.damaged("members", [f"those of comparison {number}"])
        columns, checksums = _stored_columns(store, runs)
        parts = [
            (own, _stored_block(store, result, int(places[own[0]]), runs[own], checksums[own]))
            for own in result.cells.groups(*SHAPES, places=places)
        ]
        result.restore(places, columns, parts)
    return result


# Runs whose cells differ on these axes may differ in the lengths of their arrays.
SHAPES = ("depth", "width", "activation", "batch_size")


def _stored_columns(store: Store, runs: Integers) -> tuple[dict[str, NDArray[Any]], Integers]:
    """Return the columns and the checksums of runs, in the order of their ids in ``runs``."""
    n = len(runs)
    order = np.argsort(runs)
    ordered = runs[order]
    columns = {name: np.empty(n, dtype) for name, dtype in COLUMNS.items()}
    checksums = np.empty(n, np.int64)
    known = np.zeros(n, bool)
    for rows in store.runs_of(ordered):
        # Rows of other comparisons may lie between, and two cells may have one run.
        first, end = np.searchsorted(ordered, rows.ids[[0, -1]] + (0, 1))
        at = np.searchsorted(rows.ids, ordered[first:end])
        if not np.array_equal(rows.ids[np.minimum(at, len(rows.ids) - 1)], ordered[first:end]):
            break
        here = order[first:end]
        for name, column in columns.items():
            column[here] = rows.outcomes[name][at]
        checksums[here] = rows.checksums[at]
        known[here] = True
    if not known.all():
        absent = np.count_nonzero(~known)
        raise store.damaged("members", [f"those of {absent:,} runs that are absent"])
    return columns, checksums


def _stored_block(
    store: Store, comparison: Comparison, place: int, runs: Integers, checksums: Integers
) -> Block:
    """Return the arrays of runs, which are read when they are used, as a block without columns.

    Parameters
    ----------
    place : int
        The index of a cell with their network and batch size.
    """
    cell = comparison.cells[place]
    network, points = cell.network, comparison.data.points_of(cell.batch_size)
    starts, thetas = (
        StoredRows(store.path, name, runs, checksums, network.dtype, network.n_parameters)
        for name in ("start", "theta")
    )
    costs = StoredRows(store.path, "costs", runs, checksums, np.float64, len(points))
    return Block({}, starts, thetas, points, costs)  # type: ignore[arg-type]


# --- merging --------------------------------------------------------------------------------------


def merge(sources: Sequence[StorePath], target: StorePath, *, skip_damaged: bool = False) -> int:
    """Copy all comparisons and runs of stores into another one; equal runs once.

    All sources are checked before anything is written. Runs are written in transactions of some
    thousand: if the process is killed, the target is a store of a part of them, and a second call
    adds the rest. Shards of one comparison become one comparison.

    Parameters
    ----------
    sources : sequence of path-like
        Stores. Other processes may write to them; what they write after the start is not copied.
    target : path-like
        Created if it does not exist. Runs that it already contains are kept.
    skip_damaged : bool, default False
        Whether damaged runs are left out. By default they are an error.

    Returns
    -------
    int
        The number of runs that were added.

    Raises
    ------
    TypeError
        If `sources` is one path.
    OSError
        If a file cannot be read or written.
    ValueError
        If a source is not a store or has damaged rows, there is no source, or the target is one of
        the sources or not a store.

    Examples
    --------
    >>> import tempfile
    >>> import fastinit as fi
    >>> X, Y, _, _ = fi.lesson.load_dataset()
    >>> grid = dict(schemes="he_normal", seed=range(10), iterations=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = [Path(folder, f"{i}.sqlite") for i in (1, 2)]
    ...     for i, path in enumerate(parts, start=1):
    ...         _ = fi.compare(X, Y, fi.Network([2, 3, 1]), **grid, store=path, shard=(i, 2))
    ...     merge(parts, Path(folder, "all.sqlite"))
    ...     len(open_comparison(Path(folder, "all.sqlite")))
    10
    10
    """
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise TypeError(f"sources: expected several paths; got {sources!r}")
    if not sources:
        raise ValueError("sources: expected at least one store; got none")
    paths, path = [checked_path(source) for source in sources], checked_path(target)
    if any(os.path.realpath(path) == os.path.realpath(each) for each in paths) or (
        os.path.exists(path) and any(os.path.samefile(path, e) for e in paths if os.path.exists(e))
    ):
        raise ValueError(f"target: expected another file than the sources; got {path}")
    with ExitStack() as contexts:
        stores = [contexts.enter_context(Store(each, writable=False)) for each in paths]
        problems = [problem for store in stores for problem in _problems(store)]
        if problems and not skip_damaged:
            raise ValueError("\n".join(problems))
        result = contexts.enter_context(Store(path))
        before = len(result)
        for store in stores:
            _copy(store, result)
        return len(result) - before


def _problems(store: Store) -> list[str]:
    """Check all rows of a store; return a message for each table with damaged runs.

    Other damaged rows raise ValueError, because a comparison cannot be copied without them.
    """
    # The rows that are checked are those that are copied, whatever other processes write.
    store.begin()
    for number in store.comparisons():
        store.members(number)
        for digest in tensors_of(json.loads(store.comparison_row(number)[5])):
            store.tensor(digest)
    store.settings()
    bad: dict[str, list[int]] = {"runs": [], "arrays": []}
    for _ in store.whole_runs(bad):
        pass
    return [str(store.damaged(table, rows)) for table, rows in bad.items() if rows]


def _copy(source: Store, target: Store) -> None:
    """Copy all undamaged rows of a store into another."""
    comparisons: dict[int, int] = {}
    with target.transaction():
        for number in source.comparisons():
            row = source.comparison_row(number)
            for digest in tensors_of(json.loads(row[5])):
                target.add_tensor(source.tensor_row(digest))
            comparisons[number] = target.add_comparison(row)
        settings = {number: target.setting(cells) for number, cells in source.settings().items()}
    old, new = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows, arrays in source.whole_runs({"runs": [], "arrays": []}):
        with target.transaction():
            ids = target.add_runs(
                rows.keys,
                [comparisons[number] for number in rows.comparisons],
                [settings[number] for number in rows.settings],
                rows.seeds,
                rows.outcomes,
                arrays,
            )
        old.append(rows.ids)
        new.append(ids)
    known, ids = np.concatenate(old), np.concatenate(new)
    for number, copied in comparisons.items():
        places, runs = source.members(number)
        at = np.minimum(np.searchsorted(known, runs), max(0, len(known) - 1))
        fresh = ~np.isin(places, target.members(copied)[0])
        # Damaged runs were not copied.
        fresh &= known[at] == runs if len(known) else False
        if fresh.any():
            with target.transaction():
                target.add_members(copied, places[fresh], ids[at[fresh]])


# --- rows and checksums ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rows:
    """Runs as they are in the table, column by column."""

    ids: Integers
    keys: Sequence[bytes]
    comparisons: Sequence[int]
    settings: Sequence[int]
    seeds: Sequence[Any]
    outcomes: NDArray[Any]
    checksums: Integers


def _rows_of(found: Sequence[Sequence[Any]]) -> Rows | None:
    """Return rows of ``runs`` as columns; None if one of them is damaged, or there is none."""
    if not found:
        return None
    ids, keys, comparisons, settings, seeds, outcomes, checksums = zip(*found, strict=True)
    given = np.array(checksums)
    try:
        expected = _checksums(ids, keys, comparisons, settings, seeds, outcomes)
    except (TypeError, ValueError):
        return None
    if given.dtype != np.int64 or not np.array_equal(given, expected):
        return None
    columns = np.frombuffer(b"".join(outcomes), OUTCOME)
    return Rows(np.array(ids), keys, comparisons, settings, seeds, columns, given)


def _checksums(
    ids: Sequence[int],
    keys: Sequence[bytes],
    comparisons: Sequence[int],
    settings: Sequence[int],
    seeds: Sequence[Any],
    outcomes: Sequence[bytes],
) -> Integers:
    """Return the CRC-32 of all other cells of each run and their types.

    Raises
    ------
    TypeError, ValueError
        If a cell has the wrong type or length.
    """
    n = len(keys)
    heads = np.zeros(n, HEAD)
    heads["key"] = np.frombuffer(b"".join(keys), HEAD["key"])
    for name, column in (("run", ids), ("comparison", comparisons), ("setting", settings)):
        heads[name] = _integers(column)
    if set(map(type, seeds)) == {int}:
        heads["kind"], heads["seed"] = KINDS[int], seeds
    else:
        heads["kind"] = [KINDS.get(type(seed), -1) for seed in seeds]
        heads["seed"] = [
            seed if type(seed) is int else zlib.crc32(repr(seed).encode()) for seed in seeds
        ]
    if set(map(len, outcomes)) != {OUTCOME.itemsize}:
        raise ValueError("outcome: expected another length")
    parts = map(zlib.crc32, _split(heads.tobytes(), n))
    return np.fromiter(map(zlib.crc32, outcomes, parts), np.int64, n)


def _integers(values: Sequence[int]) -> Integers:
    found = np.array(values)
    if found.dtype != np.int64:
        raise TypeError("expected integers")
    return found


def _are_whole(
    run: int, costs: Any, costs_checksum: Any, start: Any, theta: Any, parameters_checksum: Any
) -> bool:
    """Return whether the arrays of a run are there and as they were written.

    Parameters
    ----------
    run : int
        The checksum of the row of the run.
    """
    if {type(costs), type(start), type(theta)} != {bytes} or len(start) != len(theta):
        return False
    expected = [zlib.crc32(costs, run), zlib.crc32(theta, zlib.crc32(start, run))]
    given = [costs_checksum, parameters_checksum]
    return given == expected and set(map(type, given)) == {int}


def _crc(values: Sequence[Any]) -> int:
    """Return the CRC-32 of values and their types."""
    return zlib.crc32(_digest(values))


def _digest(values: Sequence[Any]) -> bytes:
    """Return the digest of the values of a row and of their types."""
    digest = hashlib.blake2b(digest_size=32)
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def _split(content: bytes, k: int) -> list[bytes]:
    """Return k parts of equal length."""
    size = len(content) // k
    return [content[i : i + size] for i in range(0, k * size, size)] if size else [b""] * k


def _conditions(values: Sequence[T]) -> Iterator[tuple[str, Sequence[T]]]:
    """Yield the conditions of a query for values, and their parameters."""
    for i in range(0, len(values), MOST_PARAMETERS):
        asked = values[i : i + MOST_PARAMETERS]
        yield f"IN ({', '.join('?' * len(asked))})", asked


def _ranges(ids: Integers) -> list[tuple[int, int]]:
    """Return the first and the last of each range of sorted ids."""
    if not len(ids):
        return []
    ends = np.flatnonzero(np.diff(ids) > GAP)
    first, last = np.append(0, ends + 1), np.append(ends, len(ids) - 1)
    return list(zip(ids[first].tolist(), ids[last].tolist(), strict=True))
