import re
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.comparison import runner
from fastinit.comparison.trials import Block
from fastinit.training import progress


def test_every_scheme_starts_alike(net, circles):
    """The results do not depend on the order of the schemes; the global state is unchanged."""
    X, Y, _, _ = circles
    before = np.random.get_state()
    first = fi.compare(X, Y, net, ["lesson.random", "lesson.he", "zeros"], iterations=20)
    second = fi.compare(X, Y, net, ["zeros", "lesson.random", "lesson.he"], iterations=20)
    after = np.random.get_state()
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    for scheme in ("zeros", "lesson.random", "lesson.he"):
        assert_array_equal(first.starts[scheme], second.starts[scheme])
        assert_array_equal(first.runs[scheme].costs, second.runs[scheme].costs)
    assert_array_equal(first.starts["lesson.he"], net.initialize("lesson.he", seed=3))
    assert_array_equal(first.starts["lesson.random"], net.initialize("lesson.random"))
    assert_array_equal(first.runs["zeros"].theta[:20], np.zeros(20))


def test_seed_is_that_of_every_scheme(net, circles):
    X, Y, _, _ = circles
    result = fi.compare(
        X, Y, net, ["lesson.he", "lesson.random", "he_normal"], seed=8, iterations=1
    )
    for scheme in result.runs:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=8))


def test_callback_names_the_scheme(net, circles):
    seen = []
    fi.compare(
        *circles[:2], net, ["zeros", "lesson.he"], iterations=10,
        callback=lambda scheme, run: seen.append((scheme, run.iterations)),
    )  # fmt: skip
    assert [scheme for scheme, _ in seen if scheme == "zeros"]
    assert seen[-1] == ("lesson.he", 10)


def test_bad_test_data(net, circles):
    X, Y, X_test, Y_test = circles
    with pytest.raises(
        ValueError, match=r"Y_test: expected shape \(100,\) or \(1, 100\) to match X_test"
    ):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test, Y_test[0, 1:]))
    with pytest.raises(ValueError, match=r"X_test: expected shape \(2, n_examples\)"):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test.T, Y_test))
    for bad, error, got in (
        (5, TypeError, "int"),
        (X_test, TypeError, "ndarray"),
        ("ab", TypeError, "str"),
        ((), ValueError, "0 entries"),
        ((X_test, Y_test, None), ValueError, "3 entries"),
    ):
        message = re.escape(f"test: expected a pair (X_test, Y_test); got {got}")
        with pytest.raises(error, match=f"^{message}$"):
            fi.compare(X, Y, net, ["lesson.he"], test=bad)
    with pytest.raises(TypeError, match="Y_test: expected real numbers; got dtype object"):
        fi.compare(X, Y, net, ["lesson.he"], test=(X_test, None))


def test_not_a_network(circles):
    with pytest.raises(TypeError, match="network: expected a Network; got list"):
        fi.compare(*circles[:2], [2, 1], ["lesson.he"])


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_generator_is_one_seed_for_all(net, circles, kind):
    """One 64-bit integer is drawn, which reproduces the runs."""
    generator, twin = kind(0), kind(0)
    schemes = ["he_normal", "lesson.he", "lesson.random"]
    result = fi.compare(*circles[:2], net, schemes, iterations=5, seed=generator)
    draw = getattr(twin, "integers", None) or twin.randint
    seed = int(draw(2**64, dtype=np.uint64))
    assert seed >= 2**32
    assert generator.bytes(8) == twin.bytes(8), "nothing else was drawn"
    assert {cell.seed for cell in result.cells} == {seed}
    assert result.settings["seed"] == seed
    again = fi.compare(*circles[:2], net, schemes, iterations=5, seed=seed)
    assert list(again.cells) == list(result.cells)
    for scheme in schemes:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=seed))
        assert_array_equal(result.runs[scheme].theta, again.runs[scheme].theta)
    # As every initialiser fills from such a generator.
    assert_array_equal(result.starts["he_normal"], net.initialize("he_normal", seed=kind(0)))


