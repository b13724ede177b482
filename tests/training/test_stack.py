"""Stacks: many networks in one call, each as if it were alone."""

import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit as fi
from fastinit.training.optimizers import LBFGS

K = 5
OPTIMIZERS = [
    [fi.GradientDescent(0.1 * (k + 1), l2=0.01 * k) for k in range(K)],
    [fi.Momentum(0.01 * (k + 1), 0.1 * k, nesterov=True) for k in range(K)],
    [fi.Adam(fi.Cosine(initial=0.01 * (k + 1), iterations=50)) for k in range(K)],
]


@pytest.fixture
def thetas(net):
    return np.stack([net.initialize("he_normal", seed=seed) for seed in range(K)])


def assert_same(run, alone):
    assert_array_equal(run.theta, alone.theta)
    assert_array_equal(run.costs, alone.costs)
    assert_array_equal(run.validation_costs, alone.validation_costs)
    assert (run.iterations, run.diverged_at) == (alone.iterations, alone.diverged_at)
    assert (run.stopped_by, run.optimizer) == (alone.stopped_by, alone.optimizer)
    assert run.best_iteration == alone.best_iteration


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("optimizers", OPTIMIZERS)
def test_each_is_as_if_alone(net, thetas, circles, optimizers, threads):
    X, Y, *test = circles
    start = thetas.copy()
    settings = {"iterations": 67, "batch_size": 64, "seed": 9, "validation": tuple(test)}
    stack = fi.train(net, thetas, X, Y, optimizer=optimizers, threads=threads, **settings)
    assert stack.theta is thetas
    assert len(stack) == K
    assert stack.costs.shape == (K, 67)
    for k, run in enumerate(stack):
        assert np.shares_memory(run.theta, thetas)
        alone = fi.train(net, start[k].copy(), X, Y, optimizer=optimizers[k], **settings)
        assert_same(run, alone)
        assert_array_equal(stack.costs[k], run.costs)


def test_wide_networks_with_threads_of_their_own(circles):
    """Alone a network may use all threads, in a stack one: the same bits."""
    X, Y, _, _ = circles
    net = fi.Network([2, 64, 64, 1], dtype="float32")
    thetas = np.stack([net.initialize("he_normal", seed=seed) for seed in range(3)])
    start = thetas.copy()
    rates = [0.1, 0.2, 0.3]
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, iterations=30, threads=2)
    for k, run in enumerate(stack):
        alone = fi.train(net, start[k], X, Y, learning_rate=rates[k], iterations=30, threads=3)
        assert_same(run, alone)


def test_one_divergence_leaves_the_others_alone(net, thetas, circles):
    X, Y, _, _ = circles
    start = thetas.copy()
    rates = [0.1, 1e200, 0.2, 0.3, 1e200]
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, iterations=200)
    assert [at is not None for at in stack.diverged_at] == [False, True, False, False, True]
    assert np.isfinite(thetas).all()
    for k, run in enumerate(stack):
        alone = fi.train(net, start[k].copy(), X, Y, learning_rate=rates[k], iterations=200)
        assert_same(run, alone)
    assert "diverged     2" in repr(stack)
    assert "optimizer    GradientDescent, other settings in each network" in repr(stack)
    assert stack._repr_html_().startswith("<table>")


def test_one_that_stops_early_leaves_the_others_alone(net, thetas, circles):
    X, Y, *test = circles
    start = thetas.copy()
    rates = [3.0, 0.1, 0.0, 0.2, 1.0]
    settings = {
        "iterations": 300, "validation": tuple(test), "validate_every": 7, "n_iter_no_change": 3,
    }  # fmt: skip
    stack = fi.train(net, thetas, X, Y, learning_rate=rates, **settings)
    assert stack[2].stopped_by == "tol", "at a rate of zero nothing improves"
    assert stack[2].iterations == 7 * 4
    assert len({run.iterations for run in stack}) > 1
    assert stack.stopped_by == [run.stopped_by for run in stack]
    assert f"stopped      {stack.stopped_by.count('tol')} by tol\n" in repr(stack)
    for k, run in enumerate(stack):
        alone = fi.train(net, start[k].copy(), X, Y, learning_rate=rates[k], **settings)
        assert_same(run, alone)
        assert np.isnan(stack.costs[k, run.iterations :]).all()


