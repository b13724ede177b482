"""The lesson on gradient checking, under its own names, on the fast kernels.

``from fastinit.gc_utils import *`` stands in for the lesson's ``gc_utils`` module, its test case
and the three functions of its notebook. Labels may also have shape (m,), as in that test case.
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

# Rounding of the costs alone makes the lesson's own test case differ by 1.2e-7.
_LARGEST_DIFFERENCE = 2e-7


def gradient_check_n_test_case() -> tuple[Array, NDArray[np.intp], Parameters]:
    """Return the lesson's ``X`` of shape (4, 3), ``Y`` of shape (3,) and parameters.

    Like the lesson's own function, this reseeds NumPy's global random state, with 1.
    """
    np.random.seed(1)
    X = np.random.randn(4, 3)
    parameters = {}
    for layer, (n_in, n_out) in enumerate(pairwise((4, 5, 3, 1)), start=1):
        parameters[f"W{layer}"] = np.random.randn(n_out, n_in)
        parameters[f"b{layer}"] = np.random.randn(n_out, 1)
    return X, np.array([1, 1, 0]), parameters


def dictionary_to_vector(parameters: Mapping[str, Array]) -> tuple[Array, list[str]]:
    """Return ``W1, b1, W2, b2, W3, b3`` in one column, and for each of its rows the name.

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
    """Return the parameters that a vector holds, each an array of its own.

    Parameters
    ----------
    theta : array_like of size n_parameters
    layers_dims : sequence of int, default (4, 5, 3, 1)
        The lesson's network by default.
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
    """Return ``dW1, db1, dW2, db2, dW3, db3`` in one column."""
    return np.concatenate(_columns("gradients", gradients, [f"d{name}" for name in PARAMETERS]))


def forward_propagation_n(
    X: ArrayLike, Y: ArrayLike, parameters: Mapping[str, Array]
) -> tuple[float, Cache]:
    """Return the cost, and the cache ``(Z1, A1, W1, b1, ... Z3, A3, W3, b3)``."""
    A3, cache = forward_propagation(X, parameters)
    return compute_loss(A3, _row(Y)), cache


def backward_propagation_n(X: ArrayLike, Y: ArrayLike, cache: Cache) -> Parameters:
    """Return the gradients of all steps: ``dZ3, dW3, db3, dA2, dZ2, ... dW1, db1``."""
    return backward_propagation(X, _row(Y), cache)


def gradient_check_n(
    parameters: Mapping[str, Array],
    gradients: Mapping[str, Array],
    X: ArrayLike,
    Y: ArrayLike,
    epsilon: float = 1e-7,
) -> float:
    """Compare gradients to central differences of the cost; print the verdict.

    Parameters
    ----------
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``.
    gradients : dict
        Has ``dW1, db1, dW2, db2, dW3, db3``.
    X : array_like of shape (n_features, m)
    Y : array_like of shape (1, m) or (m,), each 0 or 1
    epsilon : float, default 1e-7
        How far each parameter is moved, up and down.

    Returns
    -------
    float
        ``norm(grad - approximation) / (norm(grad) + norm(approximation))``.
    """
    epsilon = as_float("epsilon", epsilon)
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected above 0; got {epsilon}")
    forward_propagation_n(X, Y, parameters)  # all shapes fit, or this raises
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
