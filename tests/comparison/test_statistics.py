"""The verdicts on trainings made to break them, and the statistics against SciPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.comparison.courses import (
    COURSES,
    STOPPED,
    constant_costs,
    judge_courses,
)
from fastinit.comparison.statistics import (
    binomial_interval,
    binomial_tail,
    fisher_tail,
    holm,
    median_interval,
    quantiles,
    t_quantile,
)
from fastinit.comparison.trials import Data, Task, Training, run_task
from fastinit.comparison.verdicts import (
    better_p_values,
    evidence_of,
    verdict_of,
)

mpmath = pytest.importorskip("mpmath")
scipy_special = pytest.importorskip("scipy.special")
scipy_stats = pytest.importorskip("scipy.stats")


# --- trainings ------------------------------------------------------------------------------------


def judged(net, stack, X, Y, points=None, l2=0.0):
    """Return the course columns of a stack of runs of equal length."""
    X = net.check_X(X)
    costs = stack.costs
    points = np.arange(costs.shape[1]) if points is None else points
    return judge_courses(
        net,
        stack.theta,
        X,
        net.check_Y(Y, X),
        points,
        costs[:, points],
        iterations=stack.iterations,
        diverged_at=[-1 if at is None else at for at in stack.diverged_at],
        l2=l2,
    )


def trained(net, starts, X, Y, **keywords):
    return fi.train(net, starts.copy(), X, Y, threads=1, **keywords)


def columns_of(
    net, starts, X, Y, test=None, optimizer=None, learning_rate=0.01, batch_size=None, **keywords
):
    """Train a stack, and return the columns and the evidence of its verdict."""
    optimizer = fi.GradientDescent(learning_rate) if optimizer is None else optimizer
    task = Task(net, (optimizer,) * len(starts), batch_size, starts)
    X = net.check_X(X)
    if test is not None:
        X_test = net.check_X(np.ascontiguousarray(test[0]))
        test = X_test, net.check_Y(test[1], X_test)
    data = Data(np.ascontiguousarray(X), net.check_Y(Y, X), test, Training(**keywords))
    return run_task(task, data, threads=1).columns, evidence_of(net, data.Y, test)


def verdict(net, starts, X, Y, test=None, **keywords):
    return verdict_of(*columns_of(net, starts, X, Y, test, **keywords))


def course(net, starts, X, Y, l2=0.0, **keywords):
    """Return the names of the courses of a stack."""
    return [
        COURSES[code]
        for code in judged(net, trained(net, starts, X, Y, **keywords), X, Y, l2=l2)["course"]
    ]


@pytest.fixture
def lesson_start(net):
    return net.initialize("lesson.he", seed=3)[None]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noise_labels(rng, m):
    return rng.integers(0, 2, (1, m))


# --- the course -----------------------------------------------------------------------------------


def test_a_plateau_is_neither_converged_nor_better_than_guessing(net, lesson_start, circles):
    X, Y, *test = circles
    words = verdict(net, lesson_start, X, Y, test, iterations=1000)
    assert "on a plateau at the cost of a constant output" in words
    assert "not shown to be better than always guessing one class on test data" in words
    assert "converged" not in words


def test_the_same_network_gets_better_later(net, lesson_start, circles):
    X, Y, *test = circles
    words = verdict(net, lesson_start, X, Y, test, iterations=15_000)
    assert words.startswith("better than always guessing one class on test data, 96.0%")
    assert "cost still falling, 19% in the last tenth" in words


@pytest.mark.parametrize("scheme", ["he_normal", "identity", "orthogonal", "zeros"])
def test_ten_iterations_are_too_few(net, circles, scheme):
    X, Y, *test = circles
    words = verdict(net, net.initialize(scheme, seed=0)[None], X, Y, test, iterations=10)
    assert words.endswith("too early to tell whether it converges: 10 iterations")


def test_a_cost_that_has_hardly_left_its_start(circles):
    X, Y, *_ = circles
    net = fi.Network([2, 10, 5, 1], activation="tanh")
    start = net.initialize("he_normal", seed=0)[None] * 0.05
    assert course(net, start, X, Y, iterations=200, learning_rate=1e-3) == ["too early to tell"]


def test_zeros_are_stationary_and_symmetric(net, circles):
    X, Y, *test = circles
    words = verdict(net, net.initialize("zeros")[None], X, Y, test, iterations=1000)
    assert words.startswith("symmetry unbroken: the units of layers 1 and 2 are still identical")
    assert words.endswith("stationary at the cost of a constant output: the gradient is zero")


def test_units_that_are_all_dead_are_stationary(net, circles):
    X, Y, *_ = circles
    parameters = {
        name: array.copy()
        for name, array in net.unpack(net.initialize("he_normal", seed=0)).items()
    }
    parameters["b1"] -= 100.0
    start = net.pack(parameters)[None]
    assert course(net, start, X, Y, iterations=2000, learning_rate=0.5) == ["stationary"]


def test_a_small_gradient_near_a_saddle_point_is_not_zero(rng):
    net = fi.Network([2, 4, 4, 1], activation="tanh", output="identity")
    X = rng.standard_normal((2, 100))
    Y = np.tanh(X[:1] * X[1:])
    Y -= Y.mean()
    start = 1e-3 * net.initialize("glorot_normal", seed=0)[None]
    found = judged(net, trained(net, start, X, Y, iterations=200), X, Y)
    # Rounding errors are smaller by eight orders, and the cost falls in the end.
    assert 1e-9 < found["gradient_norm"][0] < 1e-6
    assert COURSES[found["course"][0]] == "too early to tell"


def test_a_logistic_regression_converges(rng):
    X = rng.standard_normal((3, 200))
    Y = (X[:1] + rng.standard_normal((1, 200)) > 0).astype(int)
    net = fi.Network([3, 1])
    start = net.initialize("he_normal", seed=0)[None]
    assert course(net, start, X, Y, iterations=1000, learning_rate=1.0) == ["converged"]
    assert course(net, start, X, Y, iterations=1000, learning_rate=1e-3) == ["falling"]


def test_a_linear_model_without_signal_converges_to_a_constant(circles):
    X, Y, *test = circles
    net = fi.Network([2, 1])
    words = verdict(
        net,
        net.initialize("he_normal", seed=0)[None],
        X,
        Y,
        test,
        iterations=2000,
        learning_rate=0.5,
    )
    assert words.endswith("converged to the cost of a constant output")
    assert words.startswith("not shown to be better than always guessing one class")


def test_lbfgs_of_few_iterations_converges(rng):
    X = rng.standard_normal((3, 100))
    Y = X[:1] - 2 * X[1:2] + rng.standard_normal((1, 100))
    net = fi.Network([3, 1], output="identity")
    start = net.initialize("he_normal", seed=0)[None]
    assert course(net, start, X, Y, iterations=500, optimizer=fi.LBFGS()) == ["converged"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("output", ["identity", "exponential", "softmax"])
def test_models_without_hidden_layers_converge(rng, output, dtype):
    X = rng.standard_normal((3, 200))
    Y = {
        "identity": X[:1] + 0.3 * rng.standard_normal((1, 200)),
        "exponential": rng.poisson(np.exp(0.5 * X[:1])),
        "softmax": (X[0] + rng.standard_normal(200) > 0) + (rng.random(200) < 0.3).astype(int),
    }[output]
    net = fi.Network([3, 3 if output == "softmax" else 1], output=output, dtype=dtype)
    start = net.initialize("he_normal", seed=0)[None]
    assert course(net, start, X, Y, iterations=5000, learning_rate=0.05) == ["converged"]


def test_a_penalty_is_part_of_the_gradient(rng):
    X = rng.standard_normal((3, 100))
    Y = X[:1] + 0.3 * rng.standard_normal((1, 100))
    net = fi.Network([3, 1], output="identity")
    stack = trained(
        net,
        net.initialize("he_normal", seed=0)[None],
        X,
        Y,
        iterations=2000,
        optimizer=fi.GradientDescent(0.1, l2=0.5),
    )
    with_penalty, without = judged(net, stack, X, Y, l2=0.5), judged(net, stack, X, Y)
    assert COURSES[with_penalty["course"][0]] == "converged"
    assert COURSES[without["course"][0]] == "plateau"
    assert with_penalty["gradient_norm"][0] < 1e-12 < without["gradient_norm"][0]


def test_the_gradient_norm_is_that_of_the_cost(net, lesson_start, circles):
    X, Y, *_ = circles
    stack = trained(net, lesson_start, X, Y, iterations=30)
    _, gradient = net.loss_and_gradient(stack.theta, X, Y)
    np.testing.assert_allclose(
        judged(net, stack, X, Y)["gradient_norm"], np.linalg.norm(gradient), rtol=1e-12
    )


def test_an_exactly_fitted_regression_converges(rng):
    X = rng.standard_normal((2, 50))
    net = fi.Network([2, 2], output="identity")
    start = net.initialize("he_normal", seed=0)[None]
    assert course(net, start, X, X[::-1] + 1, iterations=2000, learning_rate=0.2) == ["converged"]


def test_separable_data_never_converge():
    X = np.concatenate([np.linspace(-2, -1, 20), np.linspace(1, 2, 20)])[None]
    Y = (X > 0).astype(int)
    net = fi.Network([1, 1])
    words = verdict(
        net, net.initialize("he_normal", seed=0)[None], X, Y, iterations=5000, learning_rate=1.0
    )
    assert "better than always guessing one class on training data" in words
    assert "(no test data were given)" in words
    assert "all training examples are classified correctly" in words
    assert "cost still falling" in words


def test_large_learning_rates_do_not_converge(rng):
    X = rng.standard_normal((2, 100))
    net = fi.Network([2, 5, 1], activation="tanh", output="identity")
    starts = np.tile(net.initialize("he_normal", seed=0), (6, 1))
    rates = [0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
    found = course(net, starts, X, np.sin(2 * X[:1]), iterations=500, learning_rate=rates)
    assert "oscillating" in found
    assert "converged" not in found


def test_made_up_courses():
    # The curves are made up, at parameters far from a minimum.
    net = fi.Network([1, 1], output="identity")
    X, Y = np.array([[-1.0, 1.0]]), np.array([[-1.0, 1.0]])
    theta = np.array([[0.0, 0.0]])  # cost 0.5
    points = np.arange(1000)
    curves = {
        "oscillating": 0.5 + 0.2 * (-1.0) ** points,
        "falling": 0.5 + (1 - points / 1000),
        "rising": 0.5 - 0.4 * (1 - points / 1000),
        "plateau": 0.5 + 5 * np.exp(-points / 20),
        "too early to tell": np.full(1000, 0.5),
    }
    for name, costs in curves.items():
        found = judge_courses(net, theta, X, Y, points, costs[None], iterations=1000)
        assert COURSES[found["course"][0]] == name
    change = judge_courses(net, theta, X, Y, points, curves["falling"][None], iterations=1000)[
        "change"
    ]
    assert change == pytest.approx(0.5505 / 0.6505 - 1)


def test_a_start_of_any_cost_is_no_scale(rng):
    """Costs that fell from 1e49 to 200 times that of a constant have not converged."""
    X = rng.standard_normal((2, 50))
    X[0] *= 60
    net = fi.Network([2, 20, 20, 1], output="exponential")
    starts = net.initialize("he_normal", seed=0, n=6)
    Y = rng.poisson(2, (1, 50))
    stack = trained(net, starts, X, Y, optimizer=fi.Adam(0.02), iterations=100)
    assert stack.costs[:, 0].max() > 1e40
    found = judged(net, stack, X, Y)
    assert "converged" not in [COURSES[code] for code in found["course"]]


@pytest.mark.parametrize("value", [0.0, 3.0, 1e6])
def test_equal_labels_have_a_scale(value):
    X, Y = np.array([[-1.0, 1.0]]), np.full((1, 2), value)
    net = fi.Network([1, 1], output="identity")
    points = np.arange(1000)
    size = max(value, 1.0)
    for error, expected in ((1e-4, "converged"), (1.0, "plateau")):
        theta = np.array([[0.0, value + error * size]])
        costs = np.maximum(1e30 * np.exp(-points), (error * size) ** 2 / 2)
        found = judge_courses(net, theta, X, Y, points, costs[None], iterations=1000)
        assert COURSES[found["course"][0]] == expected


@pytest.mark.parametrize("rate", [1.0, 2.5])
def test_exponential_growth_is_rising(rate):
    X = np.random.default_rng(0).standard_normal((2, 80))
    Y = np.random.default_rng(1).standard_normal((1, 80)) + X[:1]
    net = fi.Network([2, 1], output="identity")
    start = net.initialize("he_normal", seed=0)[None]
    stack = trained(net, start, X, Y, iterations=200, learning_rate=rate)
    grows = bool((np.diff(stack.costs[0, 50:]) > 0).all())
    assert grows == (rate == 2.5)
    assert COURSES[judged(net, stack, X, Y)["course"][0]] == ("rising" if grows else "converged")


def test_late_divergence_and_no_training(net, lesson_start, circles):
    X, Y, *test = circles

    def schedule(iteration):
        return 0.1 if iteration < 400 else 1e200

    words = verdict(
        net, lesson_start, X, Y, test, iterations=500, optimizer=fi.GradientDescent(schedule)
    )
    assert words.startswith("diverged at iteration 40")
    assert verdict(net, lesson_start, X, Y, test, iterations=0) == "not trained"


def test_an_infinite_cost_is_said(circles):
    X, Y, *test = circles
    net = fi.Network([2, 10, 5, 1], loss="saturating_cross_entropy")
    start = net.initialize("lesson.random", seed=3)[None] * 1000
    words = verdict(net, start, X, Y, test, iterations=50, learning_rate=1e-9)
    assert words.startswith("100% of outputs saturated at the start")
    assert words.endswith("cost infinite at the end")


def test_a_finite_end_after_an_infinite_start(circles):
    X, Y, *_ = circles
    net = fi.Network([2, 10, 5, 1], loss="saturating_cross_entropy")
    start = net.initialize("lesson.random", seed=3)[None]
    stack = trained(net, start, X, Y, iterations=3000)
    assert np.isinf(stack.costs[0, 0])
    assert COURSES[judged(net, stack, X, Y)["course"][0]] == "falling"


def test_mini_batches_of_a_converged_model_are_not_called_falling(rng):
    X = rng.standard_normal((3, 320))
    Y = X[:1] + rng.standard_normal((1, 320))
    net = fi.Network([3, 1], output="identity")
    starts = net.initialize("he_normal", seed=0, n=8)
    found = course(net, starts, X, Y, iterations=3000, learning_rate=0.01, batch_size=32)
    # The test of a trend has a level of about 5 % at each of two scales.
    assert sum(each in ("converged", "oscillating", "plateau") for each in found) >= 6


def test_mini_batches_of_a_falling_cost_are_called_falling(rng):
    X = rng.standard_normal((3, 320))
    Y = 5 * X[:1] + 0.1 * rng.standard_normal((1, 320))
    net = fi.Network([3, 1], output="identity", dtype="float32")
    starts = net.initialize("he_normal", seed=0, n=4)
    assert set(course(net, starts, X, Y, iterations=300, learning_rate=0.003, batch_size=32)) == {
        "falling"
    }


def test_a_run_is_judged_in_a_stack_as_alone(net, circles):
    X, Y, *_ = circles
    starts = np.concatenate(
        [
            net.initialize("he_normal", seed=0, n=4),
            net.initialize("zeros")[None],
            net.initialize("he_normal", seed=9, n=2) * 0.1,
        ]
    )
    rates = [0.01, 0.1, 1.0, 10.0, 0.1, 0.01, 0.1]
    stack = trained(net, starts, X, Y, iterations=400, learning_rate=rates)
    whole = judged(net, stack, X, Y)
    for i, run in enumerate(stack):
        own = judge_courses(
            net,
            run.theta[None].copy(),
            X,
            Y,
            np.arange(len(run.costs)),
            run.costs[None],
            iterations=run.iterations,
            diverged_at=-1 if run.diverged_at is None else run.diverged_at,
        )
        for name, column in own.items():
            np.testing.assert_array_equal(column[0], whole[name][i])


@pytest.mark.parametrize("iterations", [1, 5, 19, 30, 79, 200, 2000])
@pytest.mark.parametrize("scheme", ["zeros", "he_normal"])
def test_judging_costs_a_share_of_the_training(monkeypatch, net, circles, scheme, iterations):
    X, Y, *_ = circles
    start = net.initialize(scheme, seed=3)[None]
    stack = trained(net, start, X, Y, iterations=iterations)
    calls = []
    own = fi.Network.loss_and_gradient

    def counted(*args, **keywords):
        calls.append(1)
        return own(*args, **keywords)

    monkeypatch.setattr(fi.Network, "loss_and_gradient", counted)
    judged(net, stack, X, Y)
    # The gradient at the end, and the one at the start of the search.
    assert len(calls) <= 2 + max(iterations / 4, min(iterations / 2, 20))
    if iterations < 8:
        assert len(calls) == 1


@pytest.mark.parametrize("seed", [1, 54])
def test_a_stuck_run_of_lbfgs_has_not_converged(seed):
    """With small inputs the cost stays near that of a constant output, and is far lower later."""
    rng = np.random.default_rng(seed)
    X = 1e-3 * rng.standard_normal((5, 100))
    f = np.sin(2 * X[0]) + X[4] * X[0]
    Y = np.digitize(f, np.quantile(f, [0.4, 0.8]))
    net = fi.Network([5, 8, 8, 3], activation="selu", output="softmax")
    start = net.initialize("he_normal", seed=seed)[None]
    short, long = (trained(net, start, X, Y, iterations=n, optimizer=fi.LBFGS()) for n in (30, 300))
    assert long.final_costs[0] < 0.1 * short.final_costs[0]
    assert COURSES[judged(net, short, X, Y)["course"][0]] != "converged"


def test_runs_of_different_lengths_are_judged_by_their_own(rng):
    net = fi.Network([1, 1], output="identity")
    X, Y = np.array([[-1.0, 1.0]]), np.array([[-1.0, 1.0]])
    points = np.arange(1000)
    costs = np.stack([0.5 + np.exp(-points / 20), np.full(1000, np.nan)])
    costs[1, :100] = 0.5 + (1 - points[:100] / 100)
    found = judge_courses(net, np.zeros((2, 2)), X, Y, points, costs, iterations=[1000, 100])
    assert [COURSES[code] for code in found["course"]] == ["plateau", "falling"]


def test_few_recorded_costs_are_too_few():
    net = fi.Network([1, 1], output="identity")
    X, Y = np.array([[-1.0, 1.0]]), np.array([[-1.0, 1.0]])
    points = np.array([0, 250, 500, 750])
    found = judge_courses(
        net, np.zeros((1, 2)), X, Y, points, np.full((1, 4), 0.5), iterations=1000
    )
    assert COURSES[found["course"][0]] == "too early to tell"
    words = verdict_of(row(course=1, change=np.nan), halves())
    assert words.endswith("too early to tell whether it converges: too few costs were recorded")


def random_training(rng):
    """Return one of many trainings: network, start, data, keywords of train."""
    m = int(rng.choice([40, 150]))
    X = rng.standard_normal((3, m))
    kind = rng.choice(["noise", "linear", "xor", "regression", "counts", "classes", "unbalanced"])
    Y, output = {
        "noise": (noise_labels(rng, m), "sigmoid"),
        "linear": ((X[:1] + 0.5 * rng.standard_normal((1, m)) > 0).astype(int), "sigmoid"),
        "xor": ((X[:1] * X[1:2] > 0).astype(int), "sigmoid"),
        "regression": (np.sin(X[:1]) + 0.3 * rng.standard_normal((1, m)), "identity"),
        "counts": (rng.poisson(np.exp(0.5 * X[:1])), "exponential"),
        "classes": (rng.integers(0, 3, m), "softmax"),
        "unbalanced": ((X[:1] > 1.6).astype(int), "sigmoid"),
    }[str(kind)]
    hidden = [[], [5], [10, 5], [4, 4, 4, 4]][rng.integers(4)]
    net = fi.Network(
        [3, *hidden, 3 if output == "softmax" else 1],
        output=output,
        activation=str(rng.choice(["relu", "tanh", "sigmoid", "identity"])),
        dtype=str(rng.choice(["float64", "float32"])),
    )
    scheme = str(rng.choice(["he_normal", "glorot_uniform", "orthogonal", "zeros"]))
    start = net.initialize(scheme, seed=int(rng.integers(1000))) * net.dtype.type(
        rng.choice([0.1, 1.0, 1.0, 3.0])
    )
    rate = float(rng.choice([0.01, 0.1, 0.5]))
    l2 = float(rng.choice([0.0, 0.0, 1e-2]))
    optimizer = [
        fi.GradientDescent(rate, l2=l2),
        fi.Momentum(rate / 5, l2=l2),
        fi.Adam(rate / 20, l2=l2),
    ][rng.integers(3)]
    keywords = {"optimizer": optimizer, "iterations": int(rng.choice([30, 100, 300, 1000]))}
    if rng.random() < 0.3:
        keywords["batch_size"] = 32
    return net, start[None], X, Y, l2, keywords


def test_runs_called_converged_do_not_improve():
    """Ten times the iterations lower the penalised cost by at most 2 %, in 97 % of trainings."""
    found, wrong, kinds = 0, 0, set()
    for seed in range(300):
        net, start, X, Y, l2, keywords = random_training(np.random.default_rng(seed))
        stack = trained(net, start, X, Y, **keywords)
        name = COURSES[judged(net, stack, X, Y, l2=l2)["course"][0]]
        kinds.add(name)
        if name != "converged":
            continue
        found += 1
        longer = keywords | {"iterations": 10 * keywords["iterations"]}
        later = trained(net, start, X, Y, **longer)
        weights = np.concatenate(
            [
                np.full(array[0].size, name[0] == "W")
                for name, array in net.unpack(stack.theta).items()
            ]
        )
        lowest = constant_costs(net, net.check_Y(Y, net.check_X(X))).lowest
        costs = [
            each.final_costs[0] + l2 / 2 * np.square(np.float64(each.theta[0][weights])).sum()
            for each in (stack, later)
        ]
        wrong += costs[0] - costs[1] > 0.02 * (stack.final_costs[0] - lowest) + 1e-5
    assert found >= 25
    assert wrong <= 0.03 * found
    assert kinds >= {
        "falling",
        "plateau",
        "stationary",
        "converged",
        "oscillating",
        "too early to tell",
    }


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity", "exponential"])
def test_constant_costs(rng, output):
    """The best bias of a network without inputs that matter, by SciPy."""
    optimize = pytest.importorskip("scipy.optimize")
    net = fi.Network([1, 3], output=output)
    labels = {
        "sigmoid": rng.integers(0, 2, (3, 40)),
        "softmax": rng.integers(0, 3, 40),
        "identity": rng.standard_normal((3, 40)),
        "exponential": rng.poisson(2.0, (3, 40)),
    }[output]
    X = np.zeros((1, 40))
    Y = net.check_Y(labels, X)
    weight = rng.random(40)
    best = optimize.minimize(
        lambda theta: net.cost(theta, X, Y, sample_weight=weight), net.initialize("zeros"), tol=1e-9
    ).fun
    found = constant_costs(net, Y, weight)
    assert found.cost == pytest.approx(best, rel=1e-6)
    perfect = {"exponential": Y - scipy_special.xlogy(Y, Y)}.get(output, 0 * Y)
    assert found.lowest == pytest.approx(
        float(np.average(perfect.sum(axis=0), weights=weight)), abs=1e-12
    )


# --- predictions ----------------------------------------------------------------------------------


def test_noise_labels_are_not_learned(net, circles, rng):
    X, _, X_test, _ = circles
    starts = net.initialize("he_normal", seed=0, n=10)
    Y, Y_test = noise_labels(rng, 300), noise_labels(rng, 100)
    words = verdict(net, starts, X, Y, (X_test, Y_test), iterations=3000, learning_rate=0.1)
    assert "not shown to be better than always guessing one class on test data in any run" in words


def test_memorised_labels_are_named(rng):
    net = fi.Network([20, 50, 1], activation="tanh")
    X, X_test = rng.standard_normal((20, 60)), rng.standard_normal((20, 100))
    data = X, noise_labels(rng, 60), (X_test, noise_labels(rng, 100))
    words = verdict(
        net, net.initialize("he_normal", seed=0)[None], *data, iterations=2000, learning_rate=0.5
    )
    assert "memorises the training data, accuracy 100.0%" in words
    assert "not shown to be better than always guessing" in words
    starts = net.initialize("he_normal", seed=0, n=3)
    words = verdict(net, starts, *data, iterations=2000, learning_rate=0.5)
    assert "memorises the training data in all runs" in words


def test_unbalanced_classes_are_compared_with_the_majority(rng):
    X = rng.standard_normal((3, 600))
    Y = (rng.random((1, 600)) < 0.05).astype(int)
    net = fi.Network([3, 5, 1])
    words = verdict(
        net,
        net.initialize("he_normal", seed=0)[None],
        X[:, :300],
        Y[:, :300],
        (X[:, 300:], Y[:, 300:]),
        iterations=3000,
        learning_rate=0.1,
    )
    assert words.startswith("not shown to be better than always guessing one class on test data, 9")


def test_the_other_class_is_no_better_than_guessing():
    # The class that is most frequent in the training labels is not in the test labels.
    net = fi.Network([1, 1])
    Y, Y_test = np.array([[0] * 51 + [1] * 49]), np.array([[0] * 400 + [1] * 600])
    evidence = evidence_of(net, Y, (np.zeros((1, 1000)), Y_test))
    assert evidence.test_chance == 0.6
    words = verdict_of(row(test_score=0.6), evidence)
    assert words.startswith("not shown to be better")


def row(k=1, **changes):
    columns = {
        "iterations": 1000,
        "stopped": STOPPED.index("iterations"),
        "diverged_at": -1,
        "course": COURSES.index("converged"),
        "change": 0.0,
        "final_cost": 0.3,
        "train_score": 0.9,
        "test_score": 0.9,
        "test_cost": 0.3,
        "losses_p_value": math.nan,
        "test_gain_error": 0.01,
        "symmetric": 0,
        "saturated": 0.0,
    } | changes
    return {name: np.broadcast_to(np.asarray(value), (k,)) for name, value in columns.items()}


def halves(n_train=100, n_test=100, output="sigmoid"):
    net = fi.Network([1, 1], output=output)
    labels = [np.arange(n)[None] % 2 for n in (n_train, n_test)]
    test = (np.zeros((1, n_test)), labels[1]) if n_test else None
    return evidence_of(net, labels[0], test)


def test_guessing_at_random_is_seldom_called_worse_than_guessing_one_class(rng):
    # The most frequent class of the test data is right in more than half of them by chance.
    worse = 0
    for n in [20, 60, 290] * 40:
        labels = rng.integers(0, 2, (1, n))
        evidence = evidence_of(fi.Network([1, 1]), labels, (np.zeros((1, n)), labels))
        words = verdict_of(row(test_score=rng.binomial(n, 0.5) / n), evidence)
        worse += words.startswith("worse than always guessing one class")
    assert worse <= 3
    words = verdict_of(row(test_score=0.3), halves(n_test=200))
    assert words.startswith("worse than always guessing one class on test data, 30.0%")


def test_few_test_examples_do_not_show_that_data_were_memorised():
    runs = row(2, train_score=1.0, test_score=[0.45, 0.55])
    words = [
        verdict_of({name: own[[i]] for name, own in runs.items()}, halves(n_test=40))
        for i in range(2)
    ]
    assert "; memorises the training data, accuracy 100.0%" in words[0]
    assert "not shown to be better" in words[1]
    assert "; overfits: accuracy 100.0% in training, 55.0% on test data" in words[1]
    both = verdict_of(runs, halves(n_test=40))
    assert "memorises the training data in 1 of 2 runs; overfits in 1 of 2 runs" in both


def test_a_cost_that_vanishes_is_called_so():
    # That of separable classes falls without end, and soon does not matter.
    words = verdict_of(row(final_cost=2e-7), halves())
    assert words.endswith("converged to the lowest possible cost, up to 1e-6 of that of a constant")
    assert verdict_of(row(final_cost=2e-6), halves()).endswith("; converged")


def test_early_stopping_is_reported():
    early = STOPPED.index("tol")
    assert "; stopped early after 340 iterations; " in verdict_of(
        row(iterations=340, stopped=early), halves()
    )
    stopped = np.where(np.arange(20) < 12, early, STOPPED.index("iterations"))
    assert "; stopped early in 12 of 20 runs; " in verdict_of(row(20, stopped=stopped), halves())
    assert "stopped early" not in verdict_of(row(20), halves())


@pytest.mark.parametrize(
    ("course", "change", "words"),
    [
        ("falling", -0.2, "cost still falling, 20% in the last tenth"),
        ("falling", -0.05, "cost still falling, 5.0% in the last tenth"),
        ("falling", -0.0005, "cost still falling, less than 0.1% in the last tenth"),
        # The trend is that of the last half.
        ("falling", 0.01, "cost still falling"),
        ("rising", 0.2, "cost still rising, 20% in the last tenth"),
        ("rising", -0.2, "cost still rising"),
    ],
)
def test_words_of_a_trend(course, change, words):
    said = verdict_of(row(course=COURSES.index(course), change=change), halves())
    assert said.split("; ")[-1] == words


def test_the_courses_of_many_runs_begin_with_the_best():
    names = ("rising", "plateau", "converged", "falling")
    words = verdict_of(row(4, course=[COURSES.index(name) for name in names]), halves())
    assert (
        "; converged in 1 of 4 runs; cost still falling in 1 of 4 runs; on a plateau in 1 of 4 "
        "runs; cost rising in 1 of 4 runs; "
    ) in words


@pytest.mark.parametrize("k", [1, 3])
def test_saturation_is_said_from_a_tenth_on(k):
    assert "saturated at the start" in verdict_of(row(k, saturated=0.1), halves())
    assert "saturated" not in verdict_of(row(k, saturated=0.099), halves())


@pytest.mark.parametrize("k", [1, 3])
def test_memorising_requires_99_percent(k):
    evidence = halves(200, 200)
    assert "memorises" in verdict_of(row(k, train_score=0.99, test_score=0.5), evidence)
    words = verdict_of(row(k, train_score=0.985, test_score=0.5), evidence)
    assert "overfits" in words
    assert "memorises" not in words


def test_parts_of_an_example_do_not_count_for_overfitting():
    """Shares of several outputs are rounded to the side that speaks against the claim."""
    net = fi.Network([1, 3])
    labels = np.tile(np.arange(50) % 2, (3, 1))
    evidence = evidence_of(net, labels, (np.zeros((1, 50)), labels))

    def p_value(hits, others):
        return scipy_stats.fisher_exact([[hits, 50 - hits], [others, 50 - others]], "greater")[1]

    hits = next(hits for hits in range(41, 51) if p_value(hits, 39) <= 0.025)
    assert p_value(hits, 40) > 0.025
    share = hits / 50
    assert "overfits" in verdict_of(row(train_score=share, test_score=39 / 50), evidence)
    # Each of 39 examples and two of three outputs of another one.
    between = row(train_score=share, test_score=(39 + 2 / 3) / 50)
    assert "overfits" not in verdict_of(between, evidence)


def test_costs_that_are_both_negligible_are_no_overfitting():
    evidence = halves(output="identity")
    fitted = {"final_cost": 0.0, "train_score": 1.0, "losses_p_value": 1e-9}
    assert "overfits" not in verdict_of(row(test_cost=1e-8, **fitted), evidence)
    assert "overfits" in verdict_of(row(test_cost=1e-2, **fitted), evidence)


def test_the_score_of_counts_is_called_as_in_the_tables():
    net = fi.Network([1, 1], output="exponential")
    counts = np.arange(100.0)[None]
    evidence = evidence_of(net, counts, (np.zeros((1, 100)), counts))
    assert "(R2 0.9)" in verdict_of(row(), evidence)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_few_test_examples_support_no_claim(n):
    words = verdict_of(row(test_score=1.0), halves(n_test=n))
    assert words.startswith(f"{n} test examples are too few to distinguish from guessing; ")
    assert f"{n} test examples are too few" in verdict_of(row(3, test_score=1.0), halves(n_test=n))


def test_one_class_in_the_test_data_supports_no_claim():
    net = fi.Network([1, 1])
    evidence = evidence_of(net, np.array([[0, 1]]), (np.zeros((1, 50)), np.zeros((1, 50), int)))
    assert "one class only" in verdict_of(row(test_score=1.0), evidence)


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 300), st.data())
def test_the_claim_is_that_of_the_exact_test(n, data):
    hits = data.draw(st.integers(0, n))
    evidence = halves(n_test=n)
    p = scipy_stats.binomtest(hits, n, evidence.test_chance, alternative="greater").pvalue
    words = verdict_of(row(test_score=hits / n), evidence)
    assert words.startswith("better than always") == (p <= 0.025)
    low, high = scipy_stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    if "too few" not in words:
        assert f"(95% interval {low:.1%} to {high:.1%})" in words
        guess = scipy_stats.binomtest(round(evidence.test_chance * n), n)
        worse = high < guess.proportion_ci(0.95, "exact")[0]
        assert words.startswith("worse than always") == worse


def test_several_outputs_of_one_example_count_once():
    # 60 % of 3 x 50 labels would be significant if they were independent.
    net = fi.Network([1, 3])
    labels = np.tile(np.arange(50) % 2, (3, 1))
    evidence = evidence_of(net, labels, (np.zeros((1, 50)), labels))
    assert scipy_stats.binomtest(90, 150, 0.5, alternative="greater").pvalue < 0.025
    assert verdict_of(row(test_score=0.6), evidence).startswith("not shown to be better")


def test_claims_about_many_runs_are_corrected():
    # One run in a hundred is above the limit of a single test by chance.
    scores = np.full(100, 0.5)
    scores[0] = 0.61
    evidence = halves()
    assert verdict_of(row(test_score=0.61), evidence).startswith("better than always")
    words = verdict_of(row(100, test_score=scores), evidence)
    assert words.startswith(
        "not shown to be better than always guessing one class on test data in any"
    )
    scores[:40] = 0.9
    words = verdict_of(row(100, test_score=scores), evidence)
    assert words.startswith("better than always guessing one class on test data in 40 of 100 runs")


def test_chance_is_rarely_called_better():
    scores = np.random.default_rng(1).binomial(100, 0.5, 2000) / 100
    better = sum(
        verdict_of(row(test_score=score), halves()).startswith("better") for score in scores
    )
    assert better <= scipy_stats.binom.ppf(0.999, 2000, 0.025)


def test_overfitting_is_said():
    words = verdict_of(row(train_score=0.99, test_score=0.8), halves())
    assert "overfits: accuracy 99.0% in training, 80.0% on test data" in words
    assert "overfits" not in verdict_of(row(train_score=0.9, test_score=0.88), halves())
    assert "overfits" not in verdict_of(row(train_score=0.9, test_score=0.6), halves(20, 10))
    # A difference of 1 % is significant in large data, but not far.
    assert "overfits" not in verdict_of(
        row(train_score=0.99, test_score=0.98), halves(10**5, 10**5)
    )


def test_overfitting_of_a_regression(rng):
    net = fi.Network([3, 50, 1], activation="tanh", output="identity")
    X = rng.standard_normal((3, 200))
    Y = rng.standard_normal((1, 200))
    words = verdict(
        net,
        net.initialize("he_normal", seed=0)[None],
        X[:, :60],
        Y[:, :60],
        (X[:, 60:], Y[:, 60:]),
        iterations=5000,
        learning_rate=0.1,
    )
    assert words.startswith("not shown to be better than a constant on test data (R2 -")
    assert "overfits: cost" in words


def labels_of(rng, kind, n):
    """Return labels of heavy tails that depend on nothing."""
    return {
        "lognormal counts": lambda: np.floor(np.exp(rng.normal(0.0, 1.5, n))),
        "pareto counts": lambda: np.floor(rng.pareto(1.5, n)),
        "negative binomial": lambda: rng.negative_binomial(0.3, 0.1, n) * 1.0,
        "student": lambda: rng.standard_t(2, n),
        "normal": lambda: rng.normal(size=n),
    }[kind]()[None]


@pytest.mark.parametrize(
    "kind", ["lognormal counts", "pareto counts", "negative binomial", "student", "normal"]
)
def test_overfitting_is_not_said_of_one_rare_label(rng, kind):
    """A network that was hardly trained fits its training examples no better than others."""
    output = "identity" if kind in ("student", "normal") else "exponential"
    net = fi.Network([3, 4, 1], output=output)
    said = memorised = 0
    for seed in range(200):
        X, Y = rng.normal(size=(3, 160)), labels_of(rng, kind, 160)
        test = X[:, 100:], Y[:, 100:]
        starts = net.initialize("he_normal", seed=seed)[None]
        said += "overfits" in verdict(net, starts, X[:, :100], Y[:, :100], test, iterations=1)
    assert said <= scipy_stats.binom.ppf(0.999, 200, 0.025)
    large = fi.Network([3, 40, 40, 1], output=output)
    for seed in range(10):
        X, Y = rng.normal(size=(3, 160)), labels_of(rng, kind, 160)
        memorised += "overfits" in verdict(
            large, large.initialize("he_normal", seed=seed)[None], X[:, :60], Y[:, :60],
            (X[:, 60:], Y[:, 60:]), iterations=1500, optimizer=fi.Adam(0.01),
        )  # fmt: skip
    assert memorised >= 9


def test_a_regression_is_compared_with_a_constant(rng):
    net = fi.Network([3, 1], output="identity")
    X = rng.standard_normal((3, 200))
    Y = X[:1] + 0.3 * rng.standard_normal((1, 200))
    start = net.initialize("he_normal", seed=0)[None]
    data = X[:, :100], Y[:, :100]
    words = verdict(net, start, *data, (X[:, 100:], Y[:, 100:]), iterations=500, learning_rate=0.1)
    assert words.startswith("better than a constant on test data (R2 0.9")
    assert words.endswith("converged")
    assert "on training data (no test data were given)" in verdict(
        net, start, *data, iterations=500
    )
    few = verdict(net, start, *data, (X[:, 100:104], Y[:, 100:104]), iterations=500)
    assert few.startswith("4 test examples are too few to distinguish from a constant")


def test_one_outlier_in_training_makes_no_network_better_than_a_constant(rng):
    """The mean of the training labels is a bad constant; R2 is that of the test labels."""
    X, X_test = rng.standard_normal((2, 100)), rng.standard_normal((2, 100))
    Y, Y_test = rng.standard_normal((1, 100)), rng.standard_normal((1, 100))
    Y[0, 0] = 1000
    net = fi.Network([2, 5, 1], output="identity")
    starts = net.initialize("he_normal", seed=0, n=5)
    words = verdict(net, starts, X, Y, (X_test, Y_test), iterations=50, learning_rate=1e-6)
    assert "not shown to be better than a constant on test data in any run" in words


def test_heavy_tailed_noise_is_rarely_called_better():
    """On 10 examples of noise, a fixed prediction is called better at most as often as tested."""
    rng = np.random.default_rng(0)
    k, n = 4000, 10
    Y = np.exp(2 * rng.standard_normal((k, n)))
    predictions = np.exp(2 * rng.standard_normal((k, n))).clip(max=3)
    mean = Y.mean(axis=1, keepdims=True)
    gains = ((Y - mean) ** 2 - (Y - predictions) ** 2) / 2
    evidence = replace(halves(n_test=n, output="identity"), test_constant=0.0)
    p = better_p_values(
        row(
            k,
            test_cost=-gains.mean(axis=1),
            test_gain_error=gains.std(axis=1, ddof=1) / math.sqrt(n),
        ),
        evidence,
    )
    assert np.count_nonzero(p <= 0.025) <= scipy_stats.binom.ppf(0.999, k, 0.025)


def test_a_diverged_run_makes_no_claim():
    gone = row(
        4,
        diverged_at=[-1, 7, 9, 3],
        course=[7, 8, 8, 8],
        final_cost=[0.3, np.nan, np.nan, np.nan],
        saturated=0.5,
    )
    words = verdict_of(gone, halves())
    assert "better than always guessing one class on test data in 1 of 4 runs" in words
    assert "diverged in 3 of 4 runs" in words
    assert "outputs saturated at the start in all runs" in words
    assert "median final cost infinite" in words
    assert verdict_of(row(diverged_at=7, course=8), halves()) == "diverged at iteration 7"


# --- exact tests ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3000), st.data())
def test_binomial_intervals_and_tails(n, data):
    hits = data.draw(st.integers(0, n))
    share = data.draw(st.floats(0.01, 0.99))
    with mpmath.workdps(40):  # SciPy has eight digits of the smallest tails
        terms = (
            mpmath.binomial(n, k) * mpmath.mpf(share) ** k * (1 - mpmath.mpf(share)) ** (n - k)
            for k in range(hits, n + 1)
        )
        expected = float(mpmath.fsum(terms))
    assert float(binomial_tail(hits, n, share)) == pytest.approx(expected, rel=1e-10, abs=1e-300)
    expected = scipy_stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(
        np.array(binomial_interval(hits, n)), expected, rtol=1e-9, atol=1e-12
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_quantiles_are_those_of_numpy(values, shares):
    table = np.array([values, values[::-1]]).T
    expected = np.quantile(table, shares, axis=0)
    np.testing.assert_allclose(quantiles(table, shares), expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(quantiles(values, [0, 1]), [min(values), max(values)])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([1.0, 2.0, np.inf, np.nan]), min_size=2, max_size=9))
def test_the_median_of_failed_runs(values):
    """An order statistic for an odd number of values."""
    values = values[: len(values) - 1 + len(values) % 2]
    ordered = sorted(np.inf if np.isnan(value) else value for value in values)
    assert quantiles(values, [0.5])[0] == ordered[len(ordered) // 2]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 20, 101, 1000, 1001, 5000])
def test_median_interval_has_its_confidence(n, confidence):
    """By SciPy's interval of the median from the binomial distribution."""
    low, high = median_interval(np.arange(1, n + 1), confidence)
    expected = scipy_stats.quantile_test(np.arange(1, n + 1), p=0.5).confidence_interval(confidence)
    assert np.isnan([low, high]).all() == np.isnan([*expected]).any()
    if not np.isnan(low):
        # Beyond 1000 values, ranks are those of the normal approximation.
        assert abs(low - expected.low) <= (n > 1000)
        assert abs(high - expected.high) <= (n > 1000)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_fishers_test(n, n_others, data):
    hits, others = data.draw(st.integers(0, n)), data.draw(st.integers(0, n_others))
    expected = scipy_stats.fisher_exact([[hits, n - hits], [others, n_others - others]], "greater")[
        1
    ]
    assert float(fisher_tail(hits, n, others, n_others)) == pytest.approx(
        expected, rel=1e-8, abs=1e-300
    )


