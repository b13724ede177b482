"""The lessons that follow the first: L2, dropout, gradient checking, mini-batches, momentum, Adam.

Oracles: the lessons' own arithmetic, written out once more in NumPy at the end of this file, the
figures that the lessons publish, and ``train``.
"""

import re
from types import MappingProxyType

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit import gc_utils, opt_utils, reference, reg_utils

# Sums of at most 300 products, 300 eps, of numbers near 1.
TOLERANCE = {"rtol": 0, "atol": 1e-12}
NAMES = ("W1", "b1", "W2", "b2", "W3", "b3")
GRADIENTS = ("dZ3", "dW3", "db3", "dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")


@pytest.fixture(autouse=True)
def restored_state():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.fixture
def start(circles):
    X, Y, _, _ = circles
    parameters = reg_utils.initialize_parameters([2, 10, 5, 1])
    return X, Y, {name: value + 0.05 for name, value in parameters.items()}


def assert_all_close(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        assert found[name].shape == expected[name].shape, name
        assert_allclose(found[name], expected[name], err_msg=name, **TOLERANCE)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            reg_utils,
            "sigmoid relu plot_decision_boundary initialize_parameters predict_dec compute_cost "
            "predict forward_propagation backward_propagation update_parameters "
            "compute_cost_with_regularization backward_propagation_with_regularization "
            "forward_propagation_with_dropout backward_propagation_with_dropout",
        ),
        (
            gc_utils,
            "sigmoid relu dictionary_to_vector vector_to_dictionary gradients_to_vector "
            "gradient_check_n_test_case forward_propagation_n backward_propagation_n "
            "gradient_check_n",
        ),
        (
            opt_utils,
            "initialize_parameters forward_propagation backward_propagation compute_cost predict "
            "predict_dec plot_decision_boundary load_dataset update_parameters_with_gd "
            "random_mini_batches initialize_velocity update_parameters_with_momentum "
            "initialize_adam update_parameters_with_adam",
        ),
    ],
)
def test_star_import_brings_the_lessons_names(module, names):
    found = {}
    exec(f"from {module.__name__} import *", found)
    assert set(names.split()) <= set(found)


# --- regularisation -------------------------------------------------------------------------------


def test_initialize_parameters_of_the_regularisation_lesson():
    parameters = reg_utils.initialize_parameters([4, 3, 2])
    np.random.seed(3)
    for layer, (n_in, n_out) in enumerate(((4, 3), (3, 2)), start=1):
        expected = np.random.randn(n_out, n_in) / np.sqrt(n_in)
        assert_allclose(parameters[f"W{layer}"], expected, rtol=1e-15)
        assert_array_equal(parameters[f"b{layer}"], np.zeros((n_out, 1)))


@pytest.mark.parametrize("lambd", [0.0, 0.7])
def test_l2_is_the_lessons(start, lambd):
    X, Y, parameters = start
    A3, cache = reg_utils.forward_propagation(X, parameters)
    expected_cost, expected, _ = reg_step(X, Y, parameters, lambd=lambd)
    cost = reg_utils.compute_cost_with_regularization(A3, Y, parameters, lambd)
    assert cost == pytest.approx(expected_cost, rel=1e-13)
    found = reg_utils.backward_propagation_with_regularization(X, Y, cache, lambd)
    assert_all_close(found, expected)
    if lambd == 0:
        assert reg_utils.compute_cost(A3, Y) == cost
        assert_all_close(reg_utils.backward_propagation(X, Y, cache), expected)


