"""The lesson's own helper functions under the lesson's own names, on the fast kernels.

``from fastinit.init_utils import *`` stands in for the lesson's ``init_utils`` module: the same
signatures, dictionaries and caches, the same numbers. No warning escapes where the lesson's NumPy
code warned of an overflow or of log(0).

Large random weights are the exception to "the same numbers". They amplify the last bit of rounding:
changing ``X`` by one unit in the last place moves the cost at iteration 1000 between 0.386 and
0.418. Expect accuracies within 0.01 and costs within 10 % there, from any two programs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import dense
from fastinit.lesson import load_dataset
from fastinit.training import Network, Run, train
from fastinit.validation import as_doubles, as_float, check_integer, is_sequence

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
Cache = tuple[NDArray[Any], ...]

PARAMETERS = ("W1", "b1", "W2", "b2", "W3", "b3")
_GRADIENTS = ("dz3", "dW3", "db3", "da2", "dz2", "dW2", "db2", "da1", "dz1", "dW1", "db1")


def layer_sizes(layers_dims: Sequence[int]) -> list[int]:
    """Return the number of units of each layer, the inputs first."""
    if not is_sequence(layers_dims):
        kind = type(layers_dims).__name__
        raise TypeError(f"layers_dims: expected a sequence of sizes; got {kind}")
    return [check_integer("layers_dims", size, 1) for size in layers_dims]


def entries(name: str, mapping: Mapping[str, Array], keys: Iterable[str]) -> list[Array]:
    """Return the values of the keys; the error names the dictionary and the key it lacks."""
    check_dictionary(name, mapping)
    try:
        return list(map(mapping.__getitem__, keys))
    except KeyError as missing:
        raise _missing(name, mapping, missing) from None


def take_step(
    parameters: Parameters,
    grads: Mapping[str, Array],
    v: Parameters | None,
    s: Parameters | None,
    *settings: float,
) -> None:
    """Take a step as the kernel does; update the dictionaries once all arrays are computed."""
    check_dictionary("parameters", parameters)
    check_dictionary("grads", grads)
    try:
        dense.step(parameters, grads, v, s, *settings)
    except KeyError as missing:
        given = {"grads": grads, "v": v or {}, "s": s or {}}
        name = next((name for name in given if missing.args[0] not in given[name]), "parameters")
        raise _missing(name, given.get(name, parameters), missing) from None


def check_dictionary(name: str, mapping: Mapping[str, Array]) -> None:
    """Raise TypeError for what is no dictionary, nor like one."""
    if not isinstance(mapping, (dict, Mapping)):
        raise TypeError(f"{name}: expected a dictionary; got {type(mapping).__name__}")


def _missing(name: str, mapping: Mapping[str, Array], key: KeyError) -> ValueError:
    return ValueError(f"{name}: expected the key {key}; got {', '.join(map(str, mapping))}")


def unpacked(cache: Cache, n: int, function: str) -> Cache:
    """Return a cache if it has as many arrays as the function that made it puts into it."""
    if not isinstance(cache, (tuple, list)) or len(cache) != n:
        raise ValueError(f"cache: expected the {n} arrays that {function} returns")
    return tuple(cache)


def sigmoid(x: ArrayLike) -> Array:
    """Return ``1 / (1 + exp(-x))`` in float64, of any shape.

    Examples
    --------
    >>> sigmoid(np.array([0.0, np.inf]))
    array([0.5, 1. ])
    """
    array = as_doubles("x", x)
    out = np.empty(array.shape)
    dense.sigmoid(array.reshape(1, -1), out.reshape(1, -1))
    return out[()]


def relu(x: ArrayLike) -> Array:
    """Return ``max(x, 0)`` in float64, of any shape.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return np.maximum(as_doubles("x", x), 0)


def initialize_parameters_zeros(layers_dims: Sequence[int]) -> Parameters:
    """Return parameters that are all zero.

    Examples
    --------
    >>> initialize_parameters_zeros([2, 1])
    {'W1': array([[0., 0.]]), 'b1': array([[0.]])}
    """
    return initialized(layers_dims, lambda n_in: 0.0)


