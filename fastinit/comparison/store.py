"""Store: finished runs of comparisons in an SQLite file that several processes may share."""

import hashlib
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastinit.comparison.grid import Cell, as_code
from fastinit.comparison.trials import Trial
from fastinit.training.network import Array

APPLICATION_ID = 0x46494E54  # "FINT": distinguishes these files from other SQLite files
VERSION = 1
# Time to wait for the transaction of another process. It takes less than a millisecond, but a slow
# disk may need seconds to flush it.
BUSY_SECONDS = 30.0

# The key identifies a run; scheme, seed, network, learning rate and the time are there for human
# readers. The digest is that of all other columns.
SCHEMA = """
CREATE TABLE runs (
    key BLOB PRIMARY KEY,
    scheme TEXT NOT NULL,
    seed TEXT,
    network TEXT NOT NULL,
    learning_rate REAL NOT NULL,
    final_cost REAL,
    iterations INTEGER NOT NULL,
    diverged_at INTEGER,
    converged INTEGER NOT NULL,
    train_accuracy REAL,
    test_accuracy REAL,
    iterations_to_cost INTEGER,
    iterations_to_accuracy INTEGER,
    verdict TEXT NOT NULL,
    seconds REAL NOT NULL,
    finished TEXT NOT NULL,
    theta BLOB NOT NULL,
    points BLOB NOT NULL,
    costs BLOB NOT NULL,
    digest BLOB NOT NULL
)
"""
ARRAYS = {"points": np.dtype("<i8"), "costs": np.dtype("<f8")}
CELL = ("scheme", "seed", "network", "learning_rate")
OUTCOME = tuple(field.name for field in fields(Trial) if field.name not in ("cell", "start"))
COLUMNS = ("key", *CELL, *OUTCOME, "finished", "digest")
# INSERT OR IGNORE would also ignore violations of NOT NULL.
INSERT = (
    f"INSERT INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)}) "
    "ON CONFLICT (key) DO NOTHING"
)
SELECT = f"SELECT {', '.join(COLUMNS)} FROM runs WHERE key = ?"


class Store:
    """Finished runs in an SQLite file, by key.

    Runs that were added survive if the process is killed, also by ``kill -9``. Any number of
    threads and processes may use the same file at the same time.

    Parameters
    ----------
    path : path-like
        Created if it does not exist; an empty file becomes a store.

    Raises
    ------
    OSError
        If the file cannot be opened or written; runs that it contains are kept.
    ValueError
        If the file is not a store or has another version; it is not changed. Also from
        :meth:`get`, if the run that it reads was changed after it was added.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store(Path(folder, "runs.sqlite")) as store:
    ...     len(store)
    0
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            # Text that is not UTF-8 must not be an error before its digest was compared.
            self._connection.text_factory = lambda text: text.decode(errors="surrogateescape")
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock, self._explained():
            return int(self._pragma_or_count("SELECT count(*) FROM runs"))

    def close(self) -> None:
        """Close the file; SQLite then removes its auxiliary files."""
        with self._lock, self._explained():
            self._connection.close()

    def get(self, key: bytes, cell: Cell, start: Array) -> Trial | None:
        """Return the run of a cell and its start, or None if the store does not contain it."""
        with self._lock, self._explained():
            row = self._connection.execute(SELECT, (key,)).fetchone()
        if row is None:
            return None
        *values, digest = row
        if digest != _digest(values):
            raise ValueError(f"store: expected complete runs; got a damaged one in {self.path}")
        columns = dict(zip(COLUMNS, row, strict=True))
        found = {name: columns[name] for name in OUTCOME}
        for name, dtype in (ARRAYS | {"theta": _stored(start.dtype)}).items():
            found[name] = np.frombuffer(found[name], dtype).astype(dtype.newbyteorder("="))
        if found["final_cost"] is None:  # SQLite has no NaN
            found["final_cost"] = math.nan
        found["converged"] = bool(found["converged"])
        return Trial(cell=cell, start=start, **found)

    def add(self, trials: Mapping[bytes, Trial]) -> None:
        """Write finished runs by key, all or none, except those that the store already contains.

        One transaction writes them all; it takes as long as writing a single run.
        """
        rows = [_row(key, trial) for key, trial in trials.items()]
        if not rows:
            return
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(INSERT, rows)
                self._connection.execute("COMMIT")
            finally:
                # After some errors, such as a full disk, SQLite has already rolled back.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _open(self) -> None:
        if not self._is_ours():
            # With a write-ahead log a commit does not wait for the disk, nor a reader for a writer.
            # Where it is not supported, as on some network drives, SQLite uses its usual journal.
            self._connection.execute("PRAGMA journal_mode = WAL")
        # Commits survive if the process is killed; a power failure may lose the last ones.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        # Fails before the training, not after it, if the file cannot be written.
        self._connection.execute("BEGIN IMMEDIATE")
        if not self._is_ours():  # again: another process may have created the tables
            self._connection.execute(SCHEMA)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute("COMMIT")

    def _is_ours(self) -> bool:
        """Return whether the file is a store; False for an empty one, ValueError for any other."""
        if self._pragma_or_count("SELECT count(*) FROM sqlite_schema") == 0:
            return False
        if self._pragma_or_count("PRAGMA application_id") != APPLICATION_ID:
            raise ValueError(
                f"store: expected a fastinit store; got another database in {self.path}"
            )
        version = self._pragma_or_count("PRAGMA user_version")
        if version != VERSION:
            raise ValueError(f"store: expected version {VERSION}; got {version} in {self.path}")
        columns = self._connection.execute("SELECT name FROM pragma_table_info('runs')").fetchall()
        if {name for (name,) in columns} != set(COLUMNS):
            raise ValueError(
                f"store: expected a table runs of {len(COLUMNS)} columns; "
                f"got a damaged one in {self.path}"
            )
        return True

    def _pragma_or_count(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of SQLite into errors that name the store."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"store: expected a file to write to; got {self.path}: {error}") from None
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"store: expected a fastinit store; got {self.path}: {error}"
            ) from None


def _row(key: bytes, trial: Trial) -> tuple[Any, ...]:
    """Return the values of a run in the order of COLUMNS."""
    cell = trial.cell
    values: dict[str, Any] = {name: getattr(trial, name) for name in OUTCOME}
    for name, dtype in (ARRAYS | {"theta": _stored(trial.theta.dtype)}).items():
        values[name] = values[name].astype(dtype).tobytes()
    seed = None if cell.seed is None else as_code(cell.seed)
    finished = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    row = [
        _returned(value)
        for value in (
            key, cell.scheme, seed, repr(cell.network), cell.learning_rate, *values.values(),
            finished,
        )
    ]  # fmt: skip
    return (*row, _digest(row))


def _returned(value: Any) -> Any:
    """Return a value as SQLite returns it: no NaN, no negative zero and no bool."""
    if isinstance(value, float):
        return None if math.isnan(value) else value + 0.0
    return int(value) if isinstance(value, bool) else value


def _digest(values: Iterable[Any]) -> bytes:
    """Return the digest of the values of a row and of their types."""
    digest = hashlib.blake2b(digest_size=32)
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the little-endian dtype, in which arrays are stored on every machine."""
    return dtype.newbyteorder("<")
