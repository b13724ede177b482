"""The functions of the lesson on regularisation, with L2 and dropout, computed by the kernels.

``from fastinit.reg_utils import *`` replaces the ``reg_utils`` module of the lesson, and provides
the four functions that its notebook asks the reader to write. Unlike in :mod:`fastinit.init_utils`,
the names of gradients have capital letters, and the mean over the examples is included in ``dW``
and ``db``, not in ``dZ3``. The data of the lesson, ``data.mat``, are not included.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastinit.init_utils import (
    PARAMETERS,
    Array,
    Cache,
    Parameters,
    entries,
    forward_propagation,
    initialized,
    plot_decision_boundary,
    predict,
    predict_dec,
    relu,
    sigmoid,
    unpacked,
    update_parameters,
)
from fastinit.init_utils import compute_loss as compute_cost
from fastinit.kernels import dense
from fastinit.validation import as_doubles, as_float

__all__ = [
    "backward_propagation",
    "backward_propagation_with_dropout",
    "backward_propagation_with_regularization",
    "compute_cost",
    "compute_cost_with_regularization",
    "forward_propagation",
    "forward_propagation_with_dropout",
    "initialize_parameters",
    "plot_decision_boundary",
    "predict",
    "predict_dec",
    "relu",
    "sigmoid",
    "update_parameters",
]

_GRADIENTS = ("dZ3", "dW3", "db3", "dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")


def initialize_parameters(layer_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) / sqrt(n_in)``, and biases of zero.

    Like the function of the lesson, it calls ``np.random.seed(3)`` first, which changes NumPy's
    global random state.

    Parameters
    ----------
    layer_dims : sequence of int
        Number of units of each layer, from the inputs to the outputs.

    Returns
    -------
    dict
        ``{"W1": ..., "b1": ..., ...}``, float64, of shapes (n_out, n_in) and (n_out, 1).

    Raises
    ------
    TypeError
        If `layer_dims` is not a sequence of integers.
    ValueError
        If a size is less than 1.

    Examples
    --------
    >>> initialize_parameters([2, 1])["W1"]
    array([[1.26475132, 0.30865908]])
    """
    np.random.seed(3)
    return initialized(layer_dims, lambda n_in: 1 / np.sqrt(n_in))


def backward_propagation(X: ArrayLike, Y: ArrayLike, cache: Cache) -> Parameters:
    """Return the gradients of the cross-entropy cost.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (n_outputs, m)
        Labels, 0 or 1.
    cache : tuple
        The second value that :func:`forward_propagation` returns.

    Returns
    -------
    dict
        ``dZ3, dW3, db3, dA2, dZ2, dW2, db2, dA1, dZ1, dW1, db1``, float64.
        The mean over the examples is included in ``dW`` and ``db``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the cache does not have 12 arrays, shapes do not match, or there are no examples.

    Examples
    --------
    >>> X, Y = np.ones((2, 3)), np.array([[0, 1, 1]])
    >>> _, cache = forward_propagation(X, initialize_parameters([2, 10, 5, 1]))
    >>> backward_propagation(X, Y, cache)["dW1"].shape
    (10, 2)
    """
    return backward_propagation_with_regularization(X, Y, cache, 0.0)


def compute_cost_with_regularization(
    A3: ArrayLike, Y: ArrayLike, parameters: Mapping[str, Array], lambd: float
) -> float:
    """Return the cross-entropy cost plus ``lambd / (2 * m) * sum(W ** 2)``.

    Parameters
    ----------
    A3 : array_like of shape (n_outputs, m)
        The output of the network.
    Y : array_like of shape (n_outputs, m)
        Labels, 0 or 1.
    parameters : dict
        Contains ``W1, W2, W3``; other keys are ignored.
    lambd : float
        Coefficient of the penalty. In :func:`fastinit.train`, it corresponds to an optimiser with
        ``l2=lambd / m``.

    Returns
    -------
    float64

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, shapes do not match, or there are no examples.

    Examples
    --------
    >>> W = {"W1": np.ones((2, 2)), "W2": np.ones((1, 2)), "W3": np.zeros((1, 1))}
    >>> float(compute_cost_with_regularization([[0.5, 0.5]], [[0, 1]], W, 0.1))
    0.8431471805599453
    """
    cost = compute_cost(A3, Y)
    names = ("W1", "W2", "W3")
    weights = entries("parameters", parameters, names)
    with np.errstate(all="ignore"):
        squares = sum(
            np.square(as_doubles(name, W)).sum() for name, W in zip(names, weights, strict=True)
        )
        return np.float64(cost + as_float("lambd", lambd) / (2 * np.shape(Y)[1]) * squares)


