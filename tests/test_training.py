import re
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit import kernels, reference


def test_trains_in_place(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], iterations=100)
    assert run.theta is theta
    assert (theta != start).any()
    assert (run.iterations, len(run.costs), run.diverged_at) == (100, 100, None)
    assert run.final_cost == run.costs[-1]
    assert np.shares_memory(run.parameters["W1"], theta)


def test_is_the_reference(net, theta, circles):
    X, Y, _, _ = circles
    expected, costs = theta.copy(), np.empty(500)
    reference.descend(
        net.layout, fi.GradientDescent().rule, expected, np.empty((0, 91)), 0, X, Y.astype(float),
        None, None, 300, 0, np.full(500, 0.01), costs, 1,
    )  # fmt: skip
    run = fi.train(net, theta, X, Y, iterations=500)
    np.testing.assert_allclose(run.costs, costs, rtol=1e-12)
    np.testing.assert_allclose(theta, expected, rtol=1e-10)


def test_same_bits_every_time(net, theta, circles):
    again = theta.copy()
    first = fi.train(net, theta, *circles[:2], iterations=3000)
    second = fi.train(net, again, *circles[:2], iterations=3000, callback=lambda run: None)
    assert_array_equal(theta, again)
    assert_array_equal(first.costs, second.costs)


def test_no_iterations_is_a_no_op(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], iterations=0)
    assert_array_equal(theta, start)
    assert (run.iterations, run.costs.shape, run.diverged_at) == (0, (0,), None)
    assert np.isnan(run.final_cost)
    assert "iterations   0" in repr(run)


def test_learning_rate_zero_stays(net, theta, circles):
    start = theta.copy()
    run = fi.train(net, theta, *circles[:2], learning_rate=0, iterations=3)
    assert_array_equal(theta, start)
    assert len(set(run.costs)) == 1


def test_callback_sees_the_run_and_stops_it(net, theta, circles):
    seen = []

    def callback(run):
        seen.append(run.iterations)
        assert len(run.costs) == run.iterations
        assert not np.isnan(run.costs).any()
        return run.iterations >= 1000

    run = fi.train(net, theta, *circles[:2], iterations=10**7, callback=callback)
    assert seen == sorted(set(seen))
    assert run.iterations == seen[-1] < 10**7
    expected = net.initialize("he", seed=3)
    fi.train(net, expected, *circles[:2], iterations=run.iterations)
    assert_array_equal(theta, expected)


def test_anything_true_stops(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], iterations=10**6, callback=lambda run: np.True_)
    assert run.iterations == 1


def test_slow_callback_slows_nothing_else(net, theta, circles):
    """Its time is not taken for the kernel's: the slices still grow to 20 ms of training."""
    seen = []

    def callback(run):
        seen.append(run.iterations)
        time.sleep(0.03)
        return len(seen) == 8

    fi.train(net, theta, *circles[:2], iterations=10**7, callback=callback)
    assert seen[-1] - seen[-2] > 100


def test_callback_hears_of_the_divergence(net, theta, circles):
    seen = []
    run = fi.train(
        net, theta, *circles[:2], learning_rate=1e200, iterations=1000,
        callback=lambda run: seen.append(run.diverged_at),
    )  # fmt: skip
    assert seen[-1] == run.diverged_at is not None


def test_theta_of_a_subclass_is_the_same_object(net, theta, circles, tmp_path):
    mapped = np.memmap(tmp_path / "theta", dtype=np.float64, shape=(91,), mode="w+")
    mapped[:] = theta
    run = fi.train(net, mapped, *circles[:2], iterations=10)
    assert run.theta is mapped
    fi.train(net, theta, *circles[:2], iterations=10)
    assert_array_equal(np.asarray(mapped), theta)


def test_callback_that_raises_loses_nothing(net, theta, circles):
    seen = []

    def callback(run):
        seen.append(run.iterations)
        if len(seen) == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fi.train(net, theta, *circles[:2], iterations=10**6, callback=callback)
    expected = net.initialize("he", seed=3)
    fi.train(net, expected, *circles[:2], iterations=seen[-1])
    assert_array_equal(theta, expected)


