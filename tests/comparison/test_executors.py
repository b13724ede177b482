"""Where runs are trained changes nothing about them, and nothing that is finished is lost."""

import os
import pickle
import signal
import sys
import types
import warnings
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_all_start_methods, get_context

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from schedules import Killing

import fastinit as fi
from fastinit.comparison import runner, trials

SETTINGS = {
    "schemes": ["he_normal", "lesson.random"],
    "seed": range(6),
    "optimizer": ["sgd", "adam"],
    "batch_size": [None, 64],
    "iterations": 60,
    "target_cost": 0.6,
    "target_accuracy": 0.7,
}


class Failing:
    """A schedule whose training needs more memory than there is."""

    def __call__(self, iteration):
        raise MemoryError("no memory for this run")

    def __repr__(self):
        return "Failing()"


class Copying(Executor):
    """Runs each task at once, after a round trip through pickle, as a remote worker would."""

    def __init__(self, _max_workers=None):
        self.submitted = 0

    def submit(self, function, /, *args, **kwargs):
        self.submitted += 1
        function, args, kwargs = pickle.loads(pickle.dumps((function, args, kwargs)))
        future = Future()
        try:
            future.set_result(pickle.loads(pickle.dumps(function(*args, **kwargs))))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def compared(circles):
    """A function that compares with the settings above, and others in their place."""
    X, Y, X_test, Y_test = circles

    def compare(**more):
        keywords = SETTINGS | more
        schemes = keywords.pop("schemes")
        net = keywords.pop("network", fi.Network([2, 4, 1]))
        return fi.compare(X, Y, net, schemes, test=(X_test, Y_test), **keywords)

    return compare


def assert_same(found, expected):
    """The runs are the same to the bit, but for the time that they took; each is there once."""
    ours, theirs = found.columns(), expected.columns()
    assert_array_equal(ours["place"], np.arange(len(expected.cells)))
    for name in trials.COLUMNS:
        if name != "seconds":
            assert_array_equal(ours[name], theirs[name], err_msg=name)
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_array_equal(x, y, strict=True)


def arrays(result):
    """The starts, thetas, and cost curves of all runs, in the order of the grid."""
    rows = {}
    for places, block in result._blocks:
        for place, *row in zip(places, block.starts, block.thetas, block.costs, strict=True):
            rows[int(place)] = row
    return list(zip(*[rows[place] for place in sorted(rows)], strict=True))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_pool(compared, method):
    if method not in get_all_start_methods():
        pytest.skip(f"{method} does not exist here")
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        found = compared(executor=pool)
        assert pool.submit(int, "3").result() == 3, "it was not shut down"
    assert_same(found, compared())


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_threads(compared, threads):
    assert_same(compared(threads=threads), compared(callback=lambda scheme, run: None))


def test_thread_pool(compared):
    with ThreadPoolExecutor(3) as pool:
        assert_same(compared(executor=pool), compared())
        assert pool.submit(int, "3").result() == 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        compared(executor=pool)


def test_any_executor(compared):
    """Anything with the interface of concurrent.futures.Executor; the tasks pickle."""
    executor = Copying()
    assert_same(compared(executor=executor), compared())
    assert executor.submitted >= 4


def test_loky(compared):
    loky = pytest.importorskip("loky")
    executor = loky.get_reusable_executor(2)
    try:
        found = compared(executor=executor, learning_rate=lambda i: 0.1 / (i + 1))
        expected = compared(learning_rate=lambda i: 0.1 / (i + 1))
    finally:
        executor.shutdown()
    assert_same(found, expected)