def test_l2_trains_as_train_does(start, lesson_net):
    X, Y, parameters = start
    lambd, m = 0.7, 300
    theta = lesson_net.pack(parameters)
    costs = []
    for _ in range(200):
        A3, cache = reg_utils.forward_propagation(X, parameters)
        costs.append(reg_utils.compute_cost(A3, Y))
        grads = reg_utils.backward_propagation_with_regularization(X, Y, cache, lambd)
        parameters = reg_utils.update_parameters(parameters, grads, 0.3)
    optimizer = fi.GradientDescent(0.3, l2=lambd / m)
    run = fi.train(lesson_net, theta, X, Y, optimizer=optimizer, iterations=200)
    assert_allclose(run.costs, costs, rtol=1e-11)
    assert_allclose(lesson_net.pack(parameters), run.theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("keep_prob", [0.5, 0.86, 1.0])
def test_dropout_is_the_lessons(start, keep_prob):
    X, Y, parameters = start
    A3, cache = reg_utils.forward_propagation_with_dropout(X, parameters, keep_prob=keep_prob)
    after = np.random.rand()
    _, expected, expected_cache = reg_step(X, Y, parameters, keep_prob=keep_prob)
    assert after == np.random.rand(), "the same draws, no more"
    assert len(cache) == len(expected_cache) == 14
    assert cache[11] is A3
    for ours, theirs in zip(cache, expected_cache, strict=True):
        assert ours.dtype == theirs.dtype
        assert_allclose(ours, theirs, **TOLERANCE)
    found = reg_utils.backward_propagation_with_dropout(X, Y, cache, keep_prob)
    assert_all_close(found, expected)


def test_dropout_keeps_half_by_default(start):
    X, _, parameters = start
    _, default = reg_utils.forward_propagation_with_dropout(X, parameters)
    _, half = reg_utils.forward_propagation_with_dropout(X, parameters, 0.5)
    for ours, theirs in zip(default, half, strict=True):
        assert_array_equal(ours, theirs)


# --- gradient checking ----------------------------------------------------------------------------


def test_gradient_check_is_the_published_one(capsys):
    """The costs' rounding, eps / epsilon = 2e-9, is what decides the digits of the small one."""
    X, Y, parameters = gc_utils.gradient_check_n_test_case()
    cost, cache = gc_utils.forward_propagation_n(X, Y, parameters)
    gradients = gc_utils.backward_propagation_n(X, Y, cache)
    difference = gc_utils.gradient_check_n(parameters, gradients, X, Y)
    assert difference == pytest.approx(1.189e-7, rel=0.02)
    verdict = "\033[92mYour backward propagation works perfectly fine!"
    assert capsys.readouterr().out == f"{verdict} difference = {difference}\033[0m\n"
    gradients |= {"dW2": gradients["dW2"] * 2, "db1": gradients["db1"] * 4}
    difference = gc_utils.gradient_check_n(parameters, gradients, X, Y)
    assert difference == pytest.approx(0.285093156781, abs=2e-9)
    assert "There is a mistake in the backward propagation!" in capsys.readouterr().out
    assert cost == gc_utils.forward_propagation_n(X, Y[None], parameters)[0]


def test_test_case_is_the_lessons():
    X, Y, parameters = gc_utils.gradient_check_n_test_case()
    np.random.seed(1)
    assert_array_equal(X, np.random.randn(4, 3))
    assert_array_equal(Y, [1, 1, 0])
    shapes = ((5, 4), (5, 1), (3, 5), (3, 1), (1, 3), (1, 1))
    assert list(parameters) == list(NAMES)
    for name, shape in zip(NAMES, shapes, strict=True):
        assert_array_equal(parameters[name], np.random.randn(*shape))


def test_vectors_and_dictionaries():
    _, _, parameters = gc_utils.gradient_check_n_test_case()
    theta, keys = gc_utils.dictionary_to_vector(parameters)
    assert theta.shape == (47, 1)
    assert keys == ["W1"] * 20 + ["b1"] * 5 + ["W2"] * 15 + ["b2"] * 3 + ["W3"] * 3 + ["b3"]
    assert_array_equal(theta[20:25], parameters["b1"])
    back = gc_utils.vector_to_dictionary(theta)
    for name, value in parameters.items():
        assert_array_equal(back[name], value)
        assert not np.shares_memory(back[name], theta)
    gradients = {f"d{name}": value for name, value in reversed(parameters.items())}
    assert_array_equal(gc_utils.gradients_to_vector(gradients), theta)


def test_gradients_of_regularisation_pass_the_check(start):
    """Of another network than the lesson's, and with central differences taken here."""
    X, Y, parameters = start
    _, cache = reg_utils.forward_propagation(X, parameters)
    gradients = reg_utils.backward_propagation(X, Y, cache)
    assert gc_utils.gradient_check_n(parameters, gradients, X, Y) < 1e-7


# --- optimisers -----------------------------------------------------------------------------------


def test_load_dataset_is_scikit_learns():
    make_moons = pytest.importorskip("sklearn.datasets").make_moons
    X, Y = opt_utils.load_dataset()
    np.random.seed(3)
    expected_X, expected_y = make_moons(n_samples=300, noise=0.2)
    assert_array_equal(X, expected_X.T)
    assert_array_equal(Y, expected_y.reshape(1, 300))


@pytest.mark.parametrize("m", [0, 1, 64, 148])
def test_mini_batches_are_the_lessons(m):
    X, Y = np.arange(2.0 * m).reshape(2, m), np.arange(m).reshape(1, m)
    batches = opt_utils.random_mini_batches(X, Y, 64, 5)
    np.random.seed(5)
    permutation = list(np.random.permutation(m))
    shuffled_X, shuffled_Y = X[:, permutation], Y[:, permutation].reshape((1, m))
    assert len(batches) == -(-m // 64)
    for k, (batch_X, batch_Y) in enumerate(batches):
        assert_array_equal(batch_X, shuffled_X[:, 64 * k : 64 * (k + 1)])
        assert_array_equal(batch_Y, shuffled_Y[:, 64 * k : 64 * (k + 1)])


def mini_batch_costs(optimizer, epochs):
    """The lesson's closing cell: the cost of the last mini-batch every 1000 epochs."""
    X, Y = opt_utils.load_dataset()
    parameters = opt_utils.initialize_parameters([2, 5, 2, 1])
    v, s = opt_utils.initialize_adam(parameters)
    costs, t = [], 0
    for epoch in range(epochs):
        for x, y in opt_utils.random_mini_batches(X, Y, 64, 11 + epoch):
            a3, cache = opt_utils.forward_propagation(x, parameters)
            cost = opt_utils.compute_cost(a3, y)
            grads = opt_utils.backward_propagation(x, y, cache)
            if optimizer == "gd":
                opt_utils.update_parameters_with_gd(parameters, grads, 0.0007)
            elif optimizer == "momentum":
                opt_utils.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.0007)
            else:
                t += 1
                opt_utils.update_parameters_with_adam(parameters, grads, v, s, t, 0.0007)
        if epoch % 1000 == 0:
            costs.append(round(float(cost), 6))
    return costs


@pytest.mark.parametrize(
    ("optimizer", "published"),
    [
        ("gd", [0.690736, 0.685273]),
        ("momentum", [0.690741, 0.685341]),
        ("adam", [0.690552, 0.185567]),
    ],
)
def test_costs_are_the_published_ones(optimizer, published):
    assert mini_batch_costs(optimizer, 1001) == published


@pytest.mark.parametrize("method", ["momentum", "adam"])
def test_steps_are_the_lessons(start, method):
    X, Y, parameters = start
    plain = {name: value.copy() for name, value in parameters.items()}
    v, s = opt_utils.initialize_adam(parameters)
    expected_v, expected_s = ({f"d{k}": 0.0 * x for k, x in plain.items()} for _ in "vs")
    assert list(v) == list(s) == [f"d{name}" for name in NAMES]
    assert_array_equal(opt_utils.initialize_velocity(parameters)["dW2"], np.zeros((5, 10)))
    for t in (1, 2, 3):
        _, cache = opt_utils.forward_propagation(X, parameters)
        grads = opt_utils.backward_propagation(X, Y, cache)
        if method == "momentum":
            found = opt_utils.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.5)
            assert found[0] is parameters
            assert found[1] is v
        else:
            found = opt_utils.update_parameters_with_adam(parameters, grads, v, s, t, 0.5)
            for ours, given in zip(found, (parameters, v, s), strict=True):
                assert ours is given
        for name in NAMES:
            g, key = grads["d" + name], "d" + name
            expected_v[key] = 0.9 * expected_v[key] + 0.1 * g
            if method == "momentum":
                plain[name] = plain[name] - 0.5 * expected_v[key]
                continue
            expected_s[key] = 0.999 * expected_s[key] + 0.001 * g**2
            v_corrected = expected_v[key] / (1 - 0.9**t)
            s_corrected = expected_s[key] / (1 - 0.999**t)
            plain[name] = plain[name] - 0.5 * v_corrected / (np.sqrt(s_corrected) + 1e-8)
        assert_all_close(parameters, plain)
        assert_all_close(v, expected_v)
        if method == "adam":
            assert_all_close(s, expected_s)


