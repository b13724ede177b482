import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.comparison import merge, open_comparison, store
from fastinit.comparison.store import Store, Writer, comparisons
from fastinit.comparison.trials import COLUMNS, Block

# A grid of 2 x 30 short runs, for scripts that run in other processes.
GRID = """
import sys
import fastinit as fi
from fastinit.comparison import merge, open_comparison
X, Y, X_test, Y_test = fi.lesson.load_dataset()
def grid(store, seed=range(30), **keywords):
    return fi.compare(
        X, Y, fi.Network([2, 10, 5, 1]), ["lesson.he", "he_normal"], test=(X_test, Y_test),
        seed=seed, iterations=1500, store=store, **keywords,
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


def changed(path, *statements):
    """Change a store as a person with another tool could."""
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def rows(path, query):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def same(one, two):
    """Assert that two comparisons have the same cells and runs, to the bit."""
    assert len(one) == len(two)
    assert [*map(repr, one.cells)] == [*map(repr, two.cells)]
    ours, theirs = one.columns(), two.columns()
    for name in ("place", *COLUMNS):
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    for mine, other in zip(one.trials, two.trials, strict=True):
        assert mine.verdict == other.verdict
        for name in ("start", "theta", "points", "costs"):
            given, found = getattr(mine, name), getattr(other, name)
            assert (given.dtype, given.shape) == (found.dtype, found.shape)
            assert given.tobytes() == found.tobytes()


def test_nothing_is_computed_twice(compared):
    first, trained = compared()
    assert trained == 6
    second, trained = compared()
    assert trained == 0
    same(first, second)
    assert all(trial.theta.flags.writeable for trial in second.trials)
    more, trained = compared(seed=range(5))
    assert trained == 4
    assert len(more) == 10


def test_runs_are_added_all_or_none(compared, path, monkeypatch):
    def fails(*arguments):
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_members", fails)
        with pytest.raises((OSError, ValueError), match="store: expected"):
            compared()
    with Store(path) as opened:
        assert len(opened) == 0
    assert compared()[1] == 6


def test_a_diverged_run_comes_back_as_it_was(compared):
    keywords = {"learning_rate": [1e200], "schemes": ["lesson.he"], "callback": None}
    first, _ = compared(**keywords)
    assert first.trials[0].diverged_at is not None
    second, _ = compared(**keywords)
    assert np.isnan(second.trials[0].final_cost)
    same(first, second)


def test_what_determines_a_run_is_in_its_key(compared, circles, path):
    """Each change of one argument trains all six runs again, and the first ones are kept."""
    X, Y, X_test, Y_test = circles
    compared()
    weights = np.ones(X.shape[1])
    for changes in (
        {"X": np.nextafter(X, np.inf)},
        {"Y": 1 - Y},
        {"test": None},
        {"test": (X_test[:, :50], Y_test[:, :50])},
        {"learning_rate": 0.02},
        {"optimizer": "adam"},
        {"optimizer": fi.Momentum(momentum=0.5)},
        {"scale": 0.5},
        {"network": fi.Network([2, 10, 6, 1])},
        {"network": fi.Network([2, 10, 5, 1], dtype="float32")},
        {"target_cost": 0.1},
        {"target_accuracy": 0.9},
        {"schemes": ["he_normal", "glorot_normal"]},
        {"seed": range(10, 13)},
        {"sample_weight": weights * 2},
        {"sample_weight": weights + np.eye(1, len(weights), 150)[0]},
    ):
        assert compared(**changes)[1] == 6, changes
        assert compared(**changes)[1] == 0, changes
    assert compared()[1] == 0
    assert len(compared(iterations=41, callback=None)[0]) == 6
    with Store(path) as opened:
        assert len(opened) == 6 * 18


def test_long_series_have_keys_of_their_own(compared, circles):
    pd = pytest.importorskip("pandas")
    weights = pd.Series(np.ones(circles[0].shape[1]))
    assert compared(sample_weight=weights)[1] == 6
    weights[150] = 2.0  # the repr shows neither
    assert compared(sample_weight=weights)[1] == 6
    assert compared(sample_weight=weights)[1] == 0


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


def test_a_function_without_a_name_creates_no_file(compared, path):
    with pytest.raises(ValueError, match="learning_rate: expected a value with a repr of its own"):
        compared(learning_rate=lambda iteration: 0.1)
    assert not path.exists()


def test_cells_that_start_alike_have_their_own_runs(compared, path):
    """Zeros of any scale are the same start, and each cell has its run."""
    first, trained = compared(schemes="zeros", scale=[1.0, 0.5])
    assert trained == 6
    same(first, open_comparison(path))


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="requires POSIX signals")
def test_kill_loses_the_runs_in_flight_alone(path):
    """Runs that were reported before the kill can be read, and are not trained again."""
    with script("grid(sys.argv[1], progress=lambda c: print(len(c), flush=True))", path) as child:
        for _ in range(2):
            reported = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        reported = max([reported, *map(int, child.communicate()[0].split())])
    assert child.returncode == -signal.SIGKILL
    kept = len(open_comparison(path))
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
    with Store(path) as opened:
        assert len(opened) == 60
    assert len(open_comparison(path)) == 60


def test_a_store_moves_like_any_file(compared, path):
    """No auxiliary files are left that would have to be moved with the store."""
    compared()
    assert len(open_comparison(path).curves()) == 2
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]
    moved = path.rename(path.with_name("moved.sqlite"))
    assert compared(store=moved)[1] == 0
    assert rows(moved, "PRAGMA integrity_check") == [("ok",)]


def test_a_store_can_be_read_while_it_is_written(path):
    body = "grid(sys.argv[1], progress=lambda c: print(len(c), flush=True), threads=1)"
    with script(body, path) as child:
        seen = []
        for line in child.stdout:
            result = open_comparison(path)
            seen.append(len(result))
            assert len(result) >= int(line)
            assert sum(len(costs) for costs in result.curves().values()) == len(result)
        assert child.wait() == 0
    assert seen[0] < seen[-1] == 60


def test_a_transaction_does_not_keep_readers_waiting(compared, path):
    compared()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM members")
    try:
        assert len(open_comparison(path)) == 6
    finally:
        writer.execute("ROLLBACK")
        writer.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_is_an_error(compared, path, replaced):
    """What is written to a deleted file would be lost without a message."""

    def delete(result):
        path.unlink()
        if replaced:
            path.touch()

    with pytest.raises(OSError, match=r"store: expected the file to stay; .*runs.sqlite"):
        compared(progress=delete)


# --- reading a comparison -------------------------------------------------------------------------


def test_a_comparison_is_read_as_it_was(compared, path):
    keywords = {
        "depth": [1, 2], "width": [3, 4], "learning_rate": [0.1, 0.5], "batch_size": [None, 64],
        "optimizer": ["sgd", fi.Adam(beta1=0.8)], "target_cost": 0.6, "callback": None,
    }  # fmt: skip
    result, _ = compared(**keywords)
    found = open_comparison(path)
    same(result, found)
    assert repr(found.settings) == repr(result.settings)
    assert found.digest() == result.digest()
    assert repr(found.summary()) == repr(result.summary())
    assert repr(found.records()) == repr(result.records())
    for batch_size in (None, 64):
        ours, theirs = (each.curves(batch_size=batch_size) for each in (result, found))
        for scheme in result.schemes:
            assert_array_equal(ours[scheme], theirs[scheme])
    for scheme in result.schemes:
        assert found.verdict(scheme) == result.verdict(scheme)
        assert_array_equal(found.median_trial(scheme).theta, result.median_trial(scheme).theta)


def test_curves_are_sampled(compared, path):
    result, _ = compared(seed=range(20), callback=None)
    found = open_comparison(path)
    for each in (result, found):
        drawn = each.curves(most=5)
        assert {len(costs) for costs in drawn.values()} == {5}
        whole = each.curves()
        assert all(any((row == own).all() for own in whole[s]) for s in drawn for row in drawn[s])
        assert_array_equal(each.curves(most=5)["zeros"], drawn["zeros"])
        assert_array_equal(each.curves(most=20)["zeros"], whole["zeros"])


def test_several_comparisons_share_a_file(compared, path):
    few, _ = compared(seed=range(2))
    more, trained = compared(seed=range(5))
    assert trained == 6
    other, _ = compared(schemes="he_normal")
    assert [row["runs"] for row in comparisons(path)] == [4, 10, 3]
    same(open_comparison(path), other)
    same(open_comparison(path, 1), few)
    same(open_comparison(path, 2), more)
    compared(seed=range(2))
    same(open_comparison(path), few)
    with pytest.raises(ValueError, match="which: expected one of 1, 2, 3; got 4"):
        open_comparison(path, 4)
    # The data are there once.
    assert rows(path, "SELECT count(*) FROM tensors") == [(4,)]


def test_calls_in_vain_do_not_grow_the_file(compared, path):
    compared()
    before = rows(path, "SELECT count(*) FROM members")
    compared()
    compared()
    assert rows(path, "SELECT count(*) FROM members") == before


def test_without_comparisons(path):
    with pytest.raises(FileNotFoundError, match=r"store: expected a file; got .*runs.sqlite"):
        open_comparison(path)
    path.touch()
    with pytest.raises(ValueError, match="store: expected a fastinit store; got an empty"):
        open_comparison(path)
    assert path.stat().st_size == 0
    Store(path).close()
    with pytest.raises(ValueError, match="store: expected a comparison; got none in"):
        open_comparison(path)


def test_large_data_are_left_out(compared, path, monkeypatch):
    monkeypatch.setattr(store, "MOST_DATA", 1000)
    result, _ = compared()
    found = open_comparison(path)
    assert result.has_data
    assert not found.has_data
    assert found.digest() == result.digest()
    assert found.X.shape == result.X.shape
    assert np.isnan(found.X).all()
    assert_array_equal(found.Y, result.Y)
    same(result, found)
    assert compared()[1] == 0


INTEGERS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.one_of(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6, unique=True),
    st.integers(0, 2**200).map(np.random.SeedSequence),
    st.builds(np.random.SeedSequence, st.just(7), spawn_key=st.tuples(st.integers(0, 9))),
    st.builds(range, st.integers(0, 5), st.integers(6, 9)),
    st.none(),
)
RATES = st.one_of(
    st.floats(0, 10),
    st.just(fi.optimizers.InverseScaling(initial=0.5)),
    st.just(fi.optimizers.Cosine(initial=0.5, iterations=9)),
)


@given(
    st.data(), SEEDS, st.lists(RATES, min_size=1, max_size=2, unique=True),
    st.sampled_from(["float32", "float64"]), st.integers(0, 6),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_every_value_comes_back_to_the_bit(data, seed, rates, dtype, iterations):
    """Any axes, and columns of any bits: NaN with a payload, infinities, negative zero."""
    net = fi.Network([2, 3, 1], dtype=dtype)
    X, Y, _, _ = fi.lesson.load_dataset()
    schemes = {"a 'b'": "zeros", "c": fi.initializers.he_normal}
    result = fi.compare(
        X, Y, net, schemes, seed=seed, learning_rate=rates, iterations=iterations,
        batch_size=data.draw(st.sampled_from([None, 7, [None, 300]])),
        optimizer=data.draw(st.sampled_from(["sgd", fi.Momentum(nesterov=True)])),
        class_weight={0: 2.0, 1: 1.0}, tol=1e-9, n_iter_no_change=3,
    )  # fmt: skip
    bits = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.sqlite")
        empty = type(result)(result.data, result.cells, result.network, result.settings)
        blocks = list(result._blocks)
        result._blocks.clear()
        with Writer(path, empty) as writer:
            for places, block in blocks:
                k, (n, p) = len(places), (block.costs.shape[1], net.n_parameters)
                columns = {
                    name: np.frombuffer(bits.bytes(k * each.itemsize), each).copy()
                    for name, each in COLUMNS.items()
                }
                columns["course"] %= 2
                columns["stopped"] %= 2
                starts, thetas = (
                    np.frombuffer(bits.bytes(k * p * net.dtype.itemsize), net.dtype).reshape(k, p)
                    for _ in range(2)
                )
                costs = np.frombuffer(bits.bytes(k * n * 8), np.float64).reshape(k, n)
                odd = Block(columns, starts, thetas, block.points, costs)
                keys = [bits.bytes(16) for _ in range(k)]
                writer.add(keys, places, odd)
                result.add(places, odd)
                asked = [*range(k), 0]
                known, again = writer.get([*keys, bytes(16)], places[asked], starts[asked])
                assert known.tolist() == [True] * k + [False]
                for name in COLUMNS:
                    assert again.columns[name].tobytes() == columns[name].tobytes()
                assert again.thetas.tobytes() == thetas.tobytes()
                assert again.costs.tobytes() == costs.tobytes()
        found = open_comparison(path)
        ours, theirs = result.columns(), found.columns()
        for name in ("place", *COLUMNS):
            assert ours[name].tobytes() == theirs[name].tobytes(), name
        for places, block in result._blocks:
            for own, stored in found._blocks:
                _, mine, others = np.intersect1d(places, own, return_indices=True)
                for name in ("starts", "thetas", "costs") if len(mine) else ():
                    given, read = getattr(block, name)[mine], getattr(stored, name)[others]
                    assert given.tobytes() == read.tobytes()
        assert [*map(repr, found.cells)] == [*map(repr, result.cells)]
        assert repr(found.data.training) == repr(result.data.training)
        assert repr(found.settings) == repr(result.settings)
        assert_array_equal(found.X, result.X)


def test_functions_are_replaced_by_their_names(compared, path):
    import math

    compared(
        schemes={"own": fi.initializers.zeros},
        learning_rate=[math.exp],
        iterations=0,
        callback=None,
    )
    rate = open_comparison(path).cells[0].learning_rate
    assert repr(rate) == repr(math.exp)
    with pytest.raises(ValueError, match="expected the function; a store has only its name"):
        rate(3)


def test_the_reference_has_the_same_store(path):
    """The slow twin writes and reads stores as well."""
    environment = os.environ | {"FASTINIT_KERNELS": "reference"}
    body = """
    first = grid(sys.argv[1], seed=range(2), learning_rate=[0.1])
    found = open_comparison(sys.argv[1])
    print(len(found), (first.columns()["final_cost"] == found.columns()["final_cost"]).all())
    """
    out, err = script(body.replace("1500", "5"), path, env=environment).communicate()
    assert out == "4 True\n", err


# --- invalid and unwritable stores ---------------------------------------------------------------


def other_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (key)")
    connection.close()


def other_version(path):
    Store(path).close()
    changed(path, "PRAGMA user_version = 1")


FILES = {
    "text": (lambda path: path.write_text("no database" * 100), "file is not a database"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 40), "file is not a database"),
    "database": (other_database, "expected a fastinit store; got another database"),
    "version": (other_version, "store: expected version 2; got 1 in"),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_not_changed(compared, path, case):
    make, message = FILES[case]
    make(path)
    before = path.read_bytes()
    target = path.with_name("all.sqlite")
    for use in (compared, lambda: open_comparison(path), lambda: merge([path], target)):
        with pytest.raises(ValueError, match=message):
            use()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]


def test_an_empty_file_becomes_a_store(compared, path):
    path.touch()
    assert compared()[1] == 6
    assert compared()[1] == 0


@pytest.mark.parametrize("name", ["", ":memory:", "file:x", "FILE:x?mode=memory", "a\0b"])
def test_names_that_sqlite_does_not_take_for_a_file(compared, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: compared(store=name), lambda: open_comparison(name)):
        with pytest.raises(ValueError, match="store: expected the name of a file; got"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["a?mode=memory.sqlite", "b#c.sqlite", "d%41.sqlite", "\u20ac.sqlite"]
)
def test_any_other_name_is_that_of_a_file(compared, name, path):
    compared(store=path.with_name(name))
    assert [each.name for each in path.parent.iterdir()] == [name]
    assert len(open_comparison(path.with_name(name))) == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="requires POSIX")
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files(compared, path, kind):
    if kind == "fifo":
        os.mkfifo(path)
    name = {"fifo": path, "folder": path.parent, "device": "/dev/null"}[kind]
    for use in (lambda: compared(store=name), lambda: open_comparison(name)):
        with pytest.raises(ValueError, match="store: expected a regular file; got"):
            use()


def test_a_path_of_another_type(compared):
    with pytest.raises(TypeError, match="store: expected a str or a path; got int"):
        compared(store=5)


DAMAGED = (
    "runs SET outcome = zeroblob(length(outcome))",
    "runs SET outcome = zeroblob(length(outcome) - 1)",
    "runs SET outcome = x''",
    "runs SET outcome = CAST(outcome AS TEXT)",
    "runs SET outcome = 5",
    "runs SET outcome = (SELECT outcome FROM runs AS other WHERE other.id <> runs.id)",
    "runs SET seed = NULL",
    "runs SET seed = seed + 7",
    "runs SET seed = CAST(seed AS TEXT)",
    "runs SET seed = CAST(seed AS REAL)",
    "runs SET seed = x'00'",
    "runs SET setting = 3 - setting",
    "runs SET setting = 'text'",
    "runs SET comparison = 2",
    "runs SET comparison = 1.5",
    "runs SET checksum = 0",
    "runs SET checksum = 'text'",
    "runs SET checksum = checksum + 0.5",
    "runs SET id = id + 100",
    "arrays SET theta = x'0000000000000000'",
    "arrays SET theta = zeroblob(length(theta))",
    "arrays SET theta = 5",
    "arrays SET costs = 'text'",
    "arrays SET costs = theta, theta = costs",
    "arrays SET start = theta, theta = start",
    "arrays SET parameters_checksum = 0, costs_checksum = 0",
    "arrays SET parameters_checksum = 'text', costs_checksum = x'00'",
    "arrays SET run = run + 100",
)
MESSAGE = r"store: expected complete rows; got \d+ damaged in the table {} of .*runs.sqlite: \d+"


@pytest.mark.parametrize("change", DAMAGED)
def test_a_damaged_row_is_an_error(compared, path, change, tmp_path):
    compared()
    changed(path, f"UPDATE {change}")
    table = change.split()[0]
    moved = "SET id" in change or "SET run" in change
    message = MESSAGE.format(table if not moved else "(runs|arrays|members)").replace(
        r": \d+", r": .*\d+"
    )
    if "SET id" not in change:
        with pytest.raises(ValueError, match=message):
            compared()

    def read():
        found = open_comparison(path)
        for trial in found.trials:
            assert len(trial.costs) == 40

    with pytest.raises(ValueError, match=message):
        read()
    target = tmp_path / "all.sqlite"
    with pytest.raises(ValueError, match=message):
        merge([path], target)
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        "members SET places = zeroblob(length(places))",
        "members SET runs = 'text'",
        "members SET checksum = 0",
        "comparisons SET description = '{}'",
        "comparisons SET cells = cells + 1",
        "comparisons SET called = '2000'",
        "comparisons SET codes = x'00'",
        "tensors SET content = zeroblob(length(content))",
        "tensors SET content = 'text'",
        "tensors SET shape = '[1]'",
        "tensors SET dtype = '<f4'",
        "tensors SET dtype = 'O'",
        "tensors SET digest = x'00'||digest",
    ],
)
def test_a_damaged_comparison_is_an_error(compared, path, change, tmp_path):
    compared()
    changed(path, f"UPDATE {change}")
    message = f"store: expected complete rows; got 1 damaged in the table {change.split()[0]} of"
    with pytest.raises(ValueError, match=message):
        open_comparison(path)
    with pytest.raises(ValueError, match=message):
        merge([path], tmp_path / "all.sqlite")


def test_a_row_of_another_run_is_an_error(compared, path):
    """The checksum includes the key: rows whose keys were exchanged are found out."""
    compared(schemes="he_normal", seed=[0, 1])
    connection = sqlite3.connect(path)
    with connection:
        one, two = (key for (key,) in connection.execute("SELECT key FROM runs"))
        for old, new in ((one, b"other"), (two, one), (b"other", two)):
            connection.execute("UPDATE runs SET key = ? WHERE key = ?", (new, old))
    connection.close()
    with pytest.raises(ValueError, match=MESSAGE.format("runs")):
        compared(schemes="he_normal", seed=[0, 1])
    with pytest.raises(ValueError, match=MESSAGE.format("runs")):
        open_comparison(path)


@pytest.mark.parametrize(
    "change", ["DROP COLUMN seed", "RENAME COLUMN seed TO start", "ADD COLUMN more"]
)
def test_a_damaged_table_is_an_error(compared, path, change):
    compared()
    changed(path, f"ALTER TABLE runs {change}")
    with pytest.raises(ValueError, match="store: expected the table runs of version 2; got a"):
        compared()


def test_people_may_add_views_and_indexes(compared, path):
    compared()
    changed(path, "CREATE VIEW mine AS SELECT 1", "CREATE INDEX by_seed ON runs (seed)", "ANALYZE")
    assert compared()[1] == 0


@pytest.fixture
def damage(compared, path, tmp_path):
    """Check what becomes of a store of one comparison if its bytes are changed.

    It must be an error that names the store, or else the numbers that were written: fewer runs if
    it is only read, all of them if it is compared again.
    """
    grid = {"seed": range(20), "iterations": 4, "callback": None, "schemes": ["he_normal", "zeros"]}
    whole, _ = compared(**grid)
    content = path.read_bytes()

    def runs_of(comparison):
        names = [name for name in COLUMNS if name != "seconds"]
        columns = comparison.columns()
        return {
            int(place): (
                *(columns[name][i].tobytes() for name in names),
                *(getattr(trial, name).tobytes() for name in ("start", "theta", "costs")),
            )
            for i, (place, trial) in enumerate(
                zip(columns["place"], comparison.trials, strict=True)
            )
        }

    expected = runs_of(whole)

    def merged():
        target = tmp_path / "merged.sqlite"
        target.unlink(missing_ok=True)
        merge([path], target)
        return open_comparison(target)

    def check(damaged):
        outcomes, messages = [], []
        for use in (lambda: open_comparison(path), lambda: compared(**grid)[0], merged):
            for suffix in ("-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            path.write_bytes(damaged)
            try:
                found = runs_of(use())
            except (ValueError, OSError) as error:
                messages += str(error).splitlines()
                outcomes.append("error")
                continue
            assert found.items() <= expected.items()
            outcomes.append("all" if len(found) == len(expected) else "fewer")
        assert all(message.startswith("store: ") for message in messages)
        assert outcomes[1] != "fewer", "a comparison is finished"
        return outcomes

    assert check(content) == ["all"] * 3
    return content, check


def test_flipped_bits(damage):
    """In half of the trials, they are where SQLite keeps its structures."""
    content, check = damage
    draw, outcomes = random.Random(0), []
    for i in range(40):
        damaged = bytearray(content)
        place = draw.randrange(len(content) // 4096) * 4096 + draw.randrange(40 if i % 2 else 4096)
        damaged[place] ^= 1 << draw.randrange(8)
        outcomes.append(check(damaged)[0])
    # Bits that are not used change nothing.
    assert outcomes.count("error") > 10
    assert outcomes.count("all") > 4


def test_every_bit_of_a_run_counts(damage, path):
    """Wherever a bit of its numbers, parameters or costs flips, it is found out."""
    content, check = damage
    query = "SELECT outcome, costs, theta FROM runs JOIN arrays ON run = id WHERE seed = 7"
    draw = random.Random(0)
    for cells in rows(path, query):
        for cell in cells:
            # SQLite leaves copies behind when it moves rows to other pages.
            places = [at for at in range(len(content)) if content.startswith(cell, at)]
            damaged, (byte, bit) = bytearray(content), divmod(draw.randrange(8 * len(cell)), 8)
            for place in places:
                damaged[place + byte] ^= 1 << bit
            assert check(damaged) == ["error"] * 3


def test_pages_that_are_exchanged(damage):
    """Rows whose order is not that of their ids are not taken for each other."""
    content, check = damage
    # The first page is the header of the file.
    pages = range(4096, len(content) - 4096, 4096)
    outcomes = []
    for one, two in random.Random(0).sample(list(combinations(pages, 2)), 25):
        damaged = bytearray(content)
        damaged[one : one + 4096] = content[two : two + 4096]
        damaged[two : two + 4096] = content[one : one + 4096]
        outcomes += check(damaged)
    assert outcomes.count("error") > 25


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.999])
def test_a_file_that_was_cut_off(damage, share):
    content, check = damage
    length = int(len(content) * share)
    outcomes = check(content[:length])
    if length:
        assert outcomes == ["error"] * 3


def test_no_such_folder(compared, path):
    with pytest.raises(OSError, match=r"store: expected a file to read and write; got .*absent"):
        compared(store=path.parent / "absent" / "runs.sqlite")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="requires POSIX permissions")
def test_read_only(compared):
    """Refused before the training; the runs in the store are kept, and can be read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "runs.sqlite"
        result, _ = compared(store=path)
        before = path.read_bytes()
        path.chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        # The superuser may write everywhere, so the test runs as another user.
        os.seteuid(65534 if user == 0 else user)
        try:
            for each in (path, folder / "new.sqlite"):
                with pytest.raises(OSError, match="store: expected a file to read and write; got "):
                    compared(store=each, seed=range(9))
            same(result, open_comparison(path))
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
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        grid(sys.argv[1])
    except OSError as error:
        print(error)
    """
    out, err = script(body, path).communicate()
    assert out.startswith(f"store: expected a file to read and write; got {path}: "), err
    kept = len(open_comparison(path))
    assert 0 < kept < 60
    out, err = script("print(len(grid(sys.argv[1])))", path).communicate()
    assert out == "60\n", err


# --- merging --------------------------------------------------------------------------------------


@pytest.fixture
def shards(compared, tmp_path):
    """Three shards of one comparison, and the whole."""
    paths = [tmp_path / f"{i}.sqlite" for i in (1, 2, 3)]
    for i, path in enumerate(paths, start=1):
        compared(store=path, shard=(i, 3), seed=range(7))
    return paths, compared(store=None, seed=range(7))[0]


def equal(one, two):
    """Assert that two comparisons are the same apart from the time of their runs."""
    assert len(one) == len(two)
    for name in ("place", *COLUMNS):
        if name != "seconds":
            assert_array_equal(one.columns()[name], two.columns()[name])
    for mine, other in zip(one.trials, two.trials, strict=True):
        assert_array_equal(mine.theta, other.theta)
        assert_array_equal(mine.costs, other.costs)


def test_shards_become_one_comparison(shards, compared, tmp_path):
    paths, whole = shards
    before = [path.read_bytes() for path in paths]
    target = tmp_path / "all.sqlite"
    assert merge(paths, target) == 14
    equal(open_comparison(target), whole)
    assert merge(paths, target) == 0
    assert merge([target], tmp_path / "copy.sqlite") == 14
    equal(open_comparison(tmp_path / "copy.sqlite"), whole)
    assert compared(store=target, seed=range(7))[1] == 0
    assert [path.read_bytes() for path in paths] == before
    assert len(rows(target, "SELECT id FROM runs")) == 14


def test_stores_of_several_comparisons(compared, tmp_path):
    one, two, target = (tmp_path / f"{name}.sqlite" for name in ("one", "two", "all"))
    first, _ = compared(store=one, seed=range(2))
    more, _ = compared(store=one, seed=range(4))
    compared(store=two, seed=range(3), learning_rate=[0.1, 0.2])
    compared(store=two, seed=range(3))
    compared(store=target, schemes="he_normal")
    assert merge([one, two], target) == 8 + 12
    found = {row["cells"]: row["number"] for row in comparisons(target)}
    assert sorted(found) == [3, 4, 6, 8, 12]
    equal(open_comparison(target, found[4]), first)
    equal(open_comparison(target, found[8]), more)
    assert all(row["cells"] == row["runs"] for row in comparisons(target))


def test_damaged_sources(shards, tmp_path):
    paths, whole = shards
    target = tmp_path / "all.sqlite"
    changed(paths[1], "UPDATE runs SET seed = 99 WHERE id = 1")
    changed(paths[2], "UPDATE arrays SET theta = costs WHERE run IN (2, 3)")
    with pytest.raises(ValueError, match="store: expected complete rows") as raised:
        merge(paths, target)
    assert str(raised.value).splitlines() == [
        f"store: expected complete rows; got 1 damaged in the table runs of {paths[1]}: 1",
        f"store: expected complete rows; got 2 damaged in the table arrays of {paths[2]}: 2, 3",
    ]
    assert not target.exists()
    assert merge(paths, target, skip_damaged=True) == 11
    found = open_comparison(target)
    assert len(found) == 11
    for trial in found.trials:
        assert_array_equal(trial.theta, whole.trials[list(whole.cells).index(trial.cell)].theta)


def test_invalid_merges(shards, path, tmp_path):
    paths, _ = shards
    path.write_text("no database" * 100)
    before = path.read_bytes()
    link = tmp_path / "link.sqlite"
    link.symlink_to(paths[0])
    for sources, target, message in (
        (paths, paths[0], "target: expected another file than the sources"),
        (paths, link, "target: expected another file than the sources"),
        ([*paths, path], tmp_path / "new.sqlite", "store: expected a fastinit store"),
        (paths, path, "store: expected a fastinit store"),
        ([], path, "sources: expected at least one store; got none"),
        (paths, ":memory:", "store: expected the name of a file"),
        ([tmp_path], path, "store: expected a regular file"),
    ):
        with pytest.raises(ValueError, match=message):
            merge(sources, target)
    with pytest.raises(FileNotFoundError, match="store: expected a file"):
        merge([tmp_path / "absent.sqlite"], tmp_path / "new.sqlite")
    with pytest.raises(TypeError, match="sources: expected several paths"):
        merge(str(paths[0]), path)
    assert path.read_bytes() == before
    assert not (tmp_path / "new.sqlite").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="requires POSIX signals")
def test_a_merge_that_is_killed_is_completed_by_another(shards, tmp_path):
    paths, whole = shards
    body = """
    import os, signal
    from fastinit.comparison import store
    count, add_runs = 0, store.Store.add_runs
    def killed(*arguments):
        global count
        count += 1
        ids = add_runs(*arguments)
        if count == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return ids
    store.Store.add_runs = killed
    store.MOST_ROWS = 2
    merge(sys.argv[3:], sys.argv[2])
    """
    for at in (1, 3, 6):
        target = tmp_path / f"all{at}.sqlite"
        child = script(body, at, target, *paths)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        with Store(target) as opened:
            partial = len(opened)
        assert partial < 14
        assert merge(paths, target) == 14 - partial
        equal(open_comparison(target), whole)
