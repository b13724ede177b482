"""The layer kernels against their reference twins, on every level that this CPU runs; the twins.

Tolerances are a-priori rounding bounds: a sum of n products in any order is off by at most n + 1
roundings, each half an eps of the sum of the absolute products.
"""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from rounding import assert_within, draw, poisoned

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