def test_steps_are_those_of_the_reference(dense):
    rng = np.random.default_rng(0)
    shapes = {"a": (3,), "b": (), "c": (2, 0, 3), "d": (7, 9)}
    p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    g, v, s = ({f"d{k}": rng.random(shape) for k, shape in shapes.items()} for _ in range(3))
    for states in ((None, None), (v, None), (v, s)):
        after = []
        for module in (dense, reference):
            copies = [None if each is None else dict(each) for each in (p, *states)]
            assert module.step(copies[0], g, *copies[1:], 0.1, 0.9, 0.99, 1e-8, 3) is None
            after.append(copies)
        for ours, theirs, before in zip(*after, (p, *states), strict=True):
            for name in theirs or ():
                assert ours[name] is not before[name]
                assert ours[name].shape == theirs[name].shape
                # Ten roundings of numbers near 1.
                assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", ["momentum", "adam"])
def test_steps_train_as_train_does(start, lesson_net, method):
    X, Y, parameters = start
    theta = lesson_net.pack(parameters)
    v, s = opt_utils.initialize_adam(parameters)
    for t in range(1, 201):
        _, cache = opt_utils.forward_propagation(X, parameters)
        grads = opt_utils.backward_propagation(X, Y, cache)
        if method == "momentum":
            opt_utils.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.1)
        else:
            opt_utils.update_parameters_with_adam(parameters, grads, v, s, t)
    optimizer = fi.Momentum(0.1 * (1 - 0.9), 0.9) if method == "momentum" else fi.Adam(0.01)
    run = fi.train(lesson_net, theta, X, Y, optimizer=optimizer, iterations=200)
    assert_allclose(lesson_net.pack(parameters), run.theta, rtol=1e-9, atol=1e-10)


