"""The functions of the lesson on gradient checking, computed by the kernels.

``from fastinit.gc_utils import *`` replaces the ``gc_utils`` module and the test case of the
lesson, and provides the three functions of its notebook. Labels may have shape (1, m) or, as in the
test case, (m,).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.init_utils import (
    PARAMETERS,
    Array,
    Cache,
    Parameters,
    compute_loss,
    entries,
    forward_propagation,
    layer_sizes,
    relu,
    sigmoid,
)
from fastinit.reg_utils import backward_propagation
from fastinit.validation import as_doubles, as_float

__all__ = [
    "backward_propagation_n",
    "dictionary_to_vector",
    "forward_propagation_n",
    "gradient_check_n",
    "gradient_check_n_test_case",
    "gradients_to_vector",
    "relu",
    "sigmoid",
    "vector_to_dictionary",
]

# Rounding errors of the costs cause a difference of 1.2e-7 in the test case of the lesson.
_LARGEST_DIFFERENCE = 2e-7


def gradient_check_n_test_case() -> tuple[Array, NDArray[np.intp], Parameters]:
    """Return the test case of the lesson: three examples and a 4-5-3-1 network.

    Like the function of the lesson, it calls ``np.random.seed(1)`` first, which changes NumPy's
    global random state.

    Returns
    -------
    X : ndarray of shape (4, 3), float64
        Features.
    Y : ndarray of shape (3,), intp
        Labels, 0 or 1.
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, float64, drawn from the standard normal distribution.

    Examples
    --------
    >>> X, Y, parameters = gradient_check_n_test_case()
    >>> X.shape, Y.tolist(), parameters["W1"].shape
    ((4, 3), [1, 1, 0], (5, 4))
    """
    np.random.seed(1)
    X = np.random.randn(4, 3)
    parameters = {}
    for layer, (n_in, n_out) in enumerate(pairwise((4, 5, 3, 1)), start=1):
        parameters[f"W{layer}"] = np.random.randn(n_out, n_in)
        parameters[f"b{layer}"] = np.random.randn(n_out, 1)
    return X, np.array([1, 1, 0]), parameters


def dictionary_to_vector(parameters: Mapping[str, Array]) -> tuple[Array, list[str]]:
    """Concatenate the parameters into one column vector.

    Parameters
    ----------
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, each of any shape.

    Returns
    -------
    theta : ndarray of shape (n_parameters, 1), float64
        The parameters in this order, each in C order.
    keys : list of str
        For each row of `theta`, the name of its parameter.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing.

    Examples
    --------
    >>> theta, keys = dictionary_to_vector(vector_to_dictionary(np.arange(6.0), (1, 1, 1, 1)))
    >>> theta.shape, keys
    ((6, 1), ['W1', 'b1', 'W2', 'b2', 'W3', 'b3'])
    """
    arrays = _columns("parameters", parameters, PARAMETERS)
    keys = [key for key, array in zip(PARAMETERS, arrays, strict=True) for _ in array]
    return np.concatenate(arrays), keys


def vector_to_dictionary(theta: ArrayLike, layers_dims: Sequence[int] = (4, 5, 3, 1)) -> Parameters:
    """Split a vector into the parameters of a network, the inverse of :func:`dictionary_to_vector`.

    Parameters
    ----------
    theta : array_like of shape (n_parameters, 1) or (n_parameters,)
        The parameters W1, b1, W2, b2, W3, b3, each in C order.
    layers_dims : sequence of int, default (4, 5, 3, 1)
        Number of units of the inputs and of the three layers.

    Returns
    -------
    dict
        ``W1, b1, W2, b2, W3, b3``, new arrays of float64.

    Raises
    ------
    TypeError
        If `theta` does not hold real numbers, or `layers_dims` is not a sequence of integers.
    ValueError
        If `layers_dims` does not have 4 sizes, or `theta` has another number of elements.

    Examples
    --------
    >>> vector_to_dictionary(np.arange(6.0), (1, 1, 1, 1))["b3"]
    array([[5.]])
    """
    vector = as_doubles("theta", theta).ravel()
    sizes = layer_sizes(layers_dims)
    if len(sizes) != 4:
        raise ValueError(f"layers_dims: expected 4 sizes; got {len(sizes)}")
    shapes = [shape for n_in, n_out in pairwise(sizes) for shape in ((n_out, n_in), (n_out, 1))]
    ends = np.cumsum([n * k for n, k in shapes])
    if vector.size != ends[-1]:
        raise ValueError(f"theta: expected {ends[-1]} parameters; got {vector.size}")
    parts = np.split(vector, ends[:-1])
    return {
        name: part.reshape(shape).copy()
        for name, part, shape in zip(PARAMETERS, parts, shapes, strict=True)
    }


def gradients_to_vector(gradients: Mapping[str, Array]) -> Array:
    """Concatenate the gradients of the parameters into one column vector.

    Parameters
    ----------
    gradients : dict
        Contains ``dW1, db1, dW2, db2, dW3, db3``, each of any shape; other keys are ignored.

    Returns
    -------
    ndarray of shape (n_parameters, 1), float64
        The gradients in this order, each in C order.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `gradients` is not a dictionary.
    ValueError
        If a key is missing.

    Examples
    --------
    >>> X, Y, parameters = gradient_check_n_test_case()
    >>> _, cache = forward_propagation_n(X, Y, parameters)
    >>> gradients_to_vector(backward_propagation_n(X, Y, cache)).shape
    (47, 1)
    """
    return np.concatenate(_columns("gradients", gradients, [f"d{name}" for name in PARAMETERS]))


def forward_propagation_n(
    X: ArrayLike, Y: ArrayLike, parameters: Mapping[str, Array]
) -> tuple[float, Cache]:
    """Compute LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID, and its cost.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (1, m) or (m,)
        Labels, 0 or 1.
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, of shapes (n_out, n_in) and (n_out, 1).

    Returns
    -------
    cost : float64
        The cross-entropy cost.
    cache : tuple
        ``(Z1, A1, W1, b1, Z2, A2, W2, b2, Z3, A3, W3, b3)``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, shapes do not match, or there are no examples.

    Examples
    --------
    >>> cost, cache = forward_propagation_n(*gradient_check_n_test_case())
    >>> round(float(cost), 6), len(cache)
    (2.407833, 12)
    """
    A3, cache = forward_propagation(X, parameters)
    return compute_loss(A3, _row(Y)), cache


def backward_propagation_n(X: ArrayLike, Y: ArrayLike, cache: Cache) -> Parameters:
    """Return the gradients of the cross-entropy cost.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (1, m) or (m,)
        Labels, 0 or 1.
    cache : tuple
        The second value that :func:`forward_propagation_n` returns.

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
    >>> X, Y, parameters = gradient_check_n_test_case()
    >>> _, cache = forward_propagation_n(X, Y, parameters)
    >>> backward_propagation_n(X, Y, cache)["dW1"].shape
    (5, 4)
    """
    return backward_propagation(X, _row(Y), cache)


def gradient_check_n(
    parameters: Mapping[str, Array],
    gradients: Mapping[str, Array],
    X: ArrayLike,
    Y: ArrayLike,
    epsilon: float = 1e-7,
) -> float:
    """Compare gradients with central differences of the cost, and print the result.

    Parameters
    ----------
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, of shapes (n_out, n_in) and (n_out, 1).
    gradients : dict
        Contains ``dW1, db1, dW2, db2, dW3, db3``.
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (1, m) or (m,)
        Labels, 0 or 1.
    epsilon : float, default 1e-7
        Step of the central differences; above 0.

    Returns
    -------
    float
        ``norm(grad - approximation) / (norm(grad) + norm(approximation))``. The gradients are
        reported as correct up to 2e-7.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` or `gradients` is not a dictionary.
    ValueError
        If a key is missing, shapes do not match, or `epsilon` is not above 0.

    Examples
    --------
    >>> X, Y, parameters = gradient_check_n_test_case()
    >>> _, cache = forward_propagation_n(X, Y, parameters)
    >>> gradients = backward_propagation_n(X, Y, cache)
    >>> difference = gradient_check_n(parameters, gradients, X, Y)  # doctest: +SKIP
    Your backward propagation works perfectly fine! difference = 1.1908457216398733e-07
    """
    epsilon = as_float("epsilon", epsilon)
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected above 0; got {epsilon}")
    forward_propagation_n(X, Y, parameters)  # raises if shapes do not match
    theta, _ = dictionary_to_vector(parameters)
    grad = gradients_to_vector(gradients)
    if grad.shape != theta.shape:
        raise ValueError(f"gradients: expected {theta.size} numbers; got {grad.size}")
    W1, _, W2, _, W3, _ = entries("parameters", parameters, PARAMETERS)
    dims = (np.shape(W1)[1], len(W1), len(W2), len(W3))

    def cost(k: int, step: float) -> float:
        moved = theta.copy()
        moved[k] += step
        return forward_propagation_n(X, Y, vector_to_dictionary(moved, dims))[0]

    with np.errstate(all="ignore"):
        approximation = np.array(
            [[(cost(k, epsilon) - cost(k, -epsilon)) / (2 * epsilon)] for k in range(theta.size)]
        )
        norm = np.linalg.norm
        difference = float(norm(grad - approximation) / (norm(grad) + norm(approximation)))
    if difference <= _LARGEST_DIFFERENCE:
        verdict = "\033[92mYour backward propagation works perfectly fine!"
    else:
        verdict = "\033[93mThere is a mistake in the backward propagation!"
    print(f"{verdict} difference = {difference}\033[0m")
    return difference


def _columns(name: str, mapping: Mapping[str, Array], keys: Sequence[str]) -> list[Array]:
    arrays = entries(name, mapping, keys)
    return [as_doubles(key, x).reshape(-1, 1) for key, x in zip(keys, arrays, strict=True)]


def _row(Y: ArrayLike) -> Array:
    labels = as_doubles("Y", Y)
    return labels[None] if labels.ndim == 1 else labels
