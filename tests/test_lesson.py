"""The lesson's numbers, and its module under its own names.

The oracle is the lesson's own arithmetic, written out once more in NumPy at the end of this file,
and the figures that the lesson publishes.
"""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit import init_utils

# What the lesson prints: cost at 0, 1000, 14000; accuracy on training and test data.
PUBLISHED = {
    "zeros": ((0.693147180560, 0.693147180560, 0.693147180560), (0.5, 0.5)),
    "he": ((0.883053746342, 0.687982591973, 0.073578959627), (0.99333, 0.96)),
}


@pytest.fixture(autouse=True)
def restored_state():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def run_model(capsys, **keywords):
    """Run the lesson's closing cell: model, then predict on both sets."""
    X, Y, X_test, Y_test = init_utils.load_dataset()
    if "numpy_seed" in keywords:
        np.random.seed(keywords.pop("numpy_seed"))
    parameters = init_utils.model(X, Y, **keywords)
    init_utils.predict(X, Y, parameters)
    init_utils.predict(X_test, Y_test, parameters)
    lines = capsys.readouterr().out.splitlines()
    costs = dict(line.removeprefix("Cost after iteration ").split(": ") for line in lines[:-2])
    accuracies = [float(line.removeprefix("Accuracy: ")) for line in lines[-2:]]
    return {int(i): float(cost) for i, cost in costs.items()}, accuracies


@pytest.mark.parametrize("scheme", ["zeros", "he"])
def test_stable_schemes_to_twelve_digits(capsys, scheme):
    costs, accuracies = run_model(capsys, initialization=scheme)
    published, published_accuracies = PUBLISHED[scheme]
    assert list(costs) == list(range(0, 15_000, 1000))
    for i, cost in zip((0, 1000, 14_000), published, strict=True):
        assert f"{costs[i]:.12f}" == f"{cost:.12f}"
    assert_allclose(accuracies, published_accuracies, atol=5e-6)


@pytest.mark.parametrize("scheme", ["zeros", "he"])
def test_every_recorded_cost_to_twelve_digits(capsys, scheme):
    """Against the lesson's own NumPy arithmetic, run here."""
    costs, _ = run_model(capsys, initialization=scheme)
    X, Y, _, _ = init_utils.load_dataset()
    expected = lesson_costs(X, Y, scheme)
    assert_allclose(list(costs.values()), expected, rtol=5e-13)


@pytest.mark.parametrize(
    ("seed", "at_1000", "at_14000", "accuracies"),
    [(None, 0.386, 0.208, (0.88333, 0.85)), (3, 0.624, 0.3828, (0.83, 0.86))],
)
def test_large_random_weights(capsys, seed, at_1000, at_14000, accuracies):
    """Rounding decides the last digits here: costs within 10 %, accuracies within 0.01."""
    keywords = {} if seed is None else {"numpy_seed": seed}
    costs, ours = run_model(capsys, initialization="random", **keywords)
    assert costs[0] == np.inf
    assert_allclose([costs[1000], costs[14_000]], [at_1000, at_14000], rtol=0.1)
    assert_allclose(ours, accuracies, atol=0.01 + 5e-6)


def test_compare_prints_the_lessons_table(circles):
    X, Y, X_test, Y_test = circles
    init_utils.load_dataset()
    net = fi.Network([2, 10, 5, 1], loss="saturating_cross_entropy")
    result = fi.compare(X, Y, net, ["zeros", "lesson.random", "lesson.he"], test=(X_test, Y_test))
    rows = {row["scheme"]: row for row in result.table()}
    for scheme, (train, test) in {
        "zeros": (0.5, 0.5),
        "lesson.random": (0.88333, 0.85),
        "lesson.he": (0.99333, 0.96),
    }.items():
        atol = 0.01 if scheme == "lesson.random" else 5e-6
        assert rows[scheme]["train accuracy"] == pytest.approx(train, abs=atol)
        assert rows[scheme]["test accuracy"] == pytest.approx(test, abs=atol)
    assert "layers 1 and 2 are still identical" in rows["zeros"]["verdict"]
    assert "no better than always guessing one class; converged" in rows["zeros"]["verdict"]
    assert "saturated at the start" in rows["lesson.random"]["verdict"]
    assert rows["lesson.he"]["verdict"].startswith(
        "better than always guessing one class; cost still f"
    )


