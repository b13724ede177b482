"""Every kernel against its reference twin, on every level that this CPU runs.

Tolerances are a-priori rounding bounds: a sum of n products in any order is off by at most n + 1
roundings, each half an eps of the sum of the absolute products.
"""

import inspect
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastinit import kernels, reference

SHAPES = [  # n_out, n_in, m: tiles of every height, whole and broken registers, nothing at all
    (1, 1, 1),
    (2, 3, 7),
    (3, 2, 8),
    (4, 5, 9),
    (5, 10, 33),
    (6, 1, 16),
    (7, 7, 31),
    (10, 2, 300),
    (13, 17, 65),
    (25, 9, 1),
    (0, 3, 5),
    (3, 0, 5),
    (3, 5, 0),
]


def draw(seed, shape, dtype):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(dtype)


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def assert_within(actual, expected, bound):
    """|actual - expected| <= bound, cell by cell; a NaN that nobody wrote fails."""
    assert actual.shape == expected.shape
    assert not np.isnan(actual).any()
    assert (np.abs(actual.astype(float) - expected) <= bound).all()


def layer(shape, dtype):
    n_out, n_in, m = shape
    return draw(1, (n_out, n_in), dtype), draw(2, (n_out, 1), dtype), draw(3, (n_in, m), dtype)


def product_bound(W, b, A):
    terms = W.shape[1] + 2
    W, b, A = (np.abs(x.astype(float)) for x in (W, b, A))
    return terms, W @ A + b


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["linear", "linear_relu"])
def test_linear(dense, dtype, shape, name):
    W, b, A = layer(shape, dtype)
    out = poisoned((shape[0], shape[2]), dtype)
    expected = np.empty((shape[0], shape[2]))
    getattr(dense, name)(W, b, A, out)
    getattr(reference, name)(W.astype(float), b.astype(float), A.astype(float), expected)
    terms, magnitude = product_bound(W, b, A)
    assert_within(out, expected, terms * np.finfo(dtype).eps * magnitude)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 70)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_linear_relu_of_any_shape(shape, dtype):
    W, b, A = layer(shape, dtype)
    out = poisoned((shape[0], shape[2]), dtype)
    kernels.dense.linear_relu(W, b, A, out)
    terms, magnitude = product_bound(W, b, A)
    expected = np.maximum(W.astype(float) @ A + b, 0)
    assert_within(out, expected, terms * np.finfo(dtype).eps * magnitude)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wanted", [True, False])
def test_backward(dense, dtype, shape, wanted):
    n_out, n_in, m = shape
    W, _, A = layer(shape, dtype)
    dZ, dW, db = (
        draw(4, (n_out, m), dtype),
        draw(5, (n_out, n_in), dtype),
        draw(6, (n_out, 1), dtype),
    )
    dA = poisoned((n_in, m), dtype) if wanted else None
    W64, A64, dZ64, dW64, db64 = (x.astype(float) for x in (W, A, dZ, dW, db))
    dA64 = np.empty((n_in, m)) if wanted else None
    bound_W = (m + 2) * np.finfo(dtype).eps * (np.abs(dZ64) @ np.abs(A64).T + np.abs(dW64))
    bound_b = (
        (m + 2) * np.finfo(dtype).eps * (np.abs(dZ64).sum(axis=1, keepdims=True) + np.abs(db64))
    )
    dense.backward(W, A, dZ, dW, db, dA)
    reference.backward(W64, A64, dZ64, dW64, db64, dA64)
    assert_within(dW, dW64, bound_W)
    assert_within(db, db64, bound_b)
    if wanted:
        bound_A = (n_out + 1) * np.finfo(dtype).eps * (np.abs(W64).T @ np.abs(dZ64))
        assert_within(dA, dA64, bound_A)
        assert (dA[A <= 0] == 0).all()


def test_backward_over_its_own_input(dense, dtype):
    """dA may be A: the mask is read before the cell is overwritten."""
    W, _, A = layer((5, 7, 37), dtype)
    dZ = draw(4, (5, 37), dtype)
    dW, db = np.zeros((5, 7), dtype), np.zeros((5, 1), dtype)
    apart = poisoned(A.shape, dtype)
    dense.backward(W, A, dZ, dW, db, apart)
    again, both = A.copy(), np.zeros((5, 7), dtype)
    dense.backward(W, again, dZ, both, db, again)
    assert_array_equal(again, apart)
    assert_array_equal(both, dW)