def backward_propagation_with_regularization(
    X: ArrayLike, Y: ArrayLike, cache: Cache, lambd: float
) -> Parameters:
    """Return the gradients of :func:`compute_cost_with_regularization`.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (n_outputs, m)
        Labels, 0 or 1.
    cache : tuple
        The second value that :func:`forward_propagation` returns.
    lambd : float
        Coefficient of the penalty, which adds ``lambd / m * W`` to each ``dW``.

    Returns
    -------
    dict
        ``dZ3, dW3, db3, dA2, dZ2, dW2, db2, dA1, dZ1, dW1, db1``, float64.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the cache does not have 12 arrays, shapes do not match, or there are no examples.

    Examples
    --------
    >>> X, Y = np.ones((2, 3)), np.array([[0, 1, 1]])
    >>> parameters = initialize_parameters([2, 10, 5, 1])
    >>> _, cache = forward_propagation(X, parameters)
    >>> grads = backward_propagation_with_regularization(X, Y, cache, lambd=0.3)
    >>> difference = grads["dW1"] - backward_propagation(X, Y, cache)["dW1"]
    >>> np.allclose(difference, 0.1 * parameters["W1"])
    True
    """
    _, A1, W1, _, _, A2, W2, _, _, A3, W3, _ = unpacked(cache, 12, "forward_propagation")
    lambd = as_float("lambd", lambd)
    arrays = dense.propagate_back(Y, (X, A1, A2, A3), (W1, W2, W3), None, 1.0, lambd, False)
    return dict(zip(_GRADIENTS, arrays, strict=True))


def forward_propagation_with_dropout(
    X: ArrayLike, parameters: Mapping[str, Array], keep_prob: float = 0.5
) -> tuple[Array, Cache]:
    """Compute LINEAR -> RELU + DROPOUT -> LINEAR -> RELU + DROPOUT -> LINEAR -> SIGMOID.

    Like the function of the lesson, it calls ``np.random.seed(1)`` first, which changes NumPy's
    global random state.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, of shapes (n_out, n_in) and (n_out, 1).
    keep_prob : float, default 0.5
        Probability of keeping a unit, in (0, 1]. Kept activations are divided by it.

    Returns
    -------
    A3 : ndarray of shape (n_outputs, m), float64
        The output of the network; n_outputs is 1 in the lesson.
    cache : tuple
        ``(Z1, D1, A1, W1, b1, Z2, D2, A2, W2, b2, Z3, A3, W3, b3)``. ``D1`` and ``D2`` are masks of
        bool, True for kept units.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, shapes do not match, or `keep_prob` is out of its range.

    Examples
    --------
    >>> A3, cache = forward_propagation_with_dropout(
    ...     np.ones((2, 3)), initialize_parameters([2, 10, 5, 1]), keep_prob=0.8
    ... )
    >>> A3.shape, cache[1].shape
    ((1, 3), (10, 3))
    """
    keep_prob = _probability(keep_prob)
    W1, b1, W2, b2, W3, b3 = values = entries("parameters", parameters, PARAMETERS)
    m = as_doubles("X", X, (None, None)).shape[1]
    np.random.seed(1)
    D1, D2 = (
        np.random.rand(len(as_doubles(name, W, (None, None))), m) < keep_prob
        for name, W in (("W1", W1), ("W2", W2))
    )
    Z1, A1, Z2, A2, Z3, A3 = dense.propagate(X, values, (D1, D2), keep_prob)
    return A3, (Z1, D1, A1, W1, b1, Z2, D2, A2, W2, b2, Z3, A3, W3, b3)


def backward_propagation_with_dropout(
    X: ArrayLike, Y: ArrayLike, cache: Cache, keep_prob: float
) -> Parameters:
    """Return the gradients of the cross-entropy cost of a network with dropout.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (n_outputs, m)
        Labels, 0 or 1.
    cache : tuple
        The second value that :func:`forward_propagation_with_dropout` returns.
    keep_prob : float
        The probability that was passed to :func:`forward_propagation_with_dropout`.

    Returns
    -------
    dict
        ``dZ3, dW3, db3, dA2, dZ2, dW2, db2, dA1, dZ1, dW1, db1``, float64.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the cache does not have 14 arrays, shapes do not match, there are no examples, or
        `keep_prob` is out of its range.

    Examples
    --------
    >>> X, Y = np.ones((2, 3)), np.array([[0, 1, 1]])
    >>> parameters = initialize_parameters([2, 10, 5, 1])
    >>> _, cache = forward_propagation_with_dropout(X, parameters, keep_prob=0.8)
    >>> backward_propagation_with_dropout(X, Y, cache, keep_prob=0.8)["dW1"].shape
    (10, 2)
    """
    keep_prob = _probability(keep_prob)
    _, D1, A1, W1, _, _, D2, A2, W2, _, _, A3, W3, _ = unpacked(
        cache, 14, "forward_propagation_with_dropout"
    )
    arrays = dense.propagate_back(Y, (X, A1, A2, A3), (W1, W2, W3), (D1, D2), keep_prob, 0.0, False)
    return dict(zip(_GRADIENTS, arrays, strict=True))


def _probability(keep_prob: float) -> float:
    keep_prob = as_float("keep_prob", keep_prob)
    if not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob: expected above 0, at most 1; got {keep_prob}")
    return keep_prob
