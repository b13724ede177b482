"""The search for a lower cost near the end of trainings."""

from time import process_time

import numpy as np
import pytest

import fastinit as fi
from fastinit.comparison import local_search
from fastinit.comparison.courses import COURSES, judge_courses
from fastinit.comparison.local_search import Objective, StoppedError, _starts, lowest_costs


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_saddle_is_left_along_the_most_negative_curvature(rng):
    """Hidden units near zero, of data whose best line is flat: the gradient is almost zero."""
    X = np.linspace(-1, 1, 60)[None]
    net = fi.Network([1, 2, 1], activation="tanh", output="identity")
    theta = np.zeros((1, net.n_parameters)) + 1e-5 * rng.standard_normal(net.n_parameters)
    Y = 2 * X
    points = np.arange(200)
    costs = 0.5 * np.square(Y).mean() + np.exp(-points.astype(float))
    found = judge_courses(net, theta, X, Y, points, costs[None], iterations=200)
    assert COURSES[found["course"][0]] in ("plateau", "stationary")
    objective = Objective(net, X, Y, None, 0.0, 1)
    cost, _, gradient = objective(theta, np.arange(1))
    starts = _starts(objective, theta, gradient, np.arange(1), np.array([True]))
    hessian = np.array(
        [
            (
                net.loss_and_gradient(theta[0] + 1e-5 * unit, X, Y)[1]
                - net.loss_and_gradient(theta[0] - 1e-5 * unit, X, Y)[1]
            )
            / 2e-5
            for unit in np.eye(net.n_parameters)
        ]
    )
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    step = starts[0] - theta[0]
    assert values[0] < 0
    assert step @ hessian @ step / (step @ step) == pytest.approx(values[0], rel=1e-3)
    assert objective(starts, np.arange(1))[0] < cost


@pytest.mark.parametrize("weighted", [False, True])
def test_a_long_evaluation_is_made_in_parts(monkeypatch, rng, weighted):
    net = fi.Network([3, 5, 2], output="identity")
    X, Y = rng.normal(size=(3, 50)), rng.normal(size=(2, 50))
    weight = rng.integers(0, 3, 50) * 1.0 if weighted else None
    if weighted:
        weight[:20] = 0.0  # a whole part
    thetas = np.stack([net.initialize("he_normal", seed=seed) for seed in range(7)])
    whole = Objective(net, X, Y, weight, 0.1, 7)(thetas, np.arange(7))
    monkeypatch.setattr(local_search, "_PART", net.n_parameters * 16)
    calls = []
    parts = Objective(net, X, Y, weight, 0.1, 7, lambda: bool(calls.append(1)))
    for found, expected in zip(parts(thetas, np.arange(7)), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert len(calls) == 7 * (3 if weighted else 4)
    with pytest.raises(StoppedError):
        Objective(net, X, Y, weight, 0.1, 7, lambda: True)(thetas, np.arange(7))


def test_the_search_can_be_stopped_in_a_network_of_ten_thousand_layers(circles):
    X, Y, _, _ = circles
    net = fi.Network([2, *[10] * 10_000, 1])
    thetas = net.initialize("he_normal", seed=0)[None]
    times = []

    def stop():
        times.append(process_time())
        return len(times) == 12

    with pytest.raises(StoppedError):
        judge_courses(
            net, thetas, X, Y, np.arange(200), np.full((1, 200), 0.7), iterations=200, stop=stop
        )
    # An evaluation as a whole takes about 1 s.
    assert np.median(np.diff(times)) < 0.4


def test_a_search_ends_where_the_gradient_is_zero(monkeypatch, circles):
    """Units that are all dead: no step is possible, and the others are searched as alone."""
    X, Y, _, _ = circles
    net = fi.Network([2, 4, 1])
    theta = net.initialize("he_normal", seed=0)
    dead = theta.copy()
    views = net.unpack(dead)
    views["W1"][:], views["b1"][:], views["W2"][:], views["b2"][:] = 0, -1, 1, 0
    calls = []
    own = fi.Network.loss_and_gradient

    def counted(*args, **keywords):
        cost, gradient = own(*args, **keywords)
        calls.append(not gradient.any())
        return cost, gradient

    monkeypatch.setattr(fi.Network, "loss_and_gradient", counted)

    def searched(*thetas):
        k = len(thetas)
        objective = Objective(net, X, Y, None, 0.0, k)
        _, costs, gradients = objective(np.stack(thetas), np.arange(k))
        calls.clear()
        return lowest_costs(
            objective,
            np.stack(thetas),
            costs,
            gradients,
            np.arange(k),
            enough=np.full(k, -np.inf),
            saddle=np.zeros(k, dtype=bool),
            evaluations=np.full(k, 200),
        )

    # As many labels are 0 as 1: the cost is that of the constant output.
    [lowest] = searched(dead)
    assert lowest == pytest.approx(np.log(2), abs=1e-15)
    # Whether rounding lets the search arrive at an exact zero depends on the CPU level.
    assert len(calls) < 20 if any(calls) else len(calls) == 201
    [alone] = searched(theta)
    assert len(calls) == 201
    assert searched(dead, theta).tolist() == [lowest, alone]
