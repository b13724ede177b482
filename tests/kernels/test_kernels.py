"""The layer kernels against the reference, on every level that this CPU runs; names and signatures.

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

import fastinit as fi
from fastinit import kernels, reference
from fastinit.training import network, optimizers

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


# --- names and signatures ------------------------------------------------------------------------


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


def test_each_kernel_has_its_reference(dense, random):
    names = names_of(reference)
    assert names >= {"linear", "linear_relu", "backward", "descend", "normal", "words"}
    assert names_of(dense) | names_of(random) == names
    for name in names:
        kernel = getattr(dense if hasattr(dense, name) else random, name)
        ours = list(inspect.signature(kernel).parameters)
        assert ours == list(inspect.signature(getattr(reference, name)).parameters), name


# --- what is chosen by name -----------------------------------------------------------------------

KINDS = [kind for kind in optimizers.OPTIMIZERS if kind is not optimizers.LBFGS]


def test_all_tables_have_the_same_names(dense):
    losses = [loss for losses in network.LOSSES.values() for loss in losses]
    rules = {kind().rule.name for kind in KINDS}
    for table, names in (
        ("ACTIVATIONS", network.ACTIVATIONS), ("LOSSES", losses), ("OPTIMIZERS", rules),
    ):  # fmt: skip
        assert sorted(getattr(dense, table)) == sorted(getattr(reference, table)) == sorted(names)


def test_names_are_documented():
    for name in (*network.ACTIVATIONS, *network.LOSSES):
        assert f'"{name}"' in fi.Network.__doc__
    for losses in network.LOSSES.values():
        for name in losses[1:]:
            assert f"``{name}``" in fi.Network.__doc__


@pytest.mark.parametrize("name", ["cubic", "", "Relu", None, 0])
def test_unknown_names_are_refused(dense, name):
    """Before anything is written."""
    layout, rule = fi.Network([2, 3, 1]).layout, fi.Adam().rule
    Z = np.ones((1, 4))
    out = poisoned((2, 1, 4), Z.dtype)
    theta, gradient, state = np.ones(13), poisoned(13, Z.dtype), np.ones((2, 13))
    data = np.ones((2, 4)), Z, None
    rates, costs = np.ones((1, 1, 1)), poisoned((1, 1), Z.dtype)

    def descend(layout, rule):
        dense.descend(
            layout, [rule], theta[None], state[None], 0, *data, None, 4, 0, rates, costs,
            np.empty(1, np.intp), np.arange(1), 1,
        )  # fmt: skip

    def update(layout, rule):
        dense.update_parameters(layout, rule, theta, np.ones(13), state, 0, np.ones(1))

    calls = [
        ("activation", lambda: dense.activate(Z, name, 0.1, *out)),
        ("loss", lambda: dense.loss(Z, Z, None, name, *out)),
        ("rule", lambda: descend(layout, rule._replace(name=name))),
        ("rule", lambda: update(layout, rule._replace(name=name))),
    ]
    for field in ("activation", "loss"):
        wrong = layout._replace(**{field: name})
        calls += [
            (field, lambda layout=wrong: dense.forward(layout, theta[None], *data, out[:1], 1)),
            (field, lambda layout=wrong: dense.loss_and_gradient(
                layout, theta[None], *data, gradient[None], 1)),
            (field, lambda layout=wrong: descend(layout, rule)),
        ]  # fmt: skip
    for what, call in calls:
        with pytest.raises(ValueError, match=f"{what}: expected one of .*; got {name!r}"):
            call()
    assert (theta == 1).all()
    assert (state == 1).all()
    assert np.isnan(np.concatenate([out.ravel(), gradient, costs[0]])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_slots_are_those_of_the_kernel(compiled, kind):
    layout, rule = fi.Network([2, 3, 1]).layout, kind().rule
    X, Y = draw(1, (2, 4), float), np.ones((1, 4))

    def descend(slots):
        states = np.zeros((1, slots, 13))
        compiled.descend(
            layout, [rule], draw(2, (1, 13), float), states, 0, X, Y, None, None, 4, 0,
            np.full((1, 1, 1), 0.1), np.empty((1, 1)), np.empty(1, np.intp), np.arange(1), 1,
        )  # fmt: skip
        return states

    assert descend(kind.slots).any(axis=-1).all(), "each of them is used"
    if kind.slots > 0:
        with pytest.raises(ValueError, match=f"states: expected {kind.slots} slots"):
            descend(kind.slots - 1)


def test_lbfgs_has_no_update_kernel():
    with pytest.raises(TypeError, match="optimizer: expected one with an update kernel; got LBFGS"):
        _ = optimizers.LBFGS().rule


def test_lengths_of_the_steps_are_checked(compiled):
    """The lists may be anybody's, and change while they are read."""
    X, Y, W, b = np.ones((2, 3)), np.ones((1, 3)), np.ones((1, 2)), np.ones((1, 1))
    for call, name in (
        (lambda: compiled.propagate_back(Y, (X,), (W,), None, 1.0, 0.0, True), "activations"),
        (lambda: compiled.propagate(X, [W, b, Y[:, :1], b], (), 0.5), "masks"),
        (lambda: compiled.propagate_back(Y, (X, Y, Y), (W, b), (), 0.5, 0.0, True), "masks"),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected . arrays; got ."):
            call()


def test_no_threads(compiled):
    net = fi.Network([2, 1])
    theta, X, Y = np.zeros((1, 3)), np.ones((2, 5)), np.ones((1, 5))
    with pytest.raises(ValueError, match="threads: expected at least 1; got 0"):
        compiled.loss_and_gradient(net.layout, theta, X, Y, None, np.empty((1, 3)), 0)