def test_not_finite_passes_through(dense, dtype):
    """NaN and infinity come out where NumPy lets them out."""
    W, b, A = layer((6, 5, 40), dtype)
    A[1, 3], A[2, 17], A[4, 39], W[3, 0] = np.nan, np.inf, -np.inf, np.inf
    for name in ("linear", "linear_relu"):
        out, expected = poisoned((6, 40), dtype), np.empty((6, 40), dtype)
        getattr(dense, name)(W, b, A, out)
        getattr(reference, name)(W, b, A, expected)
        assert_array_equal(np.isnan(out), np.isnan(expected))
        assert_array_equal(np.isposinf(out), np.isposinf(expected))
        assert_array_equal(np.isneginf(out), np.isneginf(expected))
    dZ = draw(4, (6, 40), dtype)
    dZ[2, 5], dZ[0, 39] = np.nan, np.inf
    results = []
    for module in (dense, reference):
        dW, db, dA = np.zeros((6, 5), dtype), np.zeros((6, 1), dtype), poisoned(A.shape, dtype)
        module.backward(W, A, dZ, dW, db, dA)
        results.append(np.concatenate([x.ravel() for x in (dW, db, dA)]))
    for test in (np.isnan, np.isposinf, np.isneginf):
        assert_array_equal(test(results[0]), test(results[1]))


# --- sigmoid and loss -------------------------------------------------------------------------


def test_sigmoid_is_accurate(dense, dtype):
    """Within 3 units in the last place of the exact value.

    The exponential is within one, the sum and the quotient add half a unit each; a unit of the sum
    may be worth two of the quotient.
    """
    edge = 700 if dtype == np.float64 else 85
    Z = np.linspace(-edge, edge, 20_011).astype(dtype).reshape(1, -1)
    out = poisoned(Z.shape, dtype)
    dense.sigmoid(Z, out)
    exact = 1 / (1 + np.exp(-Z.astype(np.longdouble)))
    units = np.abs(out - exact) / np.spacing(exact.astype(dtype))
    assert units.max() <= 3


def test_sigmoid_saturates_as_numpy_does(dense, dtype):
    Z = np.array([[-np.inf, -1e4, -800, -100, 0, 40, 800, 1e4, np.inf, np.nan]], dtype)
    out, expected = poisoned(Z.shape, dtype), np.empty(Z.shape, dtype)
    dense.sigmoid(Z, out)
    reference.sigmoid(Z, expected)
    assert_array_equal(out == 0, expected == 0)
    assert_array_equal(out == 1, expected == 1)
    assert_array_equal(np.isnan(out), np.isnan(expected))
    assert out[0, 4] == 0.5


def labels(seed, shape, dtype):
    return (draw(seed, shape, dtype) > 0).astype(dtype)


@pytest.mark.parametrize("m", [1, 7, 64, 65, 300, 511, 513, 1500])
@pytest.mark.parametrize("n_out", [1, 3])
def test_sigmoid_cross_entropy(dense, dtype, m, n_out):
    Z = draw(1, (n_out, m), dtype) * 4
    Y = labels(2, (n_out, m), dtype)
    A, dZ = poisoned(Z.shape, dtype), poisoned(Z.shape, dtype)
    cost = dense.sigmoid_cross_entropy(Z, Y, A, dZ)
    exact = 1 / (1 + np.exp(-Z.astype(float)))
    eps = np.finfo(dtype).eps
    assert_within(A, exact, 3 * eps * exact)
    assert_within(dZ, (exact - Y) / m, (3 * exact + 3) * eps / m)
    # -log(p), p computed as the lesson does: 3 eps of A, one of 1 - A, one of the logarithm.
    p = np.where(Y == 1, exact, 1 - exact)
    bound = np.sum((3 * exact + 1) * eps / p + 2 * eps * np.abs(np.log(p))) / m
    assert abs(cost + np.sum(np.log(p)) / m) <= bound


def test_cost_is_the_lessons_where_the_sigmoid_saturates(dense, dtype):
    """Infinite on the wrong side, nothing on the right one, NaN counts nothing."""
    wrong, right = np.array([[2000.0, 1]], dtype), np.array([[-2000.0, 1]], dtype)
    Y = np.array([[0, 1]], dtype)
    out = np.empty((2, 1, 2), dtype)
    assert dense.sigmoid_cross_entropy(wrong, Y, *out) == np.inf
    assert_array_equal(out[1], [[0.5, (out[0, 0, 1] - 1) / 2]])
    assert dense.sigmoid_cross_entropy(right, Y, *out) == pytest.approx(
        np.log1p(np.exp(-1.0)) / 2, rel=8 * float(np.finfo(dtype).eps)
    )
    nothing = np.array([[np.nan, 1]], dtype)
    assert dense.sigmoid_cross_entropy(nothing, Y, *out) == pytest.approx(
        np.log1p(np.exp(-1.0)) / 2, rel=8 * float(np.finfo(dtype).eps)
    )


