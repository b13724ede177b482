"""LSUV."""

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from rounding import FUNCTION, steepest

import fastinit as fi
from fastinit import reference
from fastinit.training.network import ACTIVATIONS


def check_unit_variance(net, theta, X, tolerance):
    """Compute the pre-activations in float64, and follow the rounding errors of the dtype."""
    eps = float(np.finfo(net.dtype).eps)
    A, A_error = X.astype(net.dtype).astype(float), np.zeros(X.shape)
    slope, _, _ = steepest(net.activation, net.negative_slope)
    parameters = {key: value.astype(float) for key, value in net.unpack(theta).items()}
    for layer in range(1, net.n_layers + 1):
        W, b = parameters[f"W{layer}"], parameters[f"b{layer}"]
        Z = W @ A + b
        size = np.abs(W) @ (np.abs(A) + A_error) + np.abs(b)
        Z_error = np.abs(W) @ A_error + (W.shape[1] + 2) * eps * size
        # The deviation of a sum is at most the sum of the deviations.
        bound = 2 * Z.std() * np.sqrt(np.mean(Z_error**2)) + np.mean(Z_error**2)
        assert bound < 1e-3
        assert abs(Z.var() - 1) <= tolerance + bound
        A = np.empty_like(Z)
        reference.activate(Z, net.activation, net.negative_slope, A, np.empty_like(Z))
        A_error = slope * Z_error + FUNCTION * eps * (1 + np.abs(A))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("tolerance", [0.3, 0.01, 1e-5])
def test_lsuv(dtype, tolerance):
    net = fi.Network([5, 30, 20, 2], dtype=dtype)
    X = fi.normal((5, 400), std=3.0, seed=1)
    for scheme in ("orthogonal", "torch_linear"):
        start = net.initialize(scheme, seed=0)
        kept = start.copy()
        theta = fi.lsuv(net, start, X, tolerance=tolerance, attempts=30)
        assert_array_equal(start, kept)
        check_unit_variance(net, theta, X, tolerance)


def test_lsuv_refuses():
    net = fi.Network([5, 30, 2])
    theta, X = net.initialize("orthogonal", seed=0), fi.normal((5, 40), seed=1)
    kept = theta.copy()
    for arguments, keywords, error, message in (
        ((None, theta, X), {}, TypeError, "network: expected a Network; got NoneType"),
        ((fi.Network, theta, X), {}, TypeError, "network: expected a Network; got type"),
        ((theta, net, X), {}, TypeError, "network: expected a Network; got ndarray"),
        ((net, theta[1:], X), {}, ValueError, "theta: expected shape"),
        ((net, theta, X.T), {}, ValueError, r"X: expected shape \(5, n_examples\)"),
        (
            (net, theta, X[:, :0]),
            {},
            ValueError,
            r"X: expected at least one ex.*; got shape \(5, 0",
        ),
        ((net, theta, X[:, :1] * 0), {}, ValueError, "theta: expected outputs of layer 1 that v"),
        ((net, theta * 0, X), {}, ValueError, "theta: expected outputs of layer 1 that vary"),
        ((net, theta * 1e200, X), {}, ValueError, "theta: expected outputs .*; got variance inf"),
        ((net, theta, X), {"tolerance": -1}, ValueError, "tolerance: expected finite and >= 0; go"),
        ((net, theta, X), {"tolerance": math.nan}, ValueError, "tolerance: .*; got nan"),
        ((net, theta, X), {"tolerance": math.inf}, ValueError, "tolerance: .*; got inf"),
        ((net, theta, X), {"tolerance": "1"}, TypeError, "tolerance: expected a number; got str"),
        ((net, theta, X), {"attempts": 0}, ValueError, "attempts: expected an integer from 1"),
        ((net, theta, X), {"attempts": 1.0}, TypeError, "attempts: expected an integer; got fl"),
    ):
        with pytest.raises(error, match=message):
            fi.lsuv(*arguments, **keywords)
    assert_array_equal(theta, kept)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lsuv_for_every_activation(activation):
    """The variance of the pre-activations of every layer is 1."""
    net = fi.Network([5, 30, 20, 2], activation=activation, negative_slope=0.3)
    X = fi.normal((5, 400), std=3.0, seed=1)
    theta = fi.lsuv(net, net.initialize("orthogonal", seed=0), X)
    check_unit_variance(net, theta, X, 0.01)