def test_interrupt_keeps_finished_runs(interrupt):
    finished, threads = interrupt("""
        import threading, time
        import fastinit as fi
        X, Y, _, _ = fi.lesson.load_dataset()
        net = fi.Network([2, 10, 5, 1])
        said = []
        def say(comparison):
            if not said:
                said.append(print("ready", flush=True))
        try:
            fi.compare(X, Y, net, ["lesson.he"], seed=range(10_000), iterations=2000, progress=say)
        except fi.Interrupted as stop:
            print(time.time())
            assert (stop.result.columns()["iterations"] == 2000).all()
            assert f"{len(stop.result)} of 10000 runs finished" in str(stop)
            print(len(stop.result))
            print(threading.active_count())
    """)
    assert int(finished) >= 1
    assert int(threads) == 1


def test_seconds_are_a_share_of_the_stack(net, circles):
    before = perf_counter()
    result = fi.compare(*circles[:2], net, ["lesson.he"], seed=range(40), iterations=500, threads=1)
    spent = perf_counter() - before
    assert 0 < result.columns()["seconds"].sum() < spent


@pytest.mark.parametrize("name", ["callback", "progress"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_changing_the_data_changes_no_run(circles, dtype, name):
    """Callables that write to the arrays that were given do not affect the runs."""
    net = fi.Network([2, 4, 1], dtype=dtype)
    X, Y, X_test, Y_test = (np.array(each, dtype) for each in circles)
    given = [X, Y, X_test, Y_test, np.ones(300), np.arange(300), X.copy(), Y.copy()]

    def compared(**more):
        X, Y, X_test, Y_test, weight, order, X_val, Y_val = given
        return fi.compare(
            X, Y, net, "he_normal", test=(X_test, Y_test), seed=range(3), iterations=60, threads=1,
            sample_weight=weight, shuffle=order, validation=(X_val, Y_val), **more,
        )  # fmt: skip

    def spoil(*_):
        for each in given:
            each[...] = 0

    expected = compared().columns()
    spoilt = compared(**{name: spoil})
    assert not given[0].any()
    for column, values in spoilt.columns().items():
        if column != "seconds":
            assert_array_equal(values, expected[column], err_msg=column)
    with pytest.raises(ValueError, match="read-only"):
        spoilt.X[:] = 0


def test_callback_ends_a_run_and_no_other(net, circles):
    result = fi.compare(
        *circles[:2], net, ["lesson.he", "zeros"], seed=[0, 1], iterations=5000,
        callback=lambda scheme, run: scheme == "lesson.he",
    )  # fmt: skip
    done = result.columns()["iterations"].reshape(2, 2)
    assert (done[0] < 5000).all()
    assert (done[1] == 5000).all()
    assert list(result.curves()) == ["zeros"]


def test_progress_sees_all_finished_runs(net, circles):
    seen = []
    result = fi.compare(
        *circles[:2], net, ["lesson.he", "zeros"], seed=range(30), iterations=10,
        progress=lambda so_far: seen.append((len(so_far), len(so_far.summary()))),
    )  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == (len(result), 2) == (60, 2)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"iterations": -1}, ValueError, "iterations: expected an integer from 0 to 2**48 - 1"),
        ({"iterations": 1.5}, TypeError, "iterations: expected an integer; got float"),
        ({"iterations": 1, "epochs": 1}, TypeError, "epochs: pass either epochs or iterations"),
        ({"epochs": -1}, ValueError, "epochs: expected an integer from 0"),
        ({"epochs": 2**47, "batch_size": 1}, ValueError, "epochs: expected an integer from 0"),
        ({"threads": 0}, ValueError, "threads: expected an integer from 1 to "),
        ({"threads": "2"}, TypeError, "threads: expected an integer; got str"),
        ({"target_cost": np.inf}, ValueError, "target_cost: expected a finite number; got inf"),
        ({"target_cost": "low"}, TypeError, "target_cost: expected a number; got str"),
        ({"target_accuracy": 1.1}, ValueError, "target_accuracy: expected 0 < accuracy <= 1"),
        ({"callback": 5}, TypeError, "callback: expected a callable; got int"),
        ({"progress": 5}, TypeError, "progress: expected a bool or a callable; got int"),
        ({"progress": None}, TypeError, "progress: expected a bool or a callable; got NoneType"),
        ({"schemes": ["zeros", "dirac"]}, ValueError, "expected 3 to 5 axes"),
        ({"shuffle": [1, 2]}, ValueError, "shuffle: expected shape (300,); got (2,)"),
        ({"sample_weight": [1]}, ValueError, "sample_weight: expected shape (300,)"),
        ({"class_weight": "fair"}, ValueError, "class_weight: expected a dict or 'balanced'"),
        ({"validation": 3}, TypeError, "validation: expected a pair (X of validation, Y of"),
        ({"validation": ([[1.0]], [1])}, ValueError, "X of validation: expected shape (2, n_ex"),
        ({"validate_every": 3}, ValueError, "validate_every: expected validation data as well"),
        ({"monitor": "score"}, ValueError, "monitor: expected validation data with 'score'"),
        ({"tol": -1}, ValueError, "tol: expected finite and >= 0"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change: expected an integer from 1"),
    ],
)
def test_bad_settings(net, circles, tmp_path, keywords, error, message):
    """They are refused before anything is trained or written."""
    seen = []
    arguments = {"schemes": "he_normal", "callback": lambda scheme, run: seen.append(scheme)}
    with pytest.raises(error, match=re.escape(message)):
        fi.compare(*circles[:2], net, store=tmp_path / "runs.sqlite", **arguments | keywords)
    assert not seen
    assert not list(tmp_path.iterdir())