def test_subnormal_probabilities_have_a_logarithm(dense, dtype):
    """Between the smallest normal number and zero the cost is still finite and right."""
    z = -709.0 if dtype == np.float64 else -88.0
    Z, Y = np.array([[z]], dtype), np.ones((1, 1), dtype)
    A, dZ = np.empty((2, 1, 1), dtype)
    cost = dense.sigmoid_cross_entropy(Z, Y, A, dZ)
    assert 0 < A[0, 0] < np.finfo(dtype).tiny
    # A subnormal number has few digits: its spacing is what the logarithm can be off by.
    assert cost == pytest.approx(-z, abs=float(np.spacing(A[0, 0])) / float(A[0, 0]))


# --- updates and whole networks -----------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 7, 8, 33, 91])
def test_update_parameters(dense, dtype, n):
    theta, gradient = draw(1, n, dtype), draw(2, n, dtype)
    exact = theta.astype(float) - float(dtype.type(0.1)) * gradient.astype(float)
    bound = np.finfo(dtype).eps * (np.abs(theta) + 0.1 * np.abs(gradient))
    dense.update_parameters(theta, gradient, 0.1)
    assert_within(theta, exact, bound)


NETWORKS = [
    ([2, 1], 5),
    ([2, 10, 5, 1], 300),
    ([3, 7, 2], 41),
    ([5, 13, 8, 9, 3], 64),
    ([1, 1, 1], 1),
]


def problem(sizes, m, dtype):
    """A network, data and labels whose every pre-activation stays clear of ReLU's kink."""
    shape = np.array(sizes, dtype=np.intp)
    n = sum((a + 1) * b for a, b in pairwise(sizes))
    for seed in range(1000):
        theta = draw(seed, n, dtype) * dtype.type(0.7)
        X = draw(seed + 1000, (sizes[0], m), dtype)
        keep = np.ones(m, bool)
        A = X.astype(float)
        for W, b in list(reference._layers(shape, theta.astype(float)))[:-1]:
            Z = W @ A + b
            keep &= (np.abs(Z) > 1e-3).all(axis=0)
            A = np.maximum(Z, 0)
        if keep.all() or m > 20:
            chosen = np.resize(np.flatnonzero(keep), m)  # keep m, repeating what is clear
            X = np.ascontiguousarray(X[:, chosen])
            return shape, theta, X, labels(seed + 2000, (sizes[-1], m), dtype)
    raise AssertionError("no such problem")


def gradient_bound(shape, theta, X, dtype):
    """The gradient's magnitude when nothing cancels, times eps and the roundings on the way."""
    magnitudes = [np.abs(X.astype(float))]
    layers = [(np.abs(W), np.abs(b)) for W, b in reference._layers(shape, theta.astype(float))]
    for W, b in layers:
        magnitudes.append(W @ magnitudes[-1] + b)
    m = X.shape[1]
    # dZ of the output moves by what Z is off by, and its slope is at most one quarter.
    roundings = 2 * sum(int(n) + 2 for n in shape) + m + 8
    dZ = (1 + magnitudes[-1]) / m
    pieces = []
    for W, A in zip([W for W, _ in reversed(layers)], magnitudes[-2::-1], strict=True):
        pieces.append(np.concatenate([(dZ @ A.T).ravel(), dZ.sum(axis=1)]))
        dZ = W.T @ dZ
    return roundings * np.finfo(dtype).eps * np.concatenate(pieces[::-1])


@pytest.mark.parametrize(("sizes", "m"), NETWORKS)
def test_reference_gradient_is_the_derivative(sizes, m):
    """Central differences: h^2 of truncation, eps / h of rounding."""
    shape, theta, X, Y = problem(sizes, m, np.dtype(np.float64))
    gradient = np.empty_like(theta)
    reference.loss_and_gradient(shape, theta, X, Y, gradient)
    h = 1e-6
    scratch = np.empty_like(theta)
    for k in range(len(theta)):
        ends = []
        for sign in (1, -1):
            moved = theta.copy()
            moved[k] += sign * h
            ends.append(reference.loss_and_gradient(shape, moved, X, Y, scratch))
        difference = (ends[0] - ends[1]) / (2 * h)
        assert difference == pytest.approx(gradient[k], abs=2e-8 * (1 + abs(gradient[k])))


@pytest.mark.parametrize(("sizes", "m"), NETWORKS)
def test_loss_and_gradient(dense, dtype, sizes, m):
    shape, theta, X, Y = problem(sizes, m, dtype)
    gradient, expected = poisoned(theta.shape, dtype), np.empty(theta.shape)
    cost = dense.loss_and_gradient(shape, theta, X, Y, gradient)
    exact = reference.loss_and_gradient(
        shape, theta.astype(float), X.astype(float), Y.astype(float), expected
    )
    bound = gradient_bound(shape, theta, X, dtype)
    assert_within(gradient, expected, bound)
    # The last layer's bias has dZ itself as gradient, and the cost moves by |dZ| per unit of Z.
    assert cost == pytest.approx(exact, abs=4 * m * sizes[-1] * bound[-sizes[-1] :].max())


