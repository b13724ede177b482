import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.comparison.store import Store

# A grid of 2 x 30 short runs, for scripts that run in other processes.
GRID = """
import sys
import fastinit as fi
X, Y, X_test, Y_test = fi.lesson.load_dataset()
def grid(store, **keywords):
    return fi.compare(
        X, Y, fi.Network([2, 10, 5, 1]), ["lesson.he", "he_normal"], test=(X_test, Y_test),
        seed=range(30), iterations=1500, store=store, **keywords,
    )
"""


def script(body, *arguments, **keywords):
    """Start a script that can call grid(); arguments are passed to it."""
    command = [sys.executable, "-P", "-c", GRID + textwrap.dedent(body), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def compared(net, circles, path):
    """Compare with the store, and count the runs that were trained."""
    X, Y, X_test, Y_test = circles

    def run(**changes):
        trained = []

        def callback(scheme, run):
            if run.iterations in (run.diverged_at, len(run.costs)) and len(run.costs) == 40:
                trained.append(scheme)

        arguments = {
            "X": X, "Y": Y, "network": net, "schemes": ["lesson.he", "zeros"], "seed": range(3),
            "test": (X_test, Y_test), "iterations": 40, "store": path, "callback": callback,
        }  # fmt: skip
        return fi.compare(**arguments | changes), len(trained)

    return run


def test_nothing_is_computed_twice(compared):
    first, trained = compared()
    assert trained == 6
    second, trained = compared()
    assert trained == 0
    for ours, theirs in zip(first.trials, second.trials, strict=True):
        assert ours.record() == theirs.record()
        for name in ("start", "theta", "points", "costs"):
            assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)
            assert getattr(ours, name).flags.writeable
    more, trained = compared(seed=range(5))
    assert trained == 4
    assert len(more) == 10


def test_runs_are_added_all_or_none(compared, path):
    """If one of several runs cannot be written, none is."""
    first, second = compared(store=None)[0].trials[:2]
    with Store(path) as store:
        with pytest.raises(ValueError, match="store: expected a fastinit store"):
            store.add({b"1": first, b"2": dataclasses.replace(second, verdict=None)})
        assert len(store) == 0
        store.add({})
        store.add({b"1": first, b"2": second})
        store.add({b"2": second, b"3": first})
        assert len(store) == 3


def test_a_diverged_run_comes_back_as_it_was(compared):
    keywords = {"learning_rate": [1e200], "schemes": ["lesson.he"], "callback": None}
    first, _ = compared(**keywords)
    assert first.trials[0].diverged_at is not None
    second, _ = compared(**keywords)
    assert second.trials[0].diverged_at == first.trials[0].diverged_at
    assert np.isnan(second.trials[0].final_cost)
    assert_array_equal(second.trials[0].costs, first.trials[0].costs)


def test_what_determines_a_run_is_in_its_key(compared, circles, path):
    """Each change of one argument trains all six runs again, and the first ones are kept."""
    X, Y, X_test, Y_test = circles
    compared()
    other = np.nextafter(X, np.inf)
    for changes in (
        {"X": other},
        {"Y": 1 - Y},
        {"test": None},
        {"test": (X_test[:, :50], Y_test[:, :50])},
        {"learning_rate": 0.02},
        {"network": fi.Network([2, 10, 6, 1])},
        {"network": fi.Network([2, 10, 5, 1], dtype="float32")},
        {"target_cost": 0.1},
        {"target_accuracy": 0.9},
        {"schemes": ["he_normal", "glorot_normal"]},
        {"seed": range(10, 13)},
    ):
        assert compared(**changes)[1] == 6, changes
        assert compared(**changes)[1] == 0, changes
    assert compared()[1] == 0
    assert len(compared(iterations=41, callback=None)[0]) == 6
    with Store(path) as store:
        assert len(store) == 6 * 13


def test_global_random_state_is_in_the_key(compared):
    state = np.random.get_state()
    try:
        np.random.seed(5)
        first, trained = compared(schemes=["lesson.random"], seed=None)
        assert trained == 1
        assert compared(schemes=["lesson.random"], seed=None)[1] == 0
        np.random.seed(6)
        other, trained = compared(schemes=["lesson.random"], seed=None)
        assert trained == 1
        assert (first.trials[0].start != other.trials[0].start).any()
    finally:
        np.random.set_state(state)


@pytest.mark.skipif(sys.platform == "win32", reason="requires POSIX signals")
def test_kill_loses_the_runs_in_flight_alone(path):
    """Runs that were reported before the kill are in the store and are not trained again."""
    with script("grid(sys.argv[1], progress=lambda c: print(len(c), flush=True))", path) as child:
        for _ in range(7):
            reported = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        reported = max([reported, *map(int, child.communicate()[0].split())])
    assert child.returncode == -signal.SIGKILL
    with Store(path) as store:
        kept = len(store)
    assert reported <= kept < 60
    body = """
    starts = []
    result = grid(sys.argv[1], callback=lambda scheme, run: starts.append(run))
    print(len({id(run) for run in starts}), len(result))
    """
    out, err = script(body, path).communicate()
    assert out.split() == [str(60 - kept), "60"], err


def test_processes_share_a_store(path):
    """Five processes that start without a file write one row for each run."""
    body = "print([(row['scheme'], row['seed'], row['final_cost']) for row in grid(sys.argv[1])])"
    children = [script(body, path) for _ in range(5)]
    results = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0] * 5, results
    alone, _ = script(body.replace("sys.argv[1]", "None")).communicate()
    assert {out for out, _ in results} == {alone}
    with Store(path) as store:
        assert len(store) == 60


