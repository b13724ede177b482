"""The helper functions of the lesson on initialisation, computed by the kernels.

``from fastinit.init_utils import *`` replaces the ``init_utils`` module of the lesson. Signatures,
dictionaries, caches and numbers are the same. Where the NumPy code of the lesson warns of an
overflow or of log(0), these functions do not warn.

Numbers differ for large random weights, which amplify rounding errors: changing ``X`` by one unit
in the last place moves the cost at iteration 1000 between 0.386 and 0.418. Any two implementations
agree within about 0.01 in accuracy and 10 % in cost.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import dense
from fastinit.lesson import load_dataset
from fastinit.training import Network, Run, train
from fastinit.validation import as_doubles, as_float, check_integer, check_name, is_sequence

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
    """Return the checked number of units of each layer."""
    if not is_sequence(layers_dims):
        kind = type(layers_dims).__name__
        raise TypeError(f"layers_dims: expected a sequence of sizes; got {kind}")
    return [check_integer("layers_dims", size, 1) for size in layers_dims]


def entries(name: str, mapping: Mapping[str, Array], keys: Iterable[str]) -> list[Array]:
    """Return the values of the keys; raise ValueError if one is missing."""
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
    """Check the dictionaries and call the kernel ``step``, which updates them."""
    check_dictionary("parameters", parameters, MutableMapping)
    check_dictionary("grads", grads)
    for name, averages in (("v", v), ("s", s)):
        if averages is not None:
            check_dictionary(name, averages, MutableMapping)
    try:
        dense.step(parameters, grads, v, s, *settings)
    except KeyError as missing:
        given = {"grads": grads, "v": v or {}, "s": s or {}}
        name = next((name for name in given if missing.args[0] not in given[name]), "parameters")
        raise _missing(name, given.get(name, parameters), missing) from None


def check_dictionary(name: str, mapping: Any, kind: type[Any] = Mapping) -> None:
    """Raise TypeError if the argument is not a mapping, or not a mutable one."""
    if not isinstance(mapping, (dict, kind)):
        raise TypeError(f"{name}: expected a dictionary; got {type(mapping).__name__}")


def _missing(name: str, mapping: Mapping[str, Array], key: KeyError) -> ValueError:
    return ValueError(f"{name}: expected the key {key}; got {', '.join(map(str, mapping))}")


def unpacked(cache: Cache, n: int, function: str) -> Cache:
    """Return the cache as a tuple; raise ValueError if it does not have ``n`` arrays."""
    if not isinstance(cache, (tuple, list)) or len(cache) != n:
        raise ValueError(f"cache: expected the {n} arrays that {function} returns")
    return tuple(cache)


def sigmoid(x: ArrayLike) -> Array:
    """Return the sigmoid, ``1 / (1 + exp(-x))``, elementwise.

    Parameters
    ----------
    x : array_like of any shape
        Real numbers.

    Returns
    -------
    ndarray of the shape of x, float64
        A scalar if `x` is one.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.

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
    """Return the rectifier, ``max(x, 0)``, elementwise.

    Parameters
    ----------
    x : array_like of any shape
        Real numbers.

    Returns
    -------
    ndarray of the shape of x, float64
        A scalar if `x` is one.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return np.maximum(as_doubles("x", x), 0)


def initialize_parameters_zeros(layers_dims: Sequence[int]) -> Parameters:
    """Return parameters that are all zero.

    Parameters
    ----------
    layers_dims : sequence of int
        Number of units of each layer, from the inputs to the outputs.

    Returns
    -------
    dict
        ``{"W1": ..., "b1": ..., ...}``, float64, of shapes (n_out, n_in) and (n_out, 1).

    Raises
    ------
    TypeError
        If `layers_dims` is not a sequence of integers.
    ValueError
        If a size is less than 1.

    Examples
    --------
    >>> initialize_parameters_zeros([2, 1])
    {'W1': array([[0., 0.]]), 'b1': array([[0.]])}
    """
    return initialized(layers_dims, lambda n_in: 0.0)


def initialize_parameters_random(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * 10``, and biases of zero.

    The weights are drawn from NumPy's global random state.

    Parameters
    ----------
    layers_dims : sequence of int
        Number of units of each layer, from the inputs to the outputs.

    Returns
    -------
    dict
        ``{"W1": ..., "b1": ..., ...}``, float64, of shapes (n_out, n_in) and (n_out, 1).

    Raises
    ------
    TypeError
        If `layers_dims` is not a sequence of integers.
    ValueError
        If a size is less than 1.

    Notes
    -----
    From the random state that :func:`load_dataset` leaves, the cost of :func:`model` is 0.386 at
    iteration 1,000 and 0.208 at 14,000. Public notebooks call ``np.random.seed(3)`` before this
    function, and show costs of 0.624 and 0.383.

    Examples
    --------
    >>> np.random.seed(3)
    >>> initialize_parameters_random([2, 1])["W1"]
    array([[17.88628473,  4.36509851]])
    """
    return initialized(layers_dims, lambda n_in: 10.0)