@pytest.mark.parametrize(("sizes", "m"), NETWORKS)
def test_forward(dense, dtype, sizes, m):
    shape, theta, X, _ = problem(sizes, m, dtype)
    out, expected = poisoned((sizes[-1], m), dtype), np.empty((sizes[-1], m))
    dense.forward(shape, theta, X, out)
    reference.forward(shape, theta.astype(float), X.astype(float), expected)
    magnitude = np.abs(X.astype(float))
    for W, b in reference._layers(shape, np.abs(theta.astype(float))):
        magnitude = W @ magnitude + b
    roundings = sum(int(n) + 2 for n in shape) + 4
    assert_within(out, expected, roundings * np.finfo(dtype).eps * (1 + magnitude))


@pytest.mark.parametrize(("sizes", "m"), NETWORKS)
def test_descend(dense, dtype, sizes, m):
    """Fifty iterations: each repeats the gradient's error, so fifty times its bound."""
    shape, theta, X, Y = problem(sizes, m, dtype)
    exact = theta.astype(float)
    costs, expected = poisoned(50, np.float64), np.empty(50)
    rate = 0.01
    bound = 50 * rate * gradient_bound(shape, theta, X, dtype) + 50 * np.finfo(dtype).eps
    assert dense.descend(shape, theta, X, Y, rate, costs) == 50
    reference.descend(shape, exact, X.astype(float), Y.astype(float), rate, expected)
    assert_within(theta, exact, 4 * bound * (1 + np.abs(exact)))
    tolerance = 1e-11 if dtype == np.float64 else 2e-4
    assert_within(costs, expected, tolerance * np.abs(expected))
    assert costs[-1] < costs[0]


def test_descend_is_its_parts(dense, dtype):
    """The fused loop is loss_and_gradient and update_parameters, again and again."""
    shape, theta, X, Y = problem([2, 10, 5, 1], 300, dtype)
    by_hand, gradient = theta.copy(), np.empty_like(theta)
    costs = np.empty(20)
    dense.descend(shape, theta, X, Y, 0.1, costs)
    for i in range(20):
        cost = dense.loss_and_gradient(shape, by_hand, X, Y, gradient)
        dense.update_parameters(by_hand, gradient, 0.1)
        assert cost == costs[i]
    assert_array_equal(theta, by_hand)


def test_descend_in_slices_is_the_same(dense, dtype):
    shape, theta, X, Y = problem([2, 10, 5, 1], 300, dtype)
    sliced = theta.copy()
    whole, pieces = np.empty(60), np.empty(60)
    dense.descend(shape, theta, X, Y, 0.1, whole)
    for start, stop in ((0, 1), (1, 8), (8, 60)):
        dense.descend(shape, sliced, X, Y, 0.1, pieces[start:stop])
    assert_array_equal(theta, sliced)
    assert_array_equal(whole, pieces)


def test_descend_stops_before_it_leaves_the_finite_numbers(dense, dtype):
    shape, theta, X, Y = problem([2, 10, 5, 1], 300, dtype)
    costs = poisoned(1000, np.float64)
    rate = float(np.finfo(dtype).max) / 1e3
    whole = dense.descend(shape, theta, X, Y, rate, costs)
    assert whole < 1000
    assert np.isfinite(theta).all()
    assert np.isnan(costs[whole:]).all()
    assert not np.isnan(costs[:whole]).any()


def test_kernels_take_read_only_inputs(dense, dtype):
    shape, theta, X, Y = problem([2, 10, 5, 1], 300, dtype)
    for array in (shape, X, Y):
        array.flags.writeable = False
    assert dense.descend(shape, theta, X, Y, 0.1, np.empty(2)) == 2


# --- twins --------------------------------------------------------------------------------------


def test_best_level_was_loaded():
    if kernels.reason == "forced by FASTINIT_KERNELS":
        pytest.skip(f"FASTINIT_KERNELS forces {kernels.level}")
    assert kernels.level == next(name for name in kernels.LEVELS if kernels.why_not(name) is None)
    assert kernels.dense.__name__.endswith(kernels.level)
    assert type(kernels.dense.descend).__name__ != "function", "compiled, not Python"


def names_of(module):
    return {
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and not isinstance(value, type)
        and getattr(value, "__module__", module.__name__) == module.__name__
    }


def test_each_kernel_has_its_twin(dense, random):
    names = names_of(reference)
    assert names >= {"linear", "linear_relu", "backward", "descend", "normal", "words"}
    assert names_of(dense) | names_of(random) == names
    for name in names:
        kernel = getattr(dense if hasattr(dense, name) else random, name)
        ours = list(inspect.signature(kernel).parameters)
        assert ours == list(inspect.signature(getattr(reference, name)).parameters), name