def test_a_store_moves_like_any_file(compared, path):
    """No auxiliary files are left that would have to be moved with the store."""
    compared()
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]
    moved = path.rename(path.with_name("moved.sqlite"))
    assert compared(store=moved)[1] == 0
    assert sqlite3.connect(moved).execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- invalid and unwritable stores ---------------------------------------------------------------


def other_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (key)")
    connection.close()


def other_version(path):
    Store(path).close()
    changed(path, "PRAGMA user_version = 7")


FILES = {
    "text": (lambda path: path.write_text("no database" * 100), "file is not a database"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 40), "file is not a database"),
    "database": (other_database, "expected a fastinit store; got another database"),
    "version": (other_version, "store: expected version 1; got 7 in"),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_not_changed(compared, path, case):
    make, message = FILES[case]
    make(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        compared()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]


def test_an_empty_file_becomes_a_store(compared, path):
    path.touch()
    assert compared()[1] == 6
    assert compared()[1] == 0


DAMAGED = (
    "theta = x'0000000000000000'",
    "theta = zeroblob(length(theta))",
    "theta = zeroblob(length(theta) - 1)",
    "theta = 5",
    "costs = 'text'",
    "points = costs, costs = points",
    "final_cost = 0",
    "final_cost = 'low'",
    "train_accuracy = 7",
    "train_accuracy = x'00'",
    "verdict = 'perfect'",
    "verdict = CAST(x'ff' AS TEXT)",
    "iterations = -5",
    "iterations = 40.5",
    "converged = 1 - converged",
    "diverged_at = 3",
    "seconds = 2 * seconds",
    "scheme = 'zeros.'",
    "seed = NULL",
    "network = CAST(network AS BLOB)",
    "finished = '2000-01-01 00:00:00'",
    "digest = x'00'",
    "digest = 'text'",
    "theta = (SELECT theta FROM runs AS other WHERE other.theta <> runs.theta)",
)


def changed(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("change", DAMAGED)
def test_a_damaged_row_is_an_error(compared, path, change):
    compared()
    changed(path, f"UPDATE runs SET {change}")
    message = "store: expected complete runs; got a damaged one in .*runs.sqlite"
    with pytest.raises(ValueError, match=message):
        compared()


def test_a_row_of_another_run_is_an_error(compared, path):
    """The digest includes the key: rows whose keys were exchanged are found out."""
    compared(schemes="he_normal", seed=[0, 1])
    connection = sqlite3.connect(path)
    with connection:
        one, two = (key for (key,) in connection.execute("SELECT key FROM runs"))
        for old, new in ((one, b"other"), (two, one), (b"other", two)):
            connection.execute("UPDATE runs SET key = ? WHERE key = ?", (new, old))
    connection.close()
    with pytest.raises(ValueError, match="store: expected complete runs; got a damaged one in"):
        compared(schemes="he_normal", seed=[0, 1])


@pytest.mark.parametrize(
    "change", ["DROP COLUMN verdict", "RENAME COLUMN costs TO cost", "ADD COLUMN more"]
)
def test_a_damaged_table_is_an_error(compared, path, change):
    compared()
    changed(path, f"ALTER TABLE runs {change}")
    message = "store: expected a table runs of 20 columns; got a damaged one in .*runs.sqlite"
    with pytest.raises(ValueError, match=message):
        compared()


def test_every_value_comes_back_as_it_was(compared, path):
    """Also values that SQLite changes: NaN, the negative zero and integers in columns of floats."""
    trial = compared(store=None, callback=None)[0].trials[0]
    values = {"seconds": 2.0, "train_accuracy": 1.0, "test_accuracy": None, "verdict": "\0 \u20ac"}
    for k, cost in enumerate((np.nan, np.inf, -np.inf, 1e300, 5e-324, 3.0)):
        given = dataclasses.replace(trial, **values, final_cost=cost)
        with Store(path) as store:
            store.add({bytes([k]): given})
            found = store.get(bytes([k]), trial.cell, trial.start)
        assert repr(found.record()) == repr(given.record())
    zero = dataclasses.replace(trial, final_cost=-0.0)
    with Store(path) as store:
        store.add({b"zero": zero})
        assert store.get(b"zero", trial.cell, trial.start).record() == zero.record()


def test_no_such_folder(compared, path):
    with pytest.raises(OSError, match=r"store: expected a file to write to; got .*absent"):
        compared(store=path.parent / "absent" / "runs.sqlite")
    with pytest.raises(OSError, match="store: expected a file to write to"):
        compared(store=path.parent)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="requires POSIX permissions")
def test_read_only(compared):
    """Refused before the training; the runs in the store are kept."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "runs.sqlite"
        compared(store=path)
        before = path.read_bytes()
        path.chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        # The superuser may write everywhere, so the test runs as another user.
        os.seteuid(65534 if user == 0 else user)
        try:
            for store in (path, folder / "new.sqlite"):
                with pytest.raises(OSError, match="store: expected a file to write to; got "):
                    compared(store=store, seed=range(9))
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
        assert path.read_bytes() == before
        assert compared(store=path)[1] == 0


def test_full_disk(path):
    """A limit on the size of files simulates a full disk; without it the grid is finished."""
    pytest.importorskip("resource")
    body = """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        grid(sys.argv[1])
    except OSError as error:
        print(error)
    """
    out, err = script(body, path).communicate()
    assert out.startswith(f"store: expected a file to write to; got {path}: "), err
    with Store(path) as store:
        kept = len(store)
    assert 0 < kept < 60
    out, err = script("print(len(grid(sys.argv[1])))", path).communicate()
    assert out == "60\n", err
