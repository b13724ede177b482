"""Random data, comparisons, and bounds on the rounding errors of a network's gradient.

The bounds are a priori and of first order. Every operation adds at most half an eps of its result,
a sum of n products n times as much in any order, and an error of the input is multiplied by the
derivative. A whole eps is used where half would be enough.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastinit import reference

# The largest absolute first and second derivative of each activation, apart from jumps.
STEEPEST = {
    "relu": (1.0, 0.0),
    "leaky_relu": (1.0, 0.0),
    "tanh": (1.0, 0.77),
    "sigmoid": (0.25, 0.1),
    "identity": (1.0, 0.0),
    "gelu": (1.13, 0.8),
    "silu": (1.1, 0.5),
    "selu": (1.76, 1.76),
}
# The jump of the derivative at zero.
JUMPS = {"relu": 1.0, "leaky_relu": 1.0, "selu": 0.71}
# The rounding error of an activation, its derivative, or a loss, in units of eps * (1 + |result|).
FUNCTION = 8


def draw(seed, shape, dtype):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(dtype)


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def assert_within(actual, expected, bound):
    """Check that |actual - expected| <= bound for every element, without NaN."""
    assert actual.shape == expected.shape
    assert not np.isnan(actual).any()
    assert (np.abs(actual.astype(float) - expected) <= bound).all()


def labels(seed, shape, loss, dtype):
    """Return labels in the format of the loss."""
    numbers = draw(seed, shape, float)
    if loss == "softmax_cross_entropy":
        return (numbers == numbers.max(axis=0)).astype(dtype)
    if loss == "squared_error":
        return numbers.astype(dtype)
    if loss == "poisson":
        return np.floor(np.abs(numbers * 2)).astype(dtype)
    return (numbers > 0).astype(dtype)


def parameters(seed, sizes, dtype, bias=True):
    """Return a theta, including biases, whose pre-activations are of the order of 1."""
    scales = [
        np.full(n_out * (n_in + bias), 1 / np.sqrt(n_in + 1)) for n_in, n_out in pairwise(sizes)
    ]
    scale = np.concatenate(scales)
    return (draw(seed, scale.size, float) * scale).astype(dtype)


def losses(loss, Z, Y, weights, error, dtype):
    """Return outputs, dZ and cost of the reference in float64, and the bounds on their errors.

    ``error`` is the bound on the error of ``Z``.
    """
    eps = float(np.finfo(dtype).eps)
    Z, Y = Z.astype(float), Y.astype(float)
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    cost = reference.loss(Z, Y, weights, loss, A, dZ)
    m = Z.shape[1]
    share = np.full(m, 1 / m) if weights is None else weights / weights.sum(dtype=float)
    if loss == "squared_error":
        A_error = error + 0 * A
    elif loss == "poisson":
        A_error = A * np.expm1(error) + 4 * eps * A
    elif loss == "softmax_cross_entropy":
        # The error of the shifted logits is half an eps of their size; that of the sum, one eps for
        # each output.
        spread = np.ptp(Z, axis=0)
        A_error = np.max(error + 0 * A, axis=0) / 2 + (len(Z) + 8 + spread) * eps * A
    else:
        A_error = error / 4 + 4 * eps * A
    # The weights of the examples are always summed in double precision.
    of_share = m * float(np.finfo(float).eps) + 4 * eps
    dZ_error = (A_error + of_share * np.abs(A - Y)) * share
    # The derivative of each loss by Z is A - Y. Its terms are at most |Z| (1 + Y), A and 1.
    loss_error = (np.abs(A - Y) + A_error) * error
    loss_error += FUNCTION * eps * (1 + np.abs(Z) * (1 + Y) + A)
    if loss == "squared_error":
        loss_error += FUNCTION * eps * np.square(Z - Y)
    if loss == "saturating_cross_entropy":
        # The absolute error of 1 - A is that of A, even if 1 - A is small.
        loss_error += FUNCTION * eps / np.where(Y > 0, A, 1 - A)
    cost_error = float((loss_error * share).sum()) + of_share * abs(cost)
    return A, dZ, cost, (A_error, dZ_error, cost_error)


class Exact(NamedTuple):
    """Results in float64, and bounds on the errors of another dtype."""

    cost: float
    cost_bound: float
    gradient: np.ndarray
    gradient_bound: np.ndarray
    outputs: np.ndarray
    outputs_bound: np.ndarray


def exact(layout, theta, X, Y, weights, dtype):
    """Run the reference in float64, and propagate bounds on the rounding errors of ``dtype``."""
    eps = float(np.finfo(dtype).eps)
    theta, X, Y = (x.astype(float) for x in (theta, X, Y))
    m = X.shape[1]
    gradient = np.empty_like(theta)
    reference.loss_and_gradient(layout, theta[None], X, Y, weights, gradient[None], 1)

    layers = [
        (W, b if layout.bias else np.zeros((len(W), 1)))
        for W, b in reference._layers(layout, theta)
    ]
    inputs, derivatives = reference._activations(layout, theta, X)
    Z = inputs.pop()
    first, second = STEEPEST[layout.activation]
    input_errors, slope_errors = [np.zeros_like(X)], []
    for layer, ((W, b), A) in enumerate(zip(layers, inputs, strict=True)):
        W = np.abs(W)
        size = W @ (np.abs(A) + input_errors[-1]) + np.abs(b)
        error = W @ input_errors[-1] + (W.shape[1] + 2) * eps * size
        if layer < len(layers) - 1:
            out, slope = inputs[layer + 1], derivatives[layer]
            input_errors.append(first * error + FUNCTION * eps * (1 + np.abs(out)))
            # Near a kink an error may change the side, which adds the jump of the derivative.
            pre = np.empty_like(out)
            reference.linear(*layers[layer], A, pre)
            jump = JUMPS.get(layout.activation, 0.0) * (np.abs(pre) <= error)
            slope_errors.append(second * error + jump + FUNCTION * eps * (1 + np.abs(slope)))

    outputs, dZ, cost, errors = losses(layout.loss, Z, Y, weights, error, dtype)
    outputs_error, dZ_error, cost_bound = errors
    bounds = []
    for layer in reversed(range(len(layers))):
        W, A, A_off = np.abs(layers[layer][0]), np.abs(inputs[layer]), input_errors[layer]
        size = np.abs(dZ)
        dW = dZ_error @ (A + A_off).T + size @ A_off.T + (m + 9) * eps * (size @ A.T)
        db = dZ_error.sum(axis=1) + (m + 9) * eps * size.sum(axis=1)
        bounds += [db, dW.ravel()] if layout.bias else [dW.ravel()]
        if layer > 0:
            dA = layers[layer][0].T @ dZ
            dA_error = W.T @ dZ_error + (len(W) + 2) * eps * (W.T @ size)
            slope, off = np.abs(derivatives[layer - 1]), slope_errors[layer - 1]
            dZ = dA * derivatives[layer - 1]
            dZ_error = dA_error * (slope + off) + np.abs(dA) * off + eps * np.abs(dZ)
    bound = np.concatenate(bounds[::-1])
    return Exact(cost, cost_bound, gradient, bound, outputs, outputs_error)
