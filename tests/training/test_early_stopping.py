"""Early stopping where it meets slices, Ctrl-C, divergence, callbacks and stacks."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi


@pytest.mark.parametrize("slices", [{}, {"callback_every": 1}, {"callback_every": 2}])
def test_half_an_epoch_is_continued(net, theta, X, Y, slices):
    """At a rate of zero nothing improves after the first epoch, of five batches."""
    keywords = slices and {"callback": lambda run: False, **slices}
    run = fi.train(
        net, theta, X, Y, learning_rate=0.0, batch_size=64, epochs=100, tol=1e-12,
        n_iter_no_change=7, **keywords,
    )  # fmt: skip
    assert (run.stopped_by, run.iterations) == ("tol", 8 * 5)


@pytest.mark.parametrize("slices", [{}, {"callback_every": 1}])
def test_tol_comes_before_a_later_divergence(net, theta, circles, slices):
    X, Y = circles[0] * 1e3, circles[1]
    keywords = slices and {"callback": lambda run: False, **slices}
    run = fi.train(
        net, theta, X, Y, optimizer=fi.Momentum(lambda i: 0.0 if i < 6 else 1.7e308),
        iterations=100, tol=1e3, n_iter_no_change=5, **keywords,
    )  # fmt: skip
    assert (run.stopped_by, run.diverged_at, run.iterations) == ("tol", None, 6)
    assert len(run.costs) == 6
    expected = net.initialize("lesson.he", seed=3)
    again = fi.train(net, expected, X, Y, optimizer=fi.Momentum(0.0), iterations=6)
    assert_array_equal(run._state, again._state)


def test_a_callable_is_asked_once_for_each_epoch(net, theta, X, Y):
    """Although a slice ends in every epoch, and the last ones are repeated."""
    asked = []

    def order(epoch):
        asked.append(epoch)
        return np.random.default_rng(epoch).permutation(300)

    run = fi.train(
        net, theta, X, Y, learning_rate=0.0, batch_size=50, epochs=50, shuffle=order, tol=1e-9,
        n_iter_no_change=3, callback=lambda run: False, callback_every=4,
    )  # fmt: skip
    assert run.stopped_by == "tol"
    assert asked == sorted(set(asked))


def interrupted(at, stack=None):
    def callback(run):
        if max(each.iterations for each in ([run] if stack is None else run)) >= at:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("monitor", ["training", "cost", "score"])
@pytest.mark.parametrize("k", [None, 4])
def test_what_is_monitored_survives_an_interrupt(net, circles, k, monitor):
    """The resumed training ends as one longer training: at the same iteration, with the best."""
    X, Y, *test = circles
    start = net.initialize("he_normal", seed=0, n=k)
    settings = {"tol": 1e-4, "n_iter_no_change": 25}
    if monitor != "training":
        settings |= {"validation": tuple(test), "validate_every": 3, "monitor": monitor}
    rates = [0.0, 3.0, 1.0, 0.3] if k else 0.3
    whole = fi.train(net, start.copy(), X, Y, learning_rate=rates, iterations=700, **settings)
    theta = start.copy()
    with pytest.raises(fi.Interrupted) as stop:
        fi.train(
            net, theta, X, Y, learning_rate=rates, iterations=700, callback=interrupted(200, k),
            callback_every=10, **settings,
        )  # fmt: skip
    result = stop.value.result
    runs = [result] if k is None else list(result)
    left = 700 - max(run.iterations for run in runs)
    again = fi.train(net, theta, X, Y, iterations=left, resume=result, **settings)
    assert_array_equal(theta, whole.theta)
    for one, other in zip([whole] if k is None else whole, [again] if k is None else again,
                          strict=True):  # fmt: skip
        assert (one.stopped_by, one.iterations) == (other.stopped_by, other.iterations)
        assert one.best_iteration == other.best_iteration
        assert_array_equal(one.costs, other.costs)
        assert_array_equal(one.validation_costs, other.validation_costs)
        assert_array_equal(one.validation_iterations, other.validation_iterations)


def test_an_interrupt_during_a_validation_loses_no_record(net, circles, monkeypatch):
    X, Y, *test = circles
    theta, calls = net.initialize("he_normal", seed=0), []
    score = fi.Network._score

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(fi.Network, "_score", interrupting)
    settings = {"validation": tuple(test), "validate_every": 10}
    with pytest.raises(fi.Interrupted, match="after 30 of 50 iterations") as stop:
        fi.train(net, theta, X, Y, iterations=50, **settings)
    run = fi.train(net, theta, X, Y, iterations=20, resume=stop.value.result, **settings)
    assert_array_equal(run.validation_iterations, [10, 20, 30, 40, 50])


def test_networks_that_were_at_their_end_are_not_interrupted(net, X, Y):
    pytest.importorskip("scipy")
    thetas = net.initialize("he_normal", seed=0, n=2)

    def callback(stack):
        if stack[1].iterations == 5:
            raise KeyboardInterrupt

    with pytest.raises(fi.Interrupted, match="after 5 of 20 iterations") as stop:
        fi.train(
            net, thetas, X, Y, optimizer=fi.LBFGS(), iterations=20, callback=callback,
            callback_every=1,
        )  # fmt: skip
    assert [run.stopped_by for run in stop.value.result] == ["iterations", "interrupt"]


@pytest.mark.parametrize("optimizer", [fi.Adam(), fi.LBFGS()], ids=str)
def test_a_callback_stops_all_networks(net, X, Y, optimizer):
    if isinstance(optimizer, fi.LBFGS):
        pytest.importorskip("scipy")
    calls = []
    stack = fi.train(
        net, net.initialize("he_normal", seed=0, n=3), X, Y, optimizer=optimizer, iterations=30,
        callback=lambda stack: not calls and not calls.append(1), callback_every=4,
    )  # fmt: skip
    assert {run.stopped_by for run in stack} == {"callback"}
    assert stack[0].iterations == 4


def test_networks_that_ended_in_a_stack_remain_as_they_are(net, X, Y):
    """One diverged and one was stopped by tol; the third goes on."""
    thetas = net.initialize("he_normal", seed=0, n=3)
    first = fi.train(
        net, thetas, X, Y, learning_rate=[1e300, 0.0, 0.1], iterations=40, tol=1e-9,
        n_iter_no_change=20,
    )  # fmt: skip
    ends = [run.stopped_by for run in first]
    assert ends == ["divergence", "tol", "iterations"]
    before, counts = thetas.copy(), [run.iterations for run in first]
    again = fi.train(net, thetas, X, Y, learning_rate=[0.1] * 3, iterations=7, resume=first)
    assert [run.stopped_by for run in again] == ends
    assert [run.iterations for run in again] == [*counts[:2], 47]
    assert again[0].diverged_at == first[0].diverged_at
    assert_array_equal(thetas[:2], before[:2])
    assert (thetas[2] != before[2]).any()


def test_an_exception_in_a_callback_leaves_a_run_that_resumes(net, circles):
    X, Y, *test = circles
    theta, runs = net.initialize("he_normal", seed=0), []

    def callback(run):
        runs.append(run)
        if run.iterations == 60:
            raise RuntimeError("enough")

    settings = {"validation": tuple(test), "tol": 1e-9, "n_iter_no_change": 1000}
    with pytest.raises(RuntimeError, match="enough"):
        fi.train(net, theta, X, Y, iterations=100, callback=callback, callback_every=20, **settings)
    whole = net.initialize("he_normal", seed=0)
    fi.train(net, whole, X, Y, iterations=100, **settings)
    run = fi.train(net, theta, X, Y, iterations=40, resume=runs[-1], **settings)
    assert run.iterations == 100
    assert_array_equal(theta, whole)


def test_the_repr_is_of_the_best_parameters(net, circles):
    X, Y, *test = circles
    theta = net.initialize("he_normal", seed=0)
    run = fi.train(
        net, theta, X, Y, learning_rate=3.0, batch_size=30, iterations=5000,
        validation=tuple(test), tol=0.0, n_iter_no_change=5,
    )  # fmt: skip
    assert run.validation_costs[-1] != net.cost(theta, *test)
    assert f"validation   cost {net.cost(theta, *test):.6g}, accuracy" in repr(run)
    assert f"final cost   {net.cost(theta, X, Y):.6g}" in repr(run)


def test_the_order_of_a_run_is_a_copy(net, theta, X, Y):
    """The kernels trust its indices."""

    def callback(run):
        run._order[:] = 10**12

    expected = theta.copy()
    settings = {"batch_size": 10, "shuffle": np.arange(300), "iterations": 200}
    fi.train(net, expected, X, Y, **settings)
    run = fi.train(net, theta, X, Y, callback=callback, callback_every=7, **settings)
    assert_array_equal(theta, expected)
    with pytest.raises(ValueError, match=r"^resume\._order: expected indices from 0 to 299; got"):
        fi.train(net, theta, X, Y, resume=run)


def test_validation_data_may_not_overlap_theta(net):
    memory = np.zeros(net.n_parameters + 10)
    theta = memory[: net.n_parameters]
    overlapping = memory[-20:].reshape(2, 10)
    with pytest.raises(ValueError, match="theta: expected memory of its own; got an overlap with"):
        fi.train(
            net, theta, np.ones((2, 3)), np.ones((1, 3)), iterations=1,
            validation=(overlapping, np.ones(10)),
        )  # fmt: skip
    assert not memory.any()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_interrupted_is_copied_and_pickled(net, theta, X, Y, duplicate):
    """Executors pickle an exception to carry it from process to process, with what it holds."""
    with pytest.raises(fi.Interrupted) as stop:
        fi.train(net, theta, X, Y, iterations=9, callback=interrupted(3), callback_every=1)
    again = duplicate(stop.value)
    assert str(again) == str(stop.value) == "after 3 of 9 iterations"
    assert again.result.iterations == 3
    whole = net.initialize("lesson.he", seed=3)
    fi.train(net, whole, X, Y, iterations=9)
    run = fi.train(net, theta.copy(), X, Y, iterations=6, resume=again.result)
    assert_array_equal(run.theta, whole)


def test_the_runs_of_a_stack_share_the_copy_of_their_order(net, X, Y):
    thetas = net.initialize("he_normal", seed=0, n=3)
    order = np.arange(300)
    stack = fi.train(net, thetas, X, Y, batch_size=60, epochs=1, shuffle=order)
    assert stack[0]._order is stack[2]._order is not order
    assert not np.shares_memory(stack[0]._order, order)
