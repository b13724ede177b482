import csv
import itertools
import re
from time import perf_counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit.comparison import runner, statistics, trials
from fastinit.comparison.store import Store
from fastinit.training import loop


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
    assert again.cells == result.cells
    for scheme in schemes:
        assert_array_equal(result.starts[scheme], net.initialize(scheme, seed=seed))
        assert_array_equal(result.runs[scheme].theta, again.runs[scheme].theta)
    # As every initialiser fills from such a generator.
    assert_array_equal(result.starts["he_normal"], net.initialize("he_normal", seed=kind(0)))


# --- grids --------------------------------------------------------------------------------------


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
            trials = stop.result.trials
            assert all(trial.iterations == 2000 for trial in trials)
            assert f"{len(trials)} of 10000 runs finished" in str(stop)
            assert f"{len(trials):,} of 10,000 runs finished" in repr(stop.result)
            print(len(trials))
            print(threading.active_count())
    """)
    assert int(finished) >= 1
    assert int(threads) == 1


def test_seconds_are_a_share_of_the_stack(net, circles):
    before = perf_counter()
    result = fi.compare(*circles[:2], net, ["lesson.he"], seed=range(40), iterations=500, threads=1)
    spent = perf_counter() - before
    assert 0 < sum(trial.seconds for trial in result.trials) < spent