def initialize_parameters_he(layers_dims: Sequence[int]) -> Parameters:
    """Return weights ``np.random.randn(...) * sqrt(2 / n_in)``, and biases of zero.

    Like the function of the lesson, it calls ``np.random.seed(3)`` first, which changes NumPy's
    global random state.

    Parameters
    ----------
    layers_dims : sequence of int
        Number of units of each layer, from the inputs to the outputs.

    Returns
    -------
    dict
        ``{"W1": ..., "b1": ..., ...}``, float64, of shapes (n_out, n_in) and (n_out, 1).

    Raises
    ------
    TypeError
        If `layers_dims` is not a sequence of integers.
    ValueError
        If a size is less than 1.

    Examples
    --------
    >>> initialize_parameters_he([2, 1])["W1"]
    array([[1.78862847, 0.43650985]])
    """
    np.random.seed(3)
    return initialized(layers_dims, lambda n_in: np.sqrt(2.0 / n_in))


def initialized(layers_dims: Sequence[int], std: Callable[[int], float]) -> Parameters:
    """Return normal weights with standard deviation ``std(n_in)``, and biases of zero."""
    parameters: Parameters = {}
    for layer, (n_in, n_out) in enumerate(pairwise(layer_sizes(layers_dims)), start=1):
        scale = std(n_in)
        weights = np.random.randn(n_out, n_in) * scale if scale else np.zeros((n_out, n_in))
        parameters[f"W{layer}"] = weights
        parameters[f"b{layer}"] = np.zeros((n_out, 1))
    return parameters


def forward_propagation(X: ArrayLike, parameters: Mapping[str, Array]) -> tuple[Array, Cache]:
    """Compute LINEAR -> RELU -> LINEAR -> RELU -> LINEAR -> SIGMOID.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples; converted to float64.
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``, of shapes (n_out, n_in) and (n_out, 1).

    Returns
    -------
    a3 : ndarray of shape (n_outputs, m), float64
        The output of the network; n_outputs is 1 in the lesson.
    cache : tuple
        ``(z1, a1, W1, b1, z2, a2, W2, b2, z3, a3, W3, b3)``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, or shapes do not match.

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
        ``dz3, dW3, db3, da2, dz2, dW2, db2, da1, dz1, dW1, db1``, float64.
        The mean over the examples is included in ``dz3``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the cache does not have 12 arrays, shapes do not match, or there are no examples.

    Examples
    --------
    >>> X, Y = np.ones((2, 3)), np.array([[0, 1, 1]])
    >>> _, cache = forward_propagation(X, initialize_parameters_zeros([2, 10, 5, 1]))
    >>> backward_propagation(X, Y, cache)["db3"].round(6)
    array([[-0.166667]])
    """
    _, a1, W1, _, _, a2, W2, _, _, a3, W3, _ = unpacked(cache, 12, "forward_propagation")
    arrays = dense.propagate_back(Y, (X, a1, a2, a3), (W1, W2, W3), None, 1.0, 0.0, True)
    return dict(zip(_GRADIENTS, arrays, strict=True))


def update_parameters(
    parameters: Parameters, grads: Mapping[str, Array], learning_rate: float
) -> Parameters:
    """Perform one step of gradient descent, ``W - learning_rate * dW``.

    Parameters
    ----------
    parameters : dict
        Arrays of any shape. The dictionary is updated: each array is replaced by a new array of
        float64. If an error is raised, it is unchanged.
    grads : dict
        The gradient ``d<name>`` of each parameter, of the same shape.
    learning_rate : float
        The learning rate.

    Returns
    -------
    dict
        `parameters`.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or an argument is not a dictionary.
    ValueError
        If a gradient is missing, or has another shape than its parameter.

    Examples
    --------
    >>> update_parameters({"b": np.array([1.0])}, {"db": np.array([2.0])}, 0.25)
    {'b': array([0.5])}
    """
    learning_rate = as_float("learning_rate", learning_rate)
    take_step(parameters, grads, None, None, learning_rate, 0.0, 0.0, 0.0, 1)
    return parameters