def test_resume(net, thetas, circles):
    """One of them had diverged, and callbacks had stopped the others long before the end."""
    X, Y, _, _ = circles
    optimizers = [fi.Momentum(rate) for rate in (0.1, 1e200, 0.2, 0.01, 0.05)]
    start = thetas.copy()
    first = fi.train(
        net, thetas, X, Y, optimizer=optimizers, iterations=10**6, batch_size=64,
        callback=lambda stack: stack[0].iterations >= 20,
    )  # fmt: skip
    assert [run.stopped_by for run in first] == ["callback", "divergence", *["callback"] * 3]
    # How far it had come is a matter of time.
    total = first[0].iterations + 70
    stack = fi.train(net, thetas, X, Y, resume=first, iterations=70)
    whole = fi.train(net, start, X, Y, optimizer=optimizers, iterations=total, batch_size=64)
    for run, expected in zip(stack, whole, strict=True):
        assert_same(run, expected)
    assert stack.costs.shape == (K, total)


def test_callback_sees_the_stack(net, thetas, circles):
    seen = []
    stack = fi.train(net, thetas, *circles[:2], iterations=50, callback=seen.append)
    assert all(each is stack for each in seen)
    assert stack.theta is thetas


def test_a_callback_that_raises_loses_nothing(net, thetas, circles):
    start, at = thetas.copy(), []

    def callback(stack):
        at.append([run.iterations for run in stack])
        if len(at) == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fi.train(net, thetas, *circles[:2], iterations=10**6, callback=callback)
    for k, iterations in enumerate(at[-1]):
        fi.train(net, start[k], *circles[:2], iterations=iterations)
    assert_array_equal(thetas, start)


def test_lbfgs(net, thetas, circles):
    pytest.importorskip("scipy")
    start = thetas.copy()
    stack = fi.train(net, thetas, *circles[:2], optimizer=LBFGS(), iterations=20)
    for k, run in enumerate(stack):
        alone = fi.train(net, start[k], *circles[:2], optimizer=LBFGS(), iterations=20)
        assert_same(run, alone)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"learning_rate": [0.1, 0.2]}, ValueError,
         "learning_rate: expected one for each of 5 networks; got 2"),
        ({"learning_rate": [0.1] * 3}, ValueError, "pass rates per layer as optimizer="),
        ({"learning_rate": [0.1] * 4 + [-1]}, ValueError, "learning_rate: expected finite and >="),
        ({"optimizer": [fi.Adam()] * 4}, ValueError, "optimizer: expected one for each of 5"),
        ({"optimizer": [fi.Adam()] * 4 + [fi.AdamW()]}, TypeError, "optimizer: expected optimisers "
         "of one class; got Adam, AdamW"),
        ({"optimizer": []}, ValueError, "optimizer: expected one for each of 5 networks; got 0"),
        ({"optimizer": ["adam"] * 5}, TypeError, "optimizer: expected optimisers of one class; go"),
    ],
)  # fmt: skip
def test_bad_settings(net, thetas, circles, keywords, error, message):
    start = thetas.copy()
    with pytest.raises(error, match=re.escape(message)):
        fi.train(net, thetas, *circles[:2], **keywords)
    assert_array_equal(thetas, start)


def test_resume_of_another_number(net, thetas, circles):
    stack = fi.train(net, thetas, *circles[:2], iterations=1)
    with pytest.raises(ValueError, match="resume: expected a run of 3 networks to match theta"):
        fi.train(net, thetas[:3].copy(), *circles[:2], resume=stack, iterations=1)
