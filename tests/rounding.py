"""Random data, comparisons, and bounds on the rounding errors of a network's gradient.

The bounds are a-priori bounds of first order. The relative rounding error of an operation is at
most eps / 2, that of a sum of n products at most n * eps / 2 in any order, and the error of an
input is multiplied by the derivative. The code uses eps in place of eps / 2.
"""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastinit import reference
from fastinit.training.network import LOSSES

# Error bound of an activation, its derivative, or a loss, in units of eps * (1 + |result|).
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


def output_of(loss):
    [output] = [output for output, losses in LOSSES.items() if loss in losses]
    return output


def labels(seed, shape, loss, dtype):
    """Return labels in the format of the loss."""
    numbers = draw(seed, shape, float)
    return {
        "sigmoid": numbers > 0,
        "softmax": numbers == numbers.max(axis=0),
        "identity": numbers,
        "exponential": np.floor(np.abs(numbers * 2)),
    }[output_of(loss)].astype(dtype)


@cache
def steepest(activation, negative_slope):
    """Return the maximum of the first and second derivatives, and the jump of the first one at 0.

    They are computed from the reference on a grid. The second derivative is that on either side of
    0, and is nearly constant between two points of the grid.
    """
    h = 1e-3

    def slopes(Z):
        derivatives = np.empty_like(Z)
        reference.activate(Z, activation, negative_slope, np.empty_like(Z), derivatives)
        return derivatives

    sides = [slopes(sign * h * (np.arange(20_000) + 0.5)) for sign in (1, -1)]
    first = max(np.abs(side).max() for side in sides)
    second = max(np.abs(np.diff(side)).max() / h for side in sides)
    return first, second, float(np.abs(np.diff(slopes(np.array([-1e-12, 1e-12]))))[0])


def parameters(seed, sizes, dtype, bias=True):
    """Return random parameters that give pre-activations of the order of 1."""
    scales = [
        np.full(n_out * (n_in + bias), 1 / np.sqrt(n_in + 1)) for n_in, n_out in pairwise(sizes)
    ]
    scale = np.concatenate(scales)
    return (draw(seed, scale.size, float) * scale).astype(dtype)


def losses(loss, Z, Y, weights, error, dtype):
    """Return outputs, dZ and cost of the reference in float64, and bounds on their errors.

    ``error`` is a bound on the error of ``Z``.
    """
    eps = float(np.finfo(dtype).eps)
    Z, Y = Z.astype(float), Y.astype(float)
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    cost = reference.loss(Z, Y, weights, loss, A, dZ)
    m = Z.shape[1]
    share = np.full(m, 1 / m) if weights is None else weights / weights.sum(dtype=float)
    with np.errstate(all="ignore"):
        _, each, slope = reference.LOSSES[loss](Z, Y)
        ends = [reference.LOSSES[loss](Z + sign * error, Y) for sign in (1, -1)]
    if output_of(loss) == "softmax":
        # The error of a shifted logit is eps / 2 relative to its size, that of the sum one eps per
        # output.
        spread = np.ptp(Z, axis=0)
        A_error = np.max(error + 0 * A, axis=0) / 2 + (len(Z) + 8 + spread) * eps * A
        slope_error = A_error
    else:
        # Outputs and derivatives increase with Z, because losses are convex. The identity does not
        # round.
        rounding = 0 if output_of(loss) == "identity" else 4 * eps * A
        A_error = np.max([np.abs(end[0] - A) for end in ends], axis=0) + rounding
        slope_error = np.max([np.abs(end[2] - slope) for end in ends], axis=0) + rounding
    # The weights are summed in double precision for every dtype.
    of_share = m * float(np.finfo(float).eps) + 4 * eps
    dZ_error = (slope_error + of_share * np.abs(slope)) * share
    # The terms of a loss are bounded by |Z| * (1 + |Y|), A and 1, or by the loss itself.
    loss_error = (np.abs(slope) + slope_error) * error
    loss_error += FUNCTION * eps * (1 + np.abs(Z) * (1 + np.abs(Y)) + np.abs(A))
    if output_of(loss) == "identity":
        loss_error += 2 * FUNCTION * eps * each
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
    """Return the results of the reference in float64, and bounds on the errors of ``dtype``."""
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
    first, second, kink = steepest(layout.activation, layout.negative_slope)
    input_errors, slope_errors = [np.zeros_like(X)], []
    for layer, ((W, b), A) in enumerate(zip(layers, inputs, strict=True)):
        W = np.abs(W)
        size = W @ (np.abs(A) + input_errors[-1]) + np.abs(b)
        error = W @ input_errors[-1] + (W.shape[1] + 2) * eps * size
        if layer < len(layers) - 1:
            out, slope = inputs[layer + 1], derivatives[layer]
            input_errors.append(first * error + FUNCTION * eps * (1 + np.abs(out)))
            # Near a discontinuity of the derivative, an error may change the side: add the jump.
            pre = np.empty_like(out)
            reference.linear(*layers[layer], A, pre)
            jump = kink * (np.abs(pre) <= error)
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