def test_fishers_test_of_many_runs(rng):
    """Pairs whose sums, or whose numbers of hits on one side, are the same are different ones."""
    hits, others = rng.integers(0, 13, (5, 40)), rng.integers(0, 8, (5, 40))
    found = fisher_tail(hits, 12, others, 7)
    assert found.shape == hits.shape
    expected = [
        float(fisher_tail(a, 12, b, 7)) for a, b in zip(hits.flat, others.flat, strict=True)
    ]
    np.testing.assert_array_equal(found.ravel(), expected)


@settings(deadline=None, max_examples=40)
@given(st.floats(-20, 20), st.integers(2, 500))
def test_the_t_statistic_of_a_gain(t, n):
    evidence = halves(n_test=n, output="identity")
    columns = row(test_cost=evidence.test_constant - 0.1 * t, test_gain_error=0.1)
    expected = scipy_stats.t.sf(t, n - 1)
    assert better_p_values(columns, evidence)[0] == pytest.approx(expected, rel=1e-6, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-9, 0.9), st.integers(1, 10**6))
def test_quantiles_of_t(level, freedom):
    assert t_quantile(level, freedom) == pytest.approx(
        scipy_stats.t.isf(level / 2, freedom), rel=1e-6
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_closed_bonferroni_test(p_values):
    """The corrected p-value is the largest Bonferroni p-value of all subsets with the test."""
    corrected = holm(p_values)
    k = len(p_values)
    for i in range(k):
        subsets = (
            [p_values[j] for j in range(k) if code >> j & 1]
            for code in range(1 << k)
            if code >> i & 1
        )
        expected = max(min(1.0, len(own) * min(own)) for own in subsets)
        assert corrected[i] == pytest.approx(expected, rel=1e-12)


def test_a_hundred_thousand_runs_are_judged(rng):
    k = 100_000
    columns = row(
        k, test_score=rng.integers(40, 101, k) / 100, train_score=rng.integers(40, 101, k) / 100
    )
    assert " of 100,000 runs" in verdict_of(columns, halves())