def compute_loss(a3: ArrayLike, Y: ArrayLike) -> float:
    """Return the cross-entropy cost, ``1/m * nansum(-log(a3) * Y - log(1 - a3) * (1 - Y))``.

    The cost is infinite if the sigmoid saturates at the wrong label.

    Parameters
    ----------
    a3 : array_like of shape (n_outputs, m)
        The output of the network.
    Y : array_like of shape (n_outputs, m)
        Labels, 0 or 1.

    Returns
    -------
    float64

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If shapes do not match, or there are no examples.

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
    """Train the network of the lesson, with layers of n_features, 10, 5 and 1 units.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples; n_features is 2 in the lesson.
    Y : array_like of shape (1, m)
        Labels, 0 or 1.
    learning_rate : float, default 0.01
        Learning rate of gradient descent, finite and >= 0.
    num_iterations : int, default 15000
        Number of updates, each with all examples.
    print_cost : bool, default True
        Whether to print the cost of every 1000th iteration.
    initialization : {"zeros", "random", "he"}, default "he"
        The function ``initialize_parameters_...`` that returns the initial parameters.

    Returns
    -------
    dict
        ``W1, b1, W2, b2, W3, b3``, float64. After a divergence, the last finite parameters.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `initialization` is unknown, shapes do not match, or a value is out of range.

    Examples
    --------
    >>> X, Y, X_test, Y_test = load_dataset()
    >>> parameters = model(X, Y, num_iterations=2000)  # doctest: +ELLIPSIS
    Cost after iteration 0: 0.88305374634...
    Cost after iteration 1000: 0.68798259197...
    """
    schemes = {
        "zeros": initialize_parameters_zeros,
        "random": initialize_parameters_random,
        "he": initialize_parameters_he,
    }
    initialize = schemes[check_name("initialization", initialization, schemes)]
    X = as_doubles("X", X, (None, None))
    check_integer("num_iterations", num_iterations)
    network = Network([len(X), 10, 5, 1], loss="saturating_cross_entropy")
    theta = network.pack(initialize(list(network.sizes)))
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
        callback_every=1000 if print_cost else None,
    )
    return run.parameters


def predict(X: ArrayLike, y: ArrayLike, parameters: Mapping[str, Array]) -> NDArray[np.intp]:
    """Print the accuracy, and return the predictions.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    y : array_like of shape (1, m) or (m,)
        Labels, 0 or 1.
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``.

    Returns
    -------
    ndarray of the shape of y, intp
        The predicted classes, 0 or 1.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, or shapes do not match.

    Examples
    --------
    >>> parameters = initialize_parameters_zeros([2, 10, 5, 1])
    >>> predict(np.ones((2, 4)), [[0, 0, 1, 0]], parameters)
    Accuracy: 0.75
    array([[0, 0, 0, 0]])
    """
    p = predict_dec(parameters, X).astype(np.intp)
    if p.size == 0:
        raise ValueError(f"X: expected at least one example; got shape {np.shape(X)}")
    if np.ndim(y) == 1:
        p = p[0]
    print(f"Accuracy: {np.mean(p == as_doubles('y', y, p.shape))}")
    return p


def predict_dec(parameters: Mapping[str, Array], X: ArrayLike) -> NDArray[np.bool_]:
    """Return whether each example is predicted to be of class 1, ``a3 > 0.5``.

    Parameters
    ----------
    parameters : dict
        ``W1, b1, W2, b2, W3, b3``.
    X : array_like of shape (n_features, m)
        Features of m examples.

    Returns
    -------
    ndarray of shape (1, m), bool

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `parameters` is not a dictionary.
    ValueError
        If a key is missing, or shapes do not match.

    Examples
    --------
    >>> predict_dec(initialize_parameters_zeros([2, 10, 5, 1]), np.ones((2, 3)))
    array([[False, False, False]])
    """
    a3, _ = forward_propagation(X, parameters)
    return a3 > 0.5


def plot_decision_boundary(model: Callable[[Array], Any], X: ArrayLike, y: ArrayLike) -> None:
    """Plot the decision boundary of a model and the examples. Requires Matplotlib.

    Parameters
    ----------
    model : callable
        Takes points of shape (n, 2) and returns their classes, such as
        ``lambda x: predict_dec(parameters, x.T)``.
    X : array_like of shape (2, m)
        Coordinates of the examples.
    y : array_like of shape (1, m) or (m,)
        Labels of the examples, 0, 1, ...

    Raises
    ------
    ImportError
        If Matplotlib is not installed.

    Examples
    --------
    >>> X, Y, _, _ = load_dataset()
    >>> parameters = initialize_parameters_he([2, 10, 5, 1])
    >>> plot_decision_boundary(
    ...     lambda x: predict_dec(parameters, x.T), X, Y
    ... )  # doctest: +SKIP
    """
    from fastinit.comparison import plots

    plots.decision_boundary(model, X, y)
    plots.show()
