"""The lesson's own helper functions under the lesson's own names, on the fast kernels.

``from fastinit.init_utils import *`` stands in for the lesson's ``init_utils`` module: the same
signatures, dictionaries and caches, the same numbers. No warning escapes where the lesson's NumPy
code warned of an overflow or of log(0).

Large random weights are the exception to "the same numbers". They amplify the last bit of rounding:
changing ``X`` by one unit in the last place moves the cost at iteration 1000 between 0.386 and
0.418. Expect accuracies within 0.01 and costs within 10 % there, from any two programs.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import dense
from fastinit.lesson import load_dataset
from fastinit.training import Network, Run, train
from fastinit.validation import as_float

__all__ = [
    "backward_propagation",
    "compute_loss",
    "forward_propagation",
    "initialize_parameters_he",
    "initialize_parameters_random",
    "initialize_parameters_zeros",
    "load_dataset",
    "model",
    "plot_decision_boundary",
    "predict",
    "predict_dec",
    "relu",
    "sigmoid",
    "update_parameters",
]

Array = NDArray[np.float64]
Parameters = dict[str, Array]
Cache = tuple[Array, ...]


def _matrix(x: ArrayLike, name: str = "x") -> Array:
    try:
        return np.ascontiguousarray(x, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"{name}: expected float64 numbers; got a larger one") from None


def _entry(name: str, mapping: Mapping[str, Array], key: str) -> Array:
    if key not in mapping:
        raise ValueError(f"{name}: expected the key {key!r}; got {', '.join(map(str, mapping))}")
    return mapping[key]


def _fits(name: str, array: Array, expected: tuple[int, ...]) -> Array:
    """Return the array if it has the expected shape; the kernels look at no shape themselves."""
    if array.shape != expected:
        raise ValueError(f"{name}: expected shape {expected}; got {array.shape}")
    return array


def _two_dimensional(name: str, x: ArrayLike) -> Array:
    array = _matrix(x, name)
    if np.ndim(x) != 2:
        raise ValueError(f"{name}: expected 2 dimensions; got shape {np.shape(x)}")
    return array


def sigmoid(x: ArrayLike) -> Array:
    """Return ``1 / (1 + exp(-x))``, of any shape.

    Examples
    --------
    >>> sigmoid(np.array([0.0, np.inf]))
    array([0.5, 1. ])
    """
    shape, flat = np.shape(x), _matrix(x).reshape(1, -1)
    out = np.empty(flat.shape)
    dense.sigmoid(flat, out)
    return out.reshape(shape)[()]


def relu(x: ArrayLike) -> Array:
    """Return ``max(x, 0)``, of any shape.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return np.maximum(0, _matrix(x)).reshape(np.shape(x))


def initialize_parameters_zeros(layers_dims: Sequence[int]) -> Parameters:
    """Return parameters that are all zero.

    Examples
    --------
    >>> initialize_parameters_zeros([2, 1])
    {'W1': array([[0., 0.]]), 'b1': array([[0.]])}
    """
    return _initialize(layers_dims, lambda n_in: 0.0)