def test_float32_learns_the_same(circles):
    X, Y, X_test, Y_test = circles
    net = fi.Network([2, 10, 5, 1], dtype="float32")
    theta = net.initialize("lesson.he", seed=3)
    run = fi.train(net, theta, X, Y, learning_rate=0.01, iterations=15_000)
    assert run.costs[[0, 1000, 14_000]] == pytest.approx(PUBLISHED["he"][0], rel=0.01)
    assert net.accuracy(theta, X_test, Y_test) == pytest.approx(0.96, abs=0.01)


# --- the module, name by name -------------------------------------------------------------------


def test_star_import_brings_the_lessons_names():
    names = {}
    exec("from fastinit.init_utils import *", names)
    assert set(names) >= {
        "sigmoid", "relu", "forward_propagation", "backward_propagation", "compute_loss",
        "update_parameters", "predict", "predict_dec", "plot_decision_boundary", "load_dataset",
        "initialize_parameters_zeros", "initialize_parameters_random", "initialize_parameters_he",
        "model",
    }  # fmt: skip


def test_initialize_parameters():
    dims = [2, 10, 5, 1]
    zeros = init_utils.initialize_parameters_zeros(dims)
    assert list(zeros) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert all((value == 0).all() for value in zeros.values())
    np.random.seed(7)
    large = init_utils.initialize_parameters_random(dims)
    np.random.seed(7)
    for layer in (1, 2, 3):
        expected = np.random.randn(dims[layer], dims[layer - 1]) * 10
        assert_array_equal(large[f"W{layer}"], expected)
        assert_array_equal(large[f"b{layer}"], np.zeros((dims[layer], 1)))
    he = init_utils.initialize_parameters_he(dims)
    after = np.random.rand()
    np.random.seed(3)
    for layer in (1, 2, 3):
        expected = np.random.randn(dims[layer], dims[layer - 1]) * np.sqrt(2 / dims[layer - 1])
        assert_array_equal(he[f"W{layer}"], expected)
    assert np.random.rand() == after


def test_one_step_by_hand(circles):
    """The notebook's loop, cache and gradients as the lesson names them."""
    X, Y, _, _ = circles
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    before = {name: value.copy() for name, value in parameters.items()}
    a3, cache = init_utils.forward_propagation(X, parameters)
    grads = init_utils.backward_propagation(X, Y, cache)
    cost = init_utils.compute_loss(a3, Y)
    expected_cost, expected_grads, expected_cache = lesson_step(X, Y, before)
    assert cost == pytest.approx(expected_cost, rel=1e-14)
    assert len(cache) == 12
    for ours, theirs in zip(cache, expected_cache, strict=True):
        assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert list(grads) == [
        "dz3", "dW3", "db3", "da2", "dz2", "dW2", "db2", "da1", "dz1", "dW1", "db1",
    ]  # fmt: skip
    for name, expected in expected_grads.items():
        assert_allclose(grads[name], expected, rtol=1e-11, atol=1e-15, err_msg=name)
    updated = init_utils.update_parameters(parameters, grads, 0.5)
    assert updated is parameters
    for name, value in before.items():
        assert_allclose(updated[name], value - 0.5 * expected_grads[f"d{name}"], rtol=1e-12)


def test_predict(capsys, circles):
    X, Y, _, _ = circles
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    p = init_utils.predict(X, Y, parameters)
    expected = lesson_step(X, Y, parameters)[2][9] > 0.5
    assert p.shape == (1, 300)
    assert_array_equal(p, expected)
    assert capsys.readouterr().out == f"Accuracy: {np.mean(expected == Y)}\n"
    assert_array_equal(init_utils.predict_dec(parameters, X), expected)
    halves = init_utils.initialize_parameters_zeros([2, 10, 5, 1])
    assert not init_utils.predict_dec(halves, X).any(), "one half is not above one half"


def test_no_warning_escapes(circles):
    """Warnings are errors here; the lesson's NumPy code raises several on this way."""
    X, Y, _, _ = circles
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    parameters = {name: value * 1e6 for name, value in parameters.items()}
    a3, cache = init_utils.forward_propagation(X, parameters)
    init_utils.backward_propagation(X, Y, cache)
    assert init_utils.compute_loss(a3, Y) == np.inf
    assert_array_equal(init_utils.sigmoid(np.array([-1e9, 0, 1e9])), [0, 0.5, 1])
    assert_array_equal(init_utils.relu([[-1, 2]]), [[0, 2]])
    huge = {name: np.full(2, 1e300) for name in ("W1", "dW1")}
    init_utils.update_parameters({"W1": huge["W1"]}, huge, 1e300)
    assert isinstance(init_utils.sigmoid(0.0), float)