# --- stacks ---------------------------------------------------------------------------------------


def test_stacks_cover_the_grid(circles):
    """Each cell once; one network, batch size and class of optimisers in a stack."""
    result = fi.compare(
        *circles[:2], fi.Network([2, 3, 1]), ["zeros", "he_normal"], seed=range(4), width=[2, 3],
        optimizer=["sgd", fi.GradientDescent(l2=1.0), "adam"], batch_size=[None, 9], iterations=0,
    )  # fmt: skip
    cells = result.cells
    for most in (0, 1, 5, 10**6):
        stacks = runner._stacks(result, np.arange(len(cells))[::-1], most)
        assert_array_equal(np.sort(np.concatenate(stacks)), np.arange(len(cells)))
        assert max(map(len, stacks)) == max(1, min(most, 16))
        for stack in stacks:
            kinds = {
                (cells[i].network, cells[i].batch_size, type(cells[i].optimizer)) for i in stack
            }
            assert len(kinds) == 1


@pytest.mark.parametrize(("iterations", "size"), [(10, 900), (15_000, 16), (1_000_000, 1)])
def test_sizes_of_stacks(circles, iterations, size):
    """Many short runs, up to 16 of middle length, and one long run."""
    result = fi.compare(*circles[:2], fi.Network([2, 4, 1]), "zeros", seed=range(900), iterations=0)
    object.__setattr__(result.data.training, "iterations", iterations)
    assert max(map(len, runner._stacks(result, np.arange(900), 900))) == size


# --- the store, here a dict -----------------------------------------------------------------------


class Kept:
    """What compare needs of a store, in memory."""

    def __init__(self):
        self.rows, self.fails = {}, False

    def get(self, keys, places, starts):
        known = np.array([key in self.rows for key in keys])
        if not known.any():
            return known, None
        parts = [self.rows[key] for key in keys if key in self.rows]
        columns = {
            name: np.concatenate([part.columns[name] for part in parts])
            for name in parts[0].columns
        }
        names = ("starts", "thetas", "costs")
        starts, thetas, costs = (
            np.concatenate([getattr(part, name) for part in parts]) for name in names
        )
        return known, Block(columns, starts, thetas, parts[0].points, costs)

    def add(self, keys, places, block):
        if self.fails:
            raise OSError("store: the disk is full")
        assert len(keys) == len(places) == len(block)
        for i, key in enumerate(keys):
            self.rows.setdefault(key, block.select([i]))


@pytest.fixture
def kept(monkeypatch):
    """A store that compare opens whatever the path."""
    store = Kept()

    @contextmanager
    def opened(path, result):
        yield store

    monkeypatch.setattr(runner, "_opened", opened)
    return store


SETTINGS = {"seed": range(5), "learning_rate": [0.1, 1e200], "iterations": 40}