def initialize_parameters_random(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * 10``, from NumPy's global state; biases zero."""
    return _initialize(layers_dims, lambda n_in: 10.0)


def initialize_parameters_he(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * sqrt(2 / n_in)`` after ``np.random.seed(3)``.

    Biases are zero. Like the lesson's own function, this reseeds NumPy's global random state.

    Examples
    --------
    >>> initialize_parameters_he([2, 1])["W1"]
    array([[1.78862847, 0.43650985]])
    """
    np.random.seed(3)
    return _initialize(layers_dims, lambda n_in: np.sqrt(2.0 / n_in))


def _initialize(layers_dims: Sequence[int], std: Callable[[int], float]) -> Parameters:
    parameters: Parameters = {}
    for layer, (n_in, n_out) in enumerate(pairwise(layers_dims), start=1):
        scale = std(n_in)
        weights = np.random.randn(n_out, n_in) * scale if scale else np.zeros((n_out, n_in))
        parameters[f"W{layer}"] = weights
        parameters[f"b{layer}"] = np.zeros((n_out, 1))
    return parameters


def forward_propagation(X: ArrayLike, parameters: Mapping[str, Array]) -> tuple[Array, Cache]:
    """Run LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID.

    Returns
    -------
    a3 : ndarray of shape (1, m)
    cache : tuple
        ``(z1, a1, W1, b1, z2, a2, W2, b2, z3, a3, W3, b3)``.
    """
    a = _two_dimensional("X", X)
    cache: list[Array] = []
    for layer in (1, 2, 3):
        W = _entry("parameters", parameters, f"W{layer}")
        b = _entry("parameters", parameters, f"b{layer}")
        weights = _two_dimensional(f"W{layer}", W)
        n_out, n_in = weights.shape
        # The layer's input is the first to blame in layer 1, its weights in the others.
        if layer == 1:
            _fits("X", a, (n_in, a.shape[1]))
        _fits(f"W{layer}", weights, (n_out, a.shape[0]))
        z = np.empty((n_out, a.shape[1]))
        dense.linear(weights, _fits(f"b{layer}", _matrix(b), (n_out, 1)), a, z)
        a = relu(z) if layer < 3 else sigmoid(z)
        cache += [z, a, W, b]
    return a, tuple(cache)


def backward_propagation(X: ArrayLike, Y: ArrayLike, cache: Cache) -> Parameters:
    """Return the gradients of all steps: ``dz3, dW3, db3, da2, dz2, ... dW1, db1``."""
    if not isinstance(cache, (tuple, list)) or len(cache) != 12:
        raise ValueError("cache: expected the 12 arrays that forward_propagation returns")
    _, a1, W1, _, _, a2, W2, _, _, a3, W3, _ = cache
    a3 = _two_dimensional("a3", a3)
    m = np.shape(a3)[1]
    dz = 1.0 / m * (_matrix(a3) - _fits("Y", _matrix(Y), np.shape(a3)))
    gradients = {"dz3": dz}
    for layer, name, W, a in ((3, "a2", W3, a2), (2, "a1", W2, a1), (1, "X", W1, X)):
        W = _two_dimensional(f"W{layer}", W)
        _fits(f"W{layer}", W, (dz.shape[0], W.shape[1]))
        a = _fits(name, _matrix(a), (W.shape[1], m))
        dW, db = np.zeros(W.shape), np.zeros((W.shape[0], 1))
        dense.backward(W, a, dz, dW, db, None)
        gradients |= {f"dW{layer}": dW, f"db{layer}": db}
        if layer > 1:
            with np.errstate(all="ignore"):
                da = W.T @ dz
                dz = da * (a > 0)
            gradients |= {f"da{layer - 1}": da, f"dz{layer - 1}": dz}
    return gradients


def update_parameters(
    parameters: Parameters, grads: Mapping[str, Array], learning_rate: float
) -> Parameters:
    """Take one step of gradient descent; update the dictionary and return it, as in the lesson."""
    learning_rate = as_float("learning_rate", learning_rate)
    with np.errstate(all="ignore"):
        for name in parameters:
            gradient = _entry("grads", grads, f"d{name}")
            if np.shape(gradient) != np.shape(parameters[name]):
                raise ValueError(
                    f"d{name}: expected shape {np.shape(parameters[name])}; got "
                    f"{np.shape(gradient)}"
                )
            parameters[name] = parameters[name] - learning_rate * gradient
    return parameters


def compute_loss(a3: ArrayLike, Y: ArrayLike) -> float:
    """Return ``1/m * nansum(-log(a3) * Y - log(1 - a3) * (1 - Y))``.

    Infinite where the sigmoid saturated on the wrong side.

    Examples
    --------
    >>> float(compute_loss([[0.5, 0.5]], [[0, 1]]))
    0.6931471805599453
    """
    a3 = _two_dimensional("a3", a3)
    Y = _fits("Y", _matrix(Y, "Y"), a3.shape)
    with np.errstate(all="ignore"):
        losses = -np.log(a3) * Y - np.log(1 - a3) * (1 - Y)
        return np.float64(np.float64(1.0) / Y.shape[1] * np.nansum(losses))


def model(
    X: ArrayLike,
    Y: ArrayLike,
    learning_rate: float = 0.01,
    num_iterations: int = 15000,
    print_cost: bool = True,
    initialization: str = "he",
) -> Parameters:
    """Train the lesson's network, printing the cost every 1000 iterations.

    Parameters
    ----------
    X : array_like of shape (2, m)
    Y : array_like of shape (1, m), each 0 or 1
    learning_rate : float, default 0.01
    num_iterations : int, default 15000
    print_cost : bool, default True
    initialization : {"zeros", "random", "he"}

    Returns
    -------
    dict
        ``W1, b1, W2, b2, W3, b3``.
    """
    schemes = {
        "zeros": initialize_parameters_zeros,
        "random": initialize_parameters_random,
        "he": initialize_parameters_he,
    }
    if initialization not in schemes:
        raise ValueError(
            f"initialization: expected one of {', '.join(schemes)}; got {initialization!r}"
        )
    network = Network([np.shape(X)[0], 10, 5, 1], loss="saturating_cross_entropy")
    theta = network.pack(schemes[initialization](list(network.sizes)))
    milestones = count(0, 1000)
    upcoming = next(milestones)

    def log(run: Run) -> None:
        nonlocal upcoming
        while upcoming < run.iterations:
            print(f"Cost after iteration {upcoming}: {run.costs[upcoming]}")
            upcoming = next(milestones)
        if run.diverged_at is not None:
            print(
                f"Diverged at iteration {run.diverged_at}: the parameters are the last finite ones"
            )

    run: Run = train(
        network,
        theta,
        X,
        Y,
        learning_rate=learning_rate,
        iterations=num_iterations,
        callback=log if print_cost else None,
    )
    return run.parameters


def predict(X: ArrayLike, y: ArrayLike, parameters: Mapping[str, Array]) -> NDArray[np.intp]:
    """Print the accuracy and return the predictions, 0 or 1, of shape (1, m)."""
    p = predict_dec(parameters, X).astype(np.intp)
    y = _fits("y", np.asarray(y), (1, p.shape[1]))
    print(f"Accuracy: {np.mean(p[0] == y[0])}")
    return p


def predict_dec(parameters: Mapping[str, Array], X: ArrayLike) -> NDArray[np.bool_]:
    """Return whether each example is of class 1: ``a3 > 0.5``, of shape (1, m)."""
    a3, _ = forward_propagation(X, parameters)
    return a3 > 0.5


def plot_decision_boundary(model: Callable[[Array], Any], X: ArrayLike, y: ArrayLike) -> None:
    """Show where ``model`` draws the line, with the examples on top.

    Parameters
    ----------
    model : callable
        From points of shape (n, 2) to their classes, ``lambda x: predict_dec(parameters, x.T)``.
    X : array_like of shape (2, m)
    y : array_like of shape (1, m) or (m,)
    """
    from fastinit.comparison import plots

    plots.decision_boundary(model, X, y)
    plots.show()