@pytest.mark.parametrize(
    ("changes", "X_shape", "message"),
    [
        ({}, (300, 2), "X: expected shape (2, 2); got (300, 2)"),  # the .T that one forgets
        ({}, (1, 300), "X: expected shape (2, 300); got (1, 300)"),
        ({}, (300,), "X: expected 2 dimensions; got shape (300,)"),
        ({"b1": (3, 1)}, (2, 300), "b1: expected shape (10, 1); got (3, 1)"),
        ({"b3": (1,)}, (2, 300), "b3: expected shape (1, 1); got (1,)"),
        ({"W2": (5, 11)}, (2, 300), "W2: expected shape (5, 10); got (5, 11)"),
        ({"W2": (5, 7)}, (2, 300), "W2: expected shape (5, 10); got (5, 7)"),
        ({"W3": (5,)}, (2, 300), "W3: expected 2 dimensions; got shape (5,)"),
    ],
)
def test_forward_refuses_what_does_not_fit(changes, X_shape, message):
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    parameters |= {name: np.zeros(shape) for name, shape in changes.items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        init_utils.forward_propagation(np.ones(X_shape), parameters)


@pytest.mark.parametrize(
    ("X_shape", "Y_shape", "message"),
    [
        ((2, 400), (1, 300), "X: expected shape (2, 300); got (2, 400)"),
        ((2, 5), (1, 300), "X: expected shape (2, 300); got (2, 5)"),
        ((1, 300), (1, 300), "X: expected shape (2, 300); got (1, 300)"),
        ((2, 300), (300,), "Y: expected shape (1, 300); got (300,)"),
        ((2, 300), (1, 299), "Y: expected shape (1, 300); got (1, 299)"),
    ],
)
def test_backward_refuses_what_does_not_fit(circles, X_shape, Y_shape, message):
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    _, cache = init_utils.forward_propagation(circles[0], parameters)
    with pytest.raises(ValueError, match=re.escape(message)):
        init_utils.backward_propagation(np.ones(X_shape), np.ones(Y_shape), cache)


def test_model_says_that_it_diverged(capsys, circles):
    parameters = init_utils.model(circles[0], circles[1], learning_rate=1e200)
    assert "Diverged at iteration 1:" in capsys.readouterr().out
    assert all(np.isfinite(value).all() for value in parameters.values())


def test_model_of_an_unknown_scheme(circles):
    with pytest.raises(ValueError, match="initialization: expected one of zeros, random, he"):
        init_utils.model(circles[0], circles[1], initialization="xavier")


# --- the oracle ---------------------------------------------------------------------------------


def lesson_step(X, Y, p):
    m = X.shape[1]
    with np.errstate(all="ignore"):
        z1 = p["W1"] @ X + p["b1"]
        a1 = np.maximum(0, z1)
        z2 = p["W2"] @ a1 + p["b2"]
        a2 = np.maximum(0, z2)
        z3 = p["W3"] @ a2 + p["b3"]
        a3 = 1 / (1 + np.exp(-z3))
        cost = 1 / m * np.nansum(-np.log(a3) * Y - np.log(1 - a3) * (1 - Y))
        g = {"dz3": 1 / m * (a3 - Y)}
        g["dW3"], g["db3"] = g["dz3"] @ a2.T, g["dz3"].sum(axis=1, keepdims=True)
        g["da2"] = p["W3"].T @ g["dz3"]
        g["dz2"] = g["da2"] * (a2 > 0)
        g["dW2"], g["db2"] = g["dz2"] @ a1.T, g["dz2"].sum(axis=1, keepdims=True)
        g["da1"] = p["W2"].T @ g["dz2"]
        g["dz1"] = g["da1"] * (a1 > 0)
        g["dW1"], g["db1"] = g["dz1"] @ X.T, g["dz1"].sum(axis=1, keepdims=True)
    cache = (
        z1, a1, p["W1"], p["b1"], z2, a2, p["W2"], p["b2"], z3, a3, p["W3"], p["b3"],
    )  # fmt: skip
    return cost, g, cache


def lesson_costs(X, Y, scheme):
    initialize = getattr(init_utils, f"initialize_parameters_{scheme}")
    p = initialize([2, 10, 5, 1])
    costs = []
    for i in range(14_001):
        cost, g, _ = lesson_step(X, Y, p)
        if i % 1000 == 0:
            costs.append(cost)
        p = {name: value - 0.01 * g[f"d{name}"] for name, value in p.items()}
    return costs