def test_what_the_store_has_is_not_trained_again(net, circles, kept, monkeypatch):
    X, Y, _, _ = circles
    part = SETTINGS | {"seed": [1, 3]}
    fi.compare(X, Y, net, "he_normal", store="s", **part)
    assert len(kept.rows) == 4
    trained = []
    run_task = runner.run_task
    monkeypatch.setattr(
        runner, "run_task", lambda task, *rest: trained.append(len(task.starts)) or
        run_task(task, *rest),
    )  # fmt: skip
    expected = fi.compare(X, Y, net, "he_normal", **SETTINGS).columns()
    trained.clear()
    for again in (6, 0):
        found = fi.compare(X, Y, net, "he_normal", store="s", **SETTINGS).columns()
        assert sum(trained) == again
        trained.clear()
        for name, values in found.items():
            if name not in ("seconds", "_row"):
                assert_array_equal(values, expected[name], err_msg=name)
    assert len(kept.rows) == 10


@pytest.mark.parametrize(
    "changed",
    [
        {"iterations": 41}, {"target_cost": 0.5}, {"target_accuracy": 0.9}, {"batch_size": 9},
        {"optimizer": "adam"}, {"scale": 2}, {"shuffle": False}, {"sample_weight": np.ones(300)},
        {"class_weight": "balanced"}, {"tol": 0.1}, {"n_iter_no_change": 3}, {"width": 3},
        {"activation": "tanh"}, {"schemes": {"he": "he_normal"}},
    ],
    ids=str,
)  # fmt: skip
def test_every_setting_is_in_the_key(net, circles, kept, changed):
    X, Y, _, _ = circles
    settings = {"schemes": "he_normal", "seed": 0, "iterations": 40}
    fi.compare(X, Y, net, store="s", **settings)
    fi.compare(X, Y, net, store="s", **settings | changed)
    assert len(kept.rows) == 2


def test_errors_keep_what_is_finished_in_the_store(net, circles, kept):
    class Failing:
        def __call__(self, iteration):
            raise MemoryError("no memory")

        def __repr__(self):
            return "Failing()"

    kept.fails = True
    with pytest.raises(OSError, match="the disk is full") as caught:
        fi.compare(*circles[:2], net, "he_normal", store="s", **SETTINGS)
    assert len(caught.value.result) > 0
    kept.fails = False
    rates = [0.1, 0.2, 0.3, Failing()]
    with pytest.raises(MemoryError, match="no memory") as caught:
        fi.compare(*circles[:2], net, "he_normal", store="s", **SETTINGS | {"learning_rate": rates})
    assert len(kept.rows) == len(caught.value.result)


def test_settings_without_a_text_of_their_own(net, circles, kept):
    def order(epoch):
        return None

    for name, value in (("shuffle", order), ("shuffle", lambda i: None), ("learning_rate", order)):
        with pytest.raises(ValueError, match=f"^{name}: expected a value with a repr of its own"):
            fi.compare(*circles[:2], net, "zeros", store="s", **{name: value})
    assert not kept.rows


# --- the display ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["terminal", "notebook", "file"])
def test_where_progress_is_shown(net, circles, kept, monkeypatch, capsys, kind):
    """In terminals and notebooks; it says how many runs come from the store."""
    console = pytest.importorskip("rich.console")
    live = pytest.importorskip("rich.live")
    shown = []
    make = console.Console

    def made(**keywords):
        return make(**keywords, force_terminal=kind == "terminal", force_jupyter=kind == "notebook")

    class Recorded(live.Live):
        def start(self, refresh=False):
            shown.append(self)

        def stop(self):
            lines = make(width=100, force_jupyter=False)
            with lines.capture() as captured:
                lines.print(self.get_renderable())
            shown.append(captured.get())

    monkeypatch.setattr(console, "Console", made)
    monkeypatch.setattr(live, "Live", Recorded)
    monkeypatch.setattr(progress, "SHARE", 1e9)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    fi.compare(*circles[:2], net, "he_normal", store="s", **SETTINGS)
    fi.compare(*circles[:2], net, "he_normal", store="s", progress=True, **SETTINGS)
    if kind == "file":
        assert not shown
    else:
        assert "10 runs from the store" in shown[1]
        assert "he_normal" in shown[1]
        assert "100%" in shown[1]