# --- errors ---------------------------------------------------------------------------------------

MALFORMED = {
    "labels of another length": (
        lambda X, Y, p: reg_utils.compute_cost_with_regularization(Y, Y[:, 1:], p, 0.1),
        ValueError, "Y: expected shape (1, 300); got (1, 299)",
    ),
    "no weights": (
        lambda X, Y, p: reg_utils.compute_cost_with_regularization(Y, Y, {}, 0.1),
        ValueError, "parameters: expected the key 'W1'; got ",
    ),
    "no penalty": (
        lambda X, Y, p: reg_utils.backward_propagation_with_regularization(X, Y, (1,) * 12, None),
        TypeError, "lambd: expected a number; got NoneType",
    ),
    "nothing is kept": (
        lambda X, Y, p: reg_utils.forward_propagation_with_dropout(X, p, 0),
        ValueError, "keep_prob: expected above 0, at most 1; got 0.0",
    ),
    "a vector of data": (
        lambda X, Y, p: reg_utils.forward_propagation_with_dropout(X[0], p),
        ValueError, "X: expected 2 dimensions; got shape (300,)",
    ),
    "the cache of a pass without dropout": (
        lambda X, Y, p: reg_utils.backward_propagation_with_dropout(
            X, Y, reg_utils.forward_propagation(X, p)[1], 0.5
        ),
        ValueError, "cache: expected the 14 arrays that forward_propagation_with_dropout returns",
    ),
    "a mask of another shape": (
        lambda X, Y, p: reg_utils.backward_propagation_with_dropout(
            X, Y, [x[:3] if k == 1 else x for k, x in enumerate(
                reg_utils.forward_propagation_with_dropout(X, p)[1])], 0.5,
        ),
        ValueError, "D1: expected shape (10, 300); got (3, 300)",
    ),
    "gradients of another network": (
        lambda X, Y, p: gc_utils.gradient_check_n(p, {f"d{k}": np.ones(2) for k in p}, X, Y),
        ValueError, "gradients: expected 91 numbers; got 12",
    ),
    "a step of nothing": (
        lambda X, Y, p: gc_utils.gradient_check_n(p, p, X, Y, 0.0),
        ValueError, "epsilon: expected above 0; got 0.0",
    ),
    "a vector of another length": (
        lambda X, Y, p: gc_utils.vector_to_dictionary(np.ones(46)),
        ValueError, "theta: expected 47 parameters; got 46",
    ),
    "batches of nothing": (
        lambda X, Y, p: opt_utils.random_mini_batches(X, Y, 0),
        ValueError, "mini_batch_size: expected an integer from 1",
    ),
    "labels of other examples": (
        lambda X, Y, p: opt_utils.random_mini_batches(X, Y[:, 1:]),
        ValueError, "Y: expected shape (1, 300) to match X (2, 300); got (1, 299)",
    ),
    "no average": (
        lambda X, Y, p: opt_utils.update_parameters_with_momentum(p, {}, None, 0.9, 0.1),
        TypeError, "v: expected a dictionary; got NoneType",
    ),
    "an average of another network": (
        lambda X, Y, p: opt_utils.update_parameters_with_momentum(
            p, {f"d{k}": x for k, x in p.items()}, {"dW1": p["W1"]}, 0.9, 0.1
        ),
        ValueError, "v: expected the key 'db1'; got dW1",
    ),
    "the step before the first": (
        lambda X, Y, p: opt_utils.update_parameters_with_adam(p, p, p, p, 0),
        ValueError, "t: expected an integer from 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_arguments(start, case):
    call, error, message = MALFORMED[case]
    with pytest.raises(error, match=re.escape(message)):
        call(*start)


@pytest.mark.parametrize("missing", ["grads", "v", "s"])
def test_a_failing_step_changes_nothing(start, missing):
    _, _, parameters = start
    grads = {f"d{name}": np.ones_like(value) for name, value in parameters.items()}
    given = {"grads": dict(grads), "v": dict(grads), "s": dict(grads)}
    given[missing]["db3"] = np.ones((2, 1))
    before = [dict(each) for each in (parameters, given["v"], given["s"])]
    name = "db3" if missing == "grads" else f"{missing} of db3"
    with pytest.raises(ValueError, match=re.escape(f"{name}: expected shape (1, 1); got (2, 1)")):
        opt_utils.update_parameters_with_adam(parameters, *given.values(), 1)
    for each, old in zip((parameters, given["v"], given["s"]), before, strict=True):
        assert all(each[name] is old[name] for name in old)


# --- the oracle -----------------------------------------------------------------------------------


def reg_step(X, Y, p, lambd=0.0, keep_prob=None):
    """Cost, gradients and cache of the regularisation lesson, with L2 or with dropout."""
    m = X.shape[1]
    np.random.seed(1)
    W1, b1, W2, b2, W3, b3 = (p[name] for name in NAMES)
    Z1 = np.dot(W1, X) + b1
    A1 = np.maximum(0, Z1)
    D1, D2 = np.ones(A1.shape, bool), np.ones((W2.shape[0], m), bool)
    if keep_prob is not None:
        D1 = np.random.rand(A1.shape[0], A1.shape[1]) < keep_prob
        A1 = A1 * D1 / keep_prob
    Z2 = np.dot(W2, A1) + b2
    A2 = np.maximum(0, Z2)
    if keep_prob is not None:
        D2 = np.random.rand(A2.shape[0], A2.shape[1]) < keep_prob
        A2 = A2 * D2 / keep_prob
    Z3 = np.dot(W3, A2) + b3
    A3 = 1 / (1 + np.exp(-Z3))
    cost = -np.sum(np.log(A3) * Y + np.log(1 - A3) * (1 - Y)) / m
    cost += sum(np.sum(np.square(W)) for W in (W1, W2, W3)) * lambd / (2 * m)
    dZ3 = A3 - Y
    dA2 = np.dot(W3.T, dZ3) * D2 / (keep_prob or 1)
    dZ2 = np.multiply(dA2, np.int64(A2 > 0))
    dA1 = np.dot(W2.T, dZ2) * D1 / (keep_prob or 1)
    dZ1 = np.multiply(dA1, np.int64(A1 > 0))
    gradients = (
        dZ3, np.dot(dZ3, A2.T) / m + lambd * W3 / m, np.sum(dZ3, axis=1, keepdims=True) / m,
        dA2, dZ2, np.dot(dZ2, A1.T) / m + lambd * W2 / m, np.sum(dZ2, axis=1, keepdims=True) / m,
        dA1, dZ1, np.dot(dZ1, X.T) / m + lambd * W1 / m, np.sum(dZ1, axis=1, keepdims=True) / m,
    )  # fmt: skip
    cache = (Z1, D1, A1, W1, b1, Z2, D2, A2, W2, b2, Z3, A3, W3, b3)
    return cost, dict(zip(GRADIENTS, gradients, strict=True)), cache


@pytest.mark.parametrize("name", ["v", "s"])
def test_averages_that_cannot_be_updated(name):
    """They are refused before the parameters are."""
    parameters = {"W1": np.ones((1, 2)), "b1": np.ones((1, 1))}
    grads = {f"d{key}": value for key, value in parameters.items()}
    v, s = opt_utils.initialize_adam(parameters)
    averages = {"v": v, "s": s} | {name: MappingProxyType(v)}
    with pytest.raises(TypeError, match=f"^{name}: expected a dictionary; got mappingproxy"):
        opt_utils.update_parameters_with_adam(parameters, grads, t=1, **averages)
    assert (parameters["W1"] == 1).all()