@pytest.fixture(scope="module")
def client():
    """A client of Dask with two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        warnings.simplefilter("ignore")
        yield client


def test_dask_with_a_worker_that_is_killed(compared, client):
    """Its tasks are done again by the other worker: nothing is lost, and nothing is there twice."""
    settings = {"seed": range(16), "iterations": 1500}
    expected = compared(**settings)
    killed = []

    def kill(result):
        if not killed:
            assert len(result) < len(result.cells)
            pid = next(iter(client.run(os.getpid).values()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    found = compared(executor=client, progress=kill, **settings)
    assert killed
    assert_same(found, expected)
    assert client.submit(int, "3").result() == 3


def test_dask_client_or_its_executor(compared, client):
    expected = compared()
    assert_same(compared(executor=client), expected)
    assert_same(compared(executor=client.get_executor(pure=False)), expected)


def test_dask_error_of_a_task(compared, client):
    def failing(iteration):  # local functions are sent by value
        raise MemoryError("no memory for this run")

    with pytest.raises(MemoryError, match="no memory for this run"):
        compared(executor=client, optimizer="sgd", learning_rate=failing)
    assert client.submit(int, "3").result() == 3


@pytest.fixture
def nowhere(monkeypatch):
    """A function of a module that this process has and other processes cannot import."""
    module = types.ModuleType("nowhere_else")
    exec("def constant(i): return 0.1", module.__dict__)
    monkeypatch.setitem(sys.modules, "nowhere_else", module)
    return module.constant


@pytest.mark.parametrize("name", ["shuffle", "learning_rate", "optimizer"])
def test_dask_workers_that_cannot_import_a_function(compared, client, nowhere, name):
    keywords = {name: nowhere}
    if name == "optimizer":
        keywords, name = {"optimizer": [fi.Adam(), fi.Adam(nowhere)]}, "learning_rate"
    with pytest.raises(TypeError, match=f"^{name}: .* can import; .* No module named 'nowhere"):
        compared(executor=client, **keywords)
    assert client.submit(int, "3").result() == 3


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_cannot_import_a_function(compared, nowhere, method):
    if method not in get_all_start_methods():
        pytest.skip(f"{method} does not exist here")
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        with pytest.raises(TypeError, match=r"^learning_rate: .* No module named 'nowhere_else'"):
            compared(executor=pool, learning_rate=nowhere)
        assert pool.submit(int, "3").result() == 3


@pytest.mark.parametrize("executor", [3, "processes", object(), ProcessPoolExecutor])
def test_not_an_executor(compared, executor):
    name = type(executor).__name__
    with pytest.raises(TypeError, match=f"executor: expected a concurrent.futures.* got {name}"):
        compared(executor=executor)


def test_no_import_of_dask():
    code = "import sys, fastinit; sys.exit(int('distributed' in sys.modules))"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-P", "-c", code]) == 0


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("shuffle", {"shuffle": lambda epoch: np.arange(300)}),
        ("learning_rate", {"learning_rate": [0.1, lambda i: 0.1]}),
        ("learning_rate", {"optimizer": fi.Adam(lambda i: 0.1)}),
    ],
)
def test_what_cannot_be_sent(compared, name, keywords):
    executor = Copying()
    with pytest.raises(TypeError, match=f"^{name}: expected functions that can be pickled"):
        compared(executor=executor, **keywords)
    assert executor.submitted == 0


def test_error_of_a_task_keeps_what_is_finished(compared):
    """The error is that of the run; its attribute has the runs that were finished before it."""
    for executor in (Copying(), None):
        with pytest.raises(MemoryError, match="no memory for this run") as caught:
            compared(
                executor=executor, optimizer="sgd", batch_size=None, threads=1,
                learning_rate=[0.1, 0.2, 0.3, Failing()],
            )  # fmt: skip
        result = caught.value.result
        assert 0 < len(result) < len(result.cells) == 48
        assert f"{len(result)} of 48 runs are finished" in caught.value.__notes__[0]
        rates = {result.cells[place].learning_rate for place in result.columns()["place"]}
        assert rates <= {0.1, 0.2, 0.3}


def test_killed_process(compared):
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(BrokenExecutor, match="terminated abruptly") as caught,
    ):
        compared(
            executor=pool, optimizer="sgd", batch_size=None,
            learning_rate=[0.1, 0.2, 0.3, Killing()],
        )  # fmt: skip
    result = caught.value.result
    assert 0 < len(result) < 48
    expected = compared(optimizer="sgd", batch_size=None, learning_rate=[0.1, 0.2, 0.3])
    thetas = dict(zip(expected.cells, arrays(expected)[1], strict=True))
    for place, theta in zip(result.columns()["place"], arrays(result)[1], strict=True):
        assert_array_equal(theta, thetas[result.cells[place]])


def test_errors_of_callables_of_the_user(compared):
    def fail(*_):
        raise LookupError("a mistake of the user")

    for name in ("progress", "callback"):
        with pytest.raises(LookupError, match="a mistake of the user") as caught:
            compared(**{name: fail})
        assert (len(caught.value.result) > 0) == (name == "progress")


@pytest.mark.parametrize("name", ["progress", "callback"])
def test_callables_are_called_in_the_calling_thread(compared, name):
    import threading

    seen = set()
    compared(**{name: lambda *_: seen.add(threading.get_ident()) and None})
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("name", ["progress", "callback"])
def test_keyboard_interrupt_of_a_callable(compared, name):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(fi.Interrupted, match="of 48 runs finished") as caught:
        compared(**{name: interrupt})
    result = caught.value.result
    assert (len(result) > 0) == (name == "progress")
    assert (result.columns()["iterations"] == 60).all()


def test_interrupt_leaves_the_executor_usable(interrupt):
    finished, active = interrupt("""
        import time
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_all_start_methods, get_context
        import fastinit as fi
        X, Y, _, _ = fi.lesson.load_dataset()
        net = fi.Network([2, 10, 5, 1])
        said = []
        def say(comparison):
            if not said:
                said.append(print("ready", flush=True))
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            try:
                fi.compare(
                    X, Y, net, "he_normal", seed=range(10_000), iterations=2000, progress=say,
                    executor=pool,
                )
            except fi.Interrupted as stop:
                print(time.time())
                assert (stop.result.columns()["iterations"] == 2000).all()
                print(len(stop.result))
                print(pool.submit(int, "3").result())
    """)
    assert int(finished) >= 1
    assert int(active) == 3


def test_other_version_is_refused(compared, monkeypatch):
    class Older(Copying):
        def submit(self, function, /, *args):
            if function is trials.run_elsewhere:
                assert args[-1] == fi.__version__
                args = (*args[:-1], "0.0.1")
            return super().submit(function, *args)

    with pytest.raises(RuntimeError, match=r"executor: expected fastinit 0\.0\.1 in its workers"):
        compared(executor=Older())


def test_other_level_is_a_warning(compared, monkeypatch):
    monkeypatch.setattr(runner, "level", "another_level")
    with pytest.warns(UserWarning, match="executor: expected workers with the kernels another_l"):
        found = compared(executor=Copying())
    assert_same(found, compared())


def test_data_are_the_data_of_the_call(compared, circles):
    """A task has a copy of the data: what a progress callable writes to changes nothing."""
    X, Y, _, _ = (each.copy() for each in circles)
    net, keywords = fi.Network([2, 4, 1]), {"seed": range(30), "iterations": 50}
    expected = fi.compare(X, Y, net, "he_normal", **keywords)

    def spoil(_):
        X[:], Y[:] = 0, 0

    assert_same(
        fi.compare(X, Y, net, "he_normal", executor=Copying(), progress=spoil, **keywords), expected
    )


def test_without_threads(few_threads, compared):
    assert_same(compared(threads=3), compared(threads=1))
