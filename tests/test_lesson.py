"""The lesson's numbers, and its module under its own names.

The oracle is the lesson's own arithmetic, written out once more in NumPy at the end of this file,
and the figures that the lesson publishes.
"""

import re
import sys
from collections import OrderedDict

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastinit as fi
from fastinit import init_utils, initializers, lesson, reference
from fastinit.initializers import target

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


# --- the data -------------------------------------------------------------------------------------


def test_load_dataset_is_scikit_learns_to_the_bit():
    make_circles = pytest.importorskip("sklearn.datasets").make_circles
    data = lesson.load_dataset()
    after = np.random.get_state()
    for seed, n, X, Y in ((1, 300, *data[:2]), (2, 100, *data[2:])):
        np.random.seed(seed)
        expected_X, expected_y = make_circles(n_samples=n, noise=0.05)
        assert_array_equal(X, expected_X.T)
        assert_array_equal(Y, expected_y.reshape(1, n))
    oracle = np.random.get_state()
    assert_array_equal(after[1], oracle[1])
    assert after[2:] == oracle[2:], "the state that the lesson's random weights start from"


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize(
    ("name", "keywords"),
    [("make_circles", {"noise": 0.2, "factor": 0.5}), ("make_moons", {"noise": 0.2})],
)
def test_drawn_data_are_scikit_learns(n, name, keywords):
    datasets = pytest.importorskip("sklearn.datasets")
    np.random.seed(5)
    X, y = getattr(lesson, name)(n, **keywords)
    np.random.seed(5)
    expected_X, expected_y = getattr(datasets, name)(n, **keywords)
    assert_array_equal(X, expected_X)
    assert_array_equal(y, expected_y)


def test_shapes_of_the_data(circles):
    X, Y, X_test, Y_test = circles
    assert (X.shape, Y.shape, X_test.shape, Y_test.shape) == (
        (2, 300), (1, 300), (2, 100), (1, 100),
    )  # fmt: skip
    assert X.flags.c_contiguous
    assert X_test.flags.c_contiguous


# --- the numbers ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("scheme", ["zeros", "he"])
def test_a_notebooks_own_loop_to_twelve_digits(capsys, circles, scheme):
    """All 15,000 iterations through the separate functions, against the lesson's arithmetic."""
    X, Y, X_test, Y_test = circles
    parameters = getattr(init_utils, f"initialize_parameters_{scheme}")([2, 10, 5, 1])
    costs = []
    for i in range(15_000):
        a3, cache = init_utils.forward_propagation(X, parameters)
        cost = init_utils.compute_loss(a3, Y)
        grads = init_utils.backward_propagation(X, Y, cache)
        parameters = init_utils.update_parameters(parameters, grads, 0.01)
        if i % 1000 == 0:
            costs.append(cost)
    assert_allclose(costs, lesson_costs(X, Y, scheme), rtol=5e-13)
    init_utils.predict(X, Y, parameters)
    init_utils.predict(X_test, Y_test, parameters)
    found = [float(line.split(": ")[1]) for line in capsys.readouterr().out.splitlines()]
    assert_allclose(found, PUBLISHED[scheme][1], atol=5e-6)


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
    zeros = rows["zeros"]["verdict"]
    assert "not shown to be better than always guessing one class on test data" in zeros
    assert "stationary at the cost of a constant output" in zeros
    assert "saturated at the start" in rows["lesson.random"]["verdict"]
    he = rows["lesson.he"]["verdict"]
    assert he.startswith("better than always guessing one class on test data, 96.0%")
    assert "cost still falling" in he


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


# --- the functions of a loop: forms, layouts, errors ---------------------------------------------


def step_of(X, Y, parameters, rate=0.5):
    """Everything that one iteration returns."""
    parameters = dict(parameters)
    a3, cache = init_utils.forward_propagation(X, parameters)
    cost = init_utils.compute_loss(a3, Y)
    grads = init_utils.backward_propagation(X, Y, cache)
    return [a3, *cache, cost, *grads.values(), *init_utils.update_parameters(
        parameters, grads, rate
    ).values()]  # fmt: skip


def misaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    array = memory[1:].view(np.float64).reshape(x.shape)
    array[...] = x
    assert not array.flags.aligned
    return array


class Matrix(np.ndarray):
    pass


FORMS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "misaligned": misaligned,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "long double": lambda x: x.astype(np.longdouble),
    "subclass": lambda x: x.view(Matrix),
    "metadata": lambda x: x.astype(np.dtype(np.float64, metadata={"unit": "m"})),
    "lists": lambda x: x.tolist(),
}


def lessons_start(circles):
    X, Y, _, _ = circles
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    return X, Y.astype(float), {k: v + 0.1 for k, v in parameters.items()}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_form(circles, form):
    """The same bits from whatever holds the same numbers."""
    X, Y, parameters = lessons_start(circles)
    expected = step_of(X, Y, parameters)
    change = FORMS[form]
    found = step_of(change(X), change(Y), {k: change(v) for k, v in parameters.items()})
    for ours, theirs in zip(found, expected, strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int64", "bool"])
def test_numbers_of_other_types_are_converted(circles, dtype):
    X, Y, parameters = lessons_start(circles)
    X, parameters = X.astype(dtype), {k: v.astype(dtype) for k, v in parameters.items()}
    expected = step_of(X.astype(float), Y, {k: v.astype(float) for k, v in parameters.items()})
    found = step_of(X, Y.astype(dtype), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        assert_array_equal(ours, theirs)


def test_arguments_stay_as_they_are(circles):
    """Read-only arguments are read; what is returned is new and may be written, each by itself."""
    X, Y, parameters = lessons_start(circles)
    for array in (X, Y, *parameters.values()):
        array.flags.writeable = False
    a3, cache = init_utils.forward_propagation(X, parameters)
    grads = init_utils.backward_propagation(X, Y, cache)
    assert cache[2] is parameters["W1"]
    assert cache[9] is a3
    updated = init_utils.update_parameters(dict(parameters), grads, 0.5)
    fresh = [*(cache[k] for k in (0, 1, 4, 5, 8, 9)), *grads.values(), *updated.values()]
    for k, array in enumerate(fresh):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        assert array.flags.writeable
        assert array.flags.c_contiguous
        for other in (X, Y, *parameters.values(), *fresh[:k]):
            assert not np.shares_memory(array, other)


@pytest.mark.parametrize("m", [1, 7, 64, 301])
@pytest.mark.parametrize("sizes", [(2, 10, 5, 1), (1, 1, 1, 1), (3, 17, 9, 2), (0, 4, 3, 1)])
def test_steps_of_any_size(dense, sizes, m):
    """Sums have at most 301 products: 301 eps is 7e-14 of the sum of their sizes, which is 10."""
    rng = np.random.default_rng(m)
    X, Y = rng.standard_normal((sizes[0], m)), rng.integers(0, 2, (sizes[-1], m))
    p = {}
    for layer in (1, 2, 3):
        n_out, n_in = sizes[layer], sizes[layer - 1]
        p[f"W{layer}"] = rng.standard_normal((n_out, n_in)) / np.sqrt(n_in + 1)
        p[f"b{layer}"] = rng.standard_normal((n_out, 1))
    z1, a1, z2, a2, z3, a3 = dense.propagate(X, list(p.values()), None, 1.0)
    cost, expected, cache = lesson_step(X, Y, p)
    for ours, theirs in zip((z1, a1, z2, a2, z3, a3), (cache[k] for k in (0, 1, 4, 5, 8, 9)),
                            strict=True):  # fmt: skip
        assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert dense.cross_entropy(a3, Y) == pytest.approx(cost, rel=1e-12)
    weights = [p["W1"], p["W2"], p["W3"]]
    found = dense.propagate_back(Y, [X, a1, a2, a3], weights, None, 1.0, 0.0, True)
    for ours, (name, theirs) in zip(found, expected.items(), strict=True):
        assert ours.shape == theirs.shape
        assert_allclose(ours, theirs, rtol=0, atol=1e-12, err_msg=name)
    stepped = dict(p)
    dense.step(stepped, expected, None, None, 0.3, 0.0, 0.0, 0.0, 1)
    for name, before in p.items():
        # One rounding for two; eps of numbers below 16.
        assert_allclose(stepped[name], before - 0.3 * expected[f"d{name}"], rtol=0, atol=4e-15)


def test_masks_and_penalties_are_those_of_the_reference(dense):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((2, 33)), rng.integers(0, 2, (1, 33))
    shapes = [(10, 2), (10, 1), (5, 10), (5, 1), (1, 5), (1, 1)]
    parameters = [rng.standard_normal(shape) for shape in shapes]
    masks = [rng.random((n, 33)) < 0.7 for n in (10, 5)]
    expected = reference.propagate(X, parameters, masks, 0.7)
    for ours, theirs in zip(dense.propagate(X, parameters, masks, 0.7), expected, strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    for average_first in (True, False):
        rest = ([X, *expected[1::2]], parameters[::2], masks, 0.7, 0.9, average_first)
        found, wanted = dense.propagate_back(Y, *rest), reference.propagate_back(Y, *rest)
        for ours, theirs in zip(found, wanted, strict=True):
            assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_steps_of_what_is_not_finite(dense, circles, value):
    X, Y, p = lessons_start(circles)
    X = X.copy()
    X[0, 7] = value
    z1, a1, z2, a2, z3, a3 = dense.propagate(X, list(p.values()), None, 1.0)
    _, expected, cache = lesson_step(X, Y, p)
    weights = [p["W1"], p["W2"], p["W3"]]
    found = dense.propagate_back(Y, [X, a1, a2, a3], weights, None, 1.0, 0.0, True)
    theirs = [*(cache[k] for k in (0, 1, 4, 5, 8, 9)), *expected.values()]
    for ours, others in zip([z1, a1, z2, a2, z3, a3, *found], theirs, strict=True):
        for test in (np.isnan, np.isposinf, np.isneginf):
            assert_array_equal(test(ours), test(others))


def test_cross_entropy_of_any_numbers(dense):
    """Saturated, subnormal, outside of 0 to 1, not a number; labels between 0 and 1."""
    rng = np.random.default_rng(1)
    odd = [0, 1, 5e-324, 1e-310, 1 - 2**-53, -0.5, 1.5, np.nan, np.inf, -np.inf, -0.0]
    for labels in ([0.0], [1.0], [0.25], [0.0, 1.0, 0.5]):
        for a in [*([x] for x in odd), rng.random(1037), [0.2, np.nan, 0.9]]:
            A = np.array([a], float)
            Y = np.resize(labels, A.shape)
            with np.errstate(all="ignore"):
                expected = np.nansum(-np.log(A) * Y - np.log(1 - A) * (1 - Y)) / A.shape[1]
            # Each loss to 2 units; sums of a thousand, by pairs, add ten.
            assert_allclose(dense.cross_entropy(A, Y), expected, rtol=12 * 2.0**-52)


def test_update_takes_any_parameters():
    class Ordered(OrderedDict):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            self.last = key

    parameters = Ordered(a=np.ones(3), b=np.float64(2.0), c=np.zeros((2, 0, 3)), d=[[1, 2]])
    grads = {"da": np.full(3, 4.0), "db": 2, "dc": np.zeros((2, 0, 3)), "dd": [[2, 4]]}
    assert init_utils.update_parameters(parameters, grads, 0.25) is parameters
    assert parameters.last == "d"
    for name, expected in {
        "a": np.zeros(3),
        "b": 1.5,
        "c": np.zeros((2, 0, 3)),
        "d": [[0.5, 1]],
    }.items():
        assert_array_equal(parameters[name], expected)
        assert np.shape(parameters[name]) == np.shape(expected)
    assert init_utils.update_parameters({}, {}, 0.1) == {}


def test_a_failing_update_changes_nothing(circles):
    _, _, parameters = lessons_start(circles)
    before = dict(parameters)
    grads = {f"d{k}": np.ones(v.shape) for k, v in parameters.items()} | {"db3": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"db3: expected shape \(1, 1\); got \(2, 2\)"):
        init_utils.update_parameters(parameters, grads, 0.1)
    assert all(parameters[name] is before[name] for name in before)


def test_forward_of_no_examples(circles):
    _, _, parameters = lessons_start(circles)
    assert init_utils.forward_propagation(np.ones((2, 0)), parameters)[0].shape == (1, 0)


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


MALFORMED = {
    "no dictionary": (
        lambda X, Y, p: init_utils.forward_propagation(X, [1, 2]),
        TypeError, "parameters: expected a dictionary; got list",
    ),
    "a missing key": (
        lambda X, Y, p: init_utils.forward_propagation(X, without(p, "W2")),
        ValueError, "parameters: expected the key 'W2'; got W1, b1, b2, W3, b3",
    ),
    "a missing gradient": (
        lambda X, Y, p: init_utils.update_parameters(p, {"dW1": p["W1"]}, 0.1),
        ValueError, "grads: expected the key 'db1'; got dW1",
    ),
    "no gradients": (
        lambda X, Y, p: init_utils.update_parameters(p, None, 0.1),
        TypeError, "grads: expected a dictionary; got NoneType",
    ),
    "no rate": (
        lambda X, Y, p: init_utils.update_parameters(p, p, "x"),
        TypeError, "learning_rate: expected a number; got str",
    ),
    "complex weights": (
        lambda X, Y, p: init_utils.forward_propagation(X, p | {"W3": p["W3"] * 1j}),
        TypeError, "W3: expected real numbers; got dtype complex128",
    ),
    "objects": (
        lambda X, Y, p: init_utils.forward_propagation(X.astype(object), p),
        TypeError, "X: expected real numbers; got dtype object",
    ),
    "dates": (
        lambda X, Y, p: init_utils.compute_loss(Y, Y.astype("M8[s]")),
        TypeError, "Y: expected real numbers; got dtype datetime64[s]",
    ),
    "masked": (
        lambda X, Y, p: init_utils.compute_loss(np.ma.masked_array(Y), Y),
        TypeError, "a3: expected every number; got a masked array",
    ),
    "ragged": (
        lambda X, Y, p: init_utils.compute_loss([[1], [1, 2]], Y),
        ValueError, "a3: expected an array; ",
    ),
    "no examples": (
        lambda X, Y, p: init_utils.compute_loss(Y[:, :0], Y[:, :0]),
        ValueError, "a3: expected at least one example; got shape (1, 0)",
    ),
    "a cache of another function": (
        lambda X, Y, p: init_utils.backward_propagation(X, Y, (X, Y)),
        ValueError, "cache: expected the 12 arrays that forward_propagation returns",
    ),
    "labels of another shape": (
        lambda X, Y, p: init_utils.predict(X, Y[0, 1:], p),
        ValueError, "y: expected shape (300,); got (299,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_arguments(circles, case):
    call, error, message = MALFORMED[case]
    with pytest.raises(error, match=re.escape(message)):
        call(*lessons_start(circles))


def test_a_cache_whose_units_do_not_fit(circles):
    X, Y, parameters = lessons_start(circles)
    _, cache = init_utils.forward_propagation(X, parameters)
    for k, message in (
        (1, "a1: expected shape (10, 300); got (3, 3)"),
        (6, "W2: expected shape (5, 3); got (3, 3)"),
        (9, "Y: expected shape (3, 3); got (1, 300)"),
        (10, "W3: expected shape (1, 3); got (3, 3)"),
    ):
        wrong = [*cache[:k], np.ones((3, 3)), *cache[k + 1 :]]
        with pytest.raises(ValueError, match=re.escape(message)):
            init_utils.backward_propagation(X, Y, wrong)


def test_no_reference_is_kept(circles):
    """Neither by calls that return nor by calls that raise."""
    X, Y, parameters = lessons_start(circles)
    arrays = [X, Y, *parameters.values()]
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(50):
        step_of(X, Y, parameters)
        for wrong in ({"b3": np.ones((2, 1))}, {"W3": np.ones((1, 6))}, {"b2": X * 1j}):
            with pytest.raises((TypeError, ValueError)):
                step_of(X, Y, parameters | wrong)
        with pytest.raises(ValueError, match="Y: expected shape"):
            step_of(X, Y[:, 1:], parameters)
    assert [sys.getrefcount(array) for array in arrays] == before


def test_activations_of_other_types():
    """Always float64, of the same shape; numbers beyond it are infinite, without a warning."""
    wide = np.array([np.longdouble(-2), np.finfo(np.longdouble).max])
    for function, expected in ((init_utils.relu, [0, np.inf]), (init_utils.sigmoid, None)):
        assert function(np.float32([[1.5, -2]])).dtype == np.float64
        assert isinstance(function(np.float32(0.5)), np.float64)
        if np.finfo(np.longdouble).max > np.finfo(np.float64).max and expected:
            assert_array_equal(function(wide), expected)
        with pytest.raises(TypeError, match="x: expected real numbers; got dtype complex128"):
            function(1j)
    assert_array_equal(init_utils.relu([np.nan, -np.inf, np.inf]), [np.nan, 0, np.inf])


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


@pytest.mark.parametrize("scheme", [fi.lesson.he, fi.lesson.random, fi.he_normal])
def test_a_fan_of_zero(scheme):
    with pytest.warns(UserWarning, match=r"shape: \(3, 0\) has no elements"):
        assert scheme((3, 0), seed=1).shape == (3, 0)


@pytest.mark.parametrize("scheme", ["lesson.he", "lesson.random"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_the_lessons_draws_are_rounded_once(scheme, kind):
    """To nearest even, as by exact arithmetic; through float32 some would go the other way."""
    if kind == "bfloat16":
        dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        dtype = np.dtype(kind)
    out = np.empty((200, 3000), dtype)
    fill = initializers.get(scheme)
    fill(out=out, seed=0)
    exact = fill((200, 3000), seed=0)
    floats = out.astype(np.float64)
    spacing = np.abs(exact) * 2.0 ** -(10 if kind == "float16" else 7)
    assert (np.abs(floats - exact) <= spacing / 2 + 2.0**-25).all()
    middles = [1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8 - 2.0**-40]
    ends = {"float16": [1 + 2.0**-10, 1 + 2.0**-8, 1 + 2.0**-8], "bfloat16": [1, 1 + 2.0**-7, 1]}
    bits = target.bits_of(np.array(middles), kind)
    assert_array_equal(bits.view(dtype).astype(float), ends[kind])
    assert_array_equal(target.bits_of(-np.array(middles), kind).view(dtype).astype(float),
                       -np.array(ends[kind], float))  # fmt: skip


def test_predict_answers_in_the_shape_that_it_got(circles, capsys):
    X, Y, *_ = circles
    parameters = init_utils.initialize_parameters_he([2, 10, 5, 1])
    p = init_utils.predict(X, Y, parameters)
    assert (p.shape, p.dtype) == ((1, 300), np.intp)
    assert_array_equal(init_utils.predict(X, Y[0], parameters), p[0])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    with pytest.raises(ValueError, match=r"X: expected at least one example; got shape \(2, 0\)"):
        init_utils.predict(np.empty((2, 0)), np.empty((1, 0)), parameters)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": 3}, ValueError, "X: expected 2 dimensions"),
        ({"X": None}, TypeError, "X: expected real numbers; got dtype object"),
        ({"initialization": ["he"]}, TypeError, "initialization: expected a string; got list"),
        ({"initialization": "He"}, ValueError, "initialization: expected one of zeros, random, he"),
        ({"num_iterations": -1}, ValueError, "num_iterations: expected an integer from 0"),
    ],
)
def test_model_names_what_does_not_fit(circles, arguments, error, message):
    good = {"X": circles[0], "Y": circles[1], "print_cost": False}
    with pytest.raises(error, match=f"^{message}"):
        init_utils.model(**good | arguments)