def initialize_parameters_random(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * 10``, from NumPy's global state; biases zero.

    Public notebooks call ``np.random.seed(3)`` first: they show a cost of 0.624 at iteration 1,000
    and 0.383 at 14,000, not 0.386 and 0.208 from the state that :func:`load_dataset` leaves.
    """
    return initialized(layers_dims, lambda n_in: 10.0)


def initialize_parameters_he(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * sqrt(2 / n_in)`` after ``np.random.seed(3)``.

    Biases are zero. Like the lesson's own function, this reseeds NumPy's global random state.

    Examples
    --------
    >>> initialize_parameters_he([2, 1])["W1"]
    array([[1.78862847, 0.43650985]])
    """
    np.random.seed(3)
    return initialized(layers_dims, lambda n_in: np.sqrt(2.0 / n_in))


def initialized(layers_dims: Sequence[int], std: Callable[[int], float]) -> Parameters:
    """Return normal weights of the standard deviation that ``std`` returns, and zero biases."""
    parameters: Parameters = {}
    for layer, (n_in, n_out) in enumerate(pairwise(layer_sizes(layers_dims)), start=1):
        scale = std(n_in)
        weights = np.random.randn(n_out, n_in) * scale if scale else np.zeros((n_out, n_in))
        parameters[f"W{layer}"] = weights
        parameters[f"b{layer}"] = np.zeros((n_out, 1))
    return parameters


def forward_propagation(X: ArrayLike, parameters: Mapping[str, Array]) -> tuple[Array, Cache]:
    """Run LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, of shapes (n_out, n_in) and (n_out, 1).

    Returns
    -------
    a3 : ndarray of shape (1, m), float64
    cache : tuple
        ``(z1, a1, W1, b1, z2, a2, W2, b2, z3, a3, W3, b3)``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or ``parameters`` is no dictionary.
    ValueError
        If a key is missing, or shapes do not fit.

    Examples
    --------
    >>> parameters = initialize_parameters_zeros([2, 10, 5, 1])
    >>> forward_propagation(np.ones((2, 3)), parameters)[0]
    array([[0.5, 0.5, 0.5]])
    """
    W1, b1, W2, b2, W3, b3 = values = entries("parameters", parameters, PARAMETERS)
    z1, a1, z2, a2, z3, a3 = dense.propagate(X, values, None, 1.0)
    return a3, (z1, a1, W1, b1, z2, a2, W2, b2, z3, a3, W3, b3)


def backward_propagation(X: ArrayLike, Y: ArrayLike, cache: Cache) -> Parameters:
    """Return the gradients of all steps: ``dz3, dW3, db3, da2, dz2, ... dW1, db1``.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
    Y : array_like of shape (1, m), each 0 or 1
    cache : tuple
        As :func:`forward_propagation` returns it.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the cache is not one of 12 arrays, shapes do not fit, or there are no examples.
    """
    _, a1, W1, _, _, a2, W2, _, _, a3, W3, _ = unpacked(cache, 12, "forward_propagation")
    arrays = dense.propagate_back(Y, (X, a1, a2, a3), (W1, W2, W3), None, 1.0, 0.0, True)
    return dict(zip(_GRADIENTS, arrays, strict=True))


def update_parameters(
    parameters: Parameters, grads: Mapping[str, Array], learning_rate: float
) -> Parameters:
    """Take one step of gradient descent; update the dictionary and return it, as in the lesson.

    Parameters
    ----------
    parameters : dict
        Of arrays of any shape. Each is replaced by a new array of float64, once all are computed.
    grads : dict
        Has a gradient ``d<name>`` of the same shape for each parameter.
    learning_rate : float

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or an argument is no dictionary.
    ValueError
        If a gradient is missing, or its shape is not that of its parameter.

    Examples
    --------
    >>> update_parameters({"b": np.array([1.0])}, {"db": np.array([2.0])}, 0.25)
    {'b': array([0.5])}
    """
    learning_rate = as_float("learning_rate", learning_rate)
    take_step(parameters, grads, None, None, learning_rate, 0.0, 0.0, 0.0, 1)
    return parameters


def compute_loss(a3: ArrayLike, Y: ArrayLike) -> float:
    """Return ``1/m * nansum(-log(a3) * Y - log(1 - a3) * (1 - Y))``.

    Infinite where the sigmoid saturated on the wrong side.

    Parameters
    ----------
    a3 : array_like of shape (1, m)
    Y : array_like of shape (1, m), each 0 or 1

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If shapes do not fit, or there are no examples.

    Examples
    --------
    >>> float(compute_loss([[0.5, 0.5]], [[0, 1]]))
    0.6931471805599453
    """
    return np.float64(dense.cross_entropy(a3, Y))


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
    y = as_doubles("y", y, p.shape)
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