def test_divergence_is_reported(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], learning_rate=1e200, iterations=1000)
    assert run.diverged_at is not None
    assert run.iterations == run.diverged_at < 1000
    assert len(run.costs) == 1000
    assert np.isnan(run.costs[run.diverged_at :]).all()
    assert not np.isnan(run.costs[: run.diverged_at]).any()
    assert np.isfinite(theta).all()
    assert np.isnan(run.final_cost)
    assert f"diverged at  iteration {run.diverged_at}" in repr(run)


def test_infinite_cost_is_no_divergence(lesson_net, circles):
    theta = lesson_net.initialize("random", seed=3)
    run = fi.train(lesson_net, theta, *circles[:2], iterations=100)
    assert run.costs[0] == np.inf
    assert run.diverged_at is None
    assert np.isfinite(run.final_cost)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"learning_rate": -0.1}, ValueError, "learning_rate: expected finite and >= 0; got -0.1"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate: expected finite and >= 0; got nan"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate: expected finite and >= 0; got inf"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate: expected a number; got str"),
        (
            {"learning_rate": 10**400},
            ValueError,
            "learning_rate: expected finite and >= 0; got 100",
        ),
        ({"learning_rate": np.array([0.1])}, TypeError, "learning_rate: expected a number; got nd"),
        ({"iterations": 10**30}, ValueError, "iterations: expected from 0 to 2**48 - 1; got 1000"),
        ({"learning_rate": 1j}, TypeError, "learning_rate: expected a number; got complex"),
        ({"iterations": -1}, ValueError, "iterations: expected from 0 to 2**48 - 1; got -1"),
        ({"iterations": 10.0}, TypeError, "iterations: expected an integer; got float"),
        ({"iterations": True}, TypeError, "iterations: expected an integer; got bool"),
        ({"optimizer": "adam"}, TypeError, "optimizer: expected one of GradientDescent, Momentum"),
        (
            {"optimizer": fi.GradientDescent(), "learning_rate": 1.0},
            TypeError,
            "learning_rate: expected it in the optimizer; got both",
        ),
    ],
)
def test_bad_settings(net, theta, circles, keywords, error, message):
    start = theta.copy()
    with pytest.raises(error, match=re.escape(message)):
        fi.train(net, theta, *circles[:2], **keywords)
    assert_array_equal(theta, start)


def test_not_a_network(theta, circles):
    with pytest.raises(TypeError, match="network: expected a Network; got list"):
        fi.train([2, 10, 5, 1], theta, *circles[:2])


def test_theta_that_overlaps_the_data(net):
    memory = np.zeros((2, 300))
    theta = memory.reshape(-1)[:91]
    with pytest.raises(
        ValueError, match="theta: expected memory of its own; got an overlap with X"
    ):
        fi.train(net, theta, memory, np.zeros((1, 300)))


def test_run_prints(net, theta, circles):
    run = fi.train(net, theta, *circles[:2], iterations=10)
    assert repr(run).splitlines()[0] == "Run"
    assert "Network([2, 10, 5, 1]" in repr(run)
    page = run._repr_html_()
    assert page.startswith("<table>")
    assert "&#x27;relu&#x27;" in page, "escaped"


INTERRUPTED = """
    import sys, time
    import numpy as np
    import fastinit as fi

    net = fi.Network({sizes})
    rng = np.random.default_rng(0)
    X = rng.standard_normal(({sizes}[0], {m}))
    Y = (rng.random((1, {m})) > 0.5).astype(float)
    theta = net.initialize("he_normal", seed=0)
    replay = theta.copy()
    print("ready", flush=True)
    try:
        fi.train(net, theta, X, Y, iterations=10**8)
    except KeyboardInterrupt:
        print(time.time(), flush=True)
    for whole in range({most}):
        if (replay == theta).all():
            print("after", whole, "whole iterations", flush=True)
            break
        fi.train(net, replay, X, Y, iterations=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process on Windows")
@pytest.mark.parametrize(
    ("sizes", "m", "most"),
    [
        pytest.param([50, 60, 1], 2000, 20_000, id="many short iterations"),
        pytest.param([800, 800, 800, 1], 20_000, 3, id="one iteration of seconds"),
    ],
)
def test_interrupt(interrupt, sizes, m, most):
    """A real signal to a real process: back in time, theta at a whole iteration."""
    if kernels.level == "reference":
        pytest.skip("the reference looks for signals only between NumPy calls")
    [outcome] = interrupt(INTERRUPTED.format(sizes=sizes, m=m, most=most))
    assert re.fullmatch(r"after \d+ whole iterations", outcome)
