"""The functions of the lesson on optimisers: mini-batches, momentum and Adam.

``from fastinit.opt_utils import *`` replaces the ``opt_utils`` module of the lesson, and provides
the functions of its notebook. :func:`fastinit.train` runs the same optimisers in a single kernel:
:class:`fastinit.Adam`, and :class:`fastinit.Momentum` with a learning rate that is ``1 - beta``
times as large.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.init_utils import (
    Array,
    Parameters,
    backward_propagation,
    check_dictionary,
    entries,
    forward_propagation,
    plot_decision_boundary,
    predict,
    predict_dec,
    relu,
    sigmoid,
    take_step,
)
from fastinit.init_utils import compute_loss as compute_cost
from fastinit.init_utils import initialize_parameters_he as initialize_parameters
from fastinit.init_utils import update_parameters as update_parameters_with_gd
from fastinit.lesson import make_moons
from fastinit.validation import as_float, check_integer

__all__ = [
    "backward_propagation",
    "compute_cost",
    "forward_propagation",
    "initialize_adam",
    "initialize_parameters",
    "initialize_velocity",
    "load_dataset",
    "plot_decision_boundary",
    "predict",
    "predict_dec",
    "random_mini_batches",
    "relu",
    "sigmoid",
    "update_parameters_with_adam",
    "update_parameters_with_gd",
    "update_parameters_with_momentum",
]


def load_dataset() -> tuple[Array, NDArray[np.intp]]:
    """Return the data of the lesson: noisy points on two half circles.

    Like the function of the lesson, it calls ``np.random.seed(3)`` first, which changes NumPy's
    global random state.

    Returns
    -------
    X : ndarray of shape (2, 300), float64
        Coordinates of the points, one column per example.
    Y : ndarray of shape (1, 300), intp
        0 for the upper half circle, 1 for the lower one.

    See Also
    --------
    fastinit.lesson.make_moons : Draws the points.

    Examples
    --------
    >>> X, Y = load_dataset()
    >>> X.shape, Y.shape
    ((2, 300), (1, 300))
    """
    np.random.seed(3)
    X, y = make_moons(300, noise=0.2)
    return np.ascontiguousarray(X.T), y.reshape(1, -1)


def random_mini_batches(
    X: ArrayLike, Y: ArrayLike, mini_batch_size: int = 64, seed: int = 0
) -> list[tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """Shuffle the examples and divide them into mini-batches.

    Like the function of the lesson, it calls ``np.random.seed(seed)`` first, which changes NumPy's
    global random state.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
        Features of m examples.
    Y : array_like of shape (1, m)
        Labels of the same examples.
    mini_batch_size : int, default 64
        Number of examples in a batch, at least 1. The last batch may be smaller.
    seed : int, default 0
        Seed of the shuffle, from 0 to 2**32 - 1.

    Returns
    -------
    list of (mini_batch_X, mini_batch_Y)
        New arrays, of the dtypes of `X` and `Y`.

    Raises
    ------
    TypeError
        If `mini_batch_size` or `seed` is not an integer.
    ValueError
        If one of them is out of its range, or shapes do not match.

    Examples
    --------
    >>> batches = random_mini_batches(np.zeros((2, 148)), np.zeros((1, 148)))
    >>> [Y.shape for X, Y in batches]
    [(1, 64), (1, 64), (1, 20)]
    """
    size = check_integer("mini_batch_size", mini_batch_size, 1)
    seed = check_integer("seed", seed, 0, 2**32)
    X, Y = np.asarray(X), np.asarray(Y)
    for name, array in (("X", X), ("Y", Y)):
        if array.ndim != 2:
            raise ValueError(f"{name}: expected 2 dimensions; got shape {array.shape}")
    m = X.shape[1]
    if Y.shape[1] != m:
        raise ValueError(f"Y: expected shape (1, {m}) to match X {X.shape}; got {Y.shape}")
    np.random.seed(seed)
    order = np.random.permutation(m)
    return [(X[:, order[k : k + size]], Y[:, order[k : k + size]]) for k in range(0, m, size)]


def initialize_velocity(parameters: Mapping[str, Array]) -> Parameters:
    """Return the initial moving averages of the gradients: zeros.

    Parameters
    ----------
    parameters : dict
        Arrays of any shape.

    Returns
    -------
    dict
        For each parameter, ``d<name>``: zeros of the same shape, float64.

    Raises
    ------
    TypeError
        If `parameters` is not a dictionary.

    Examples
    --------
    >>> initialize_velocity({"b1": np.ones((1, 2))})
    {'db1': array([[0., 0.]])}
    """
    values = entries("parameters", parameters, parameters)
    return {
        f"d{name}": np.zeros(np.shape(value))
        for name, value in zip(parameters, values, strict=True)
    }


def initialize_adam(parameters: Mapping[str, Array]) -> tuple[Parameters, Parameters]:
    """Return the initial moving averages of the gradients and of their squares: zeros.

    Parameters
    ----------
    parameters : dict
        Arrays of any shape.

    Returns
    -------
    v, s : dict
        For each parameter, ``d<name>``: zeros of the same shape, float64.

    Raises
    ------
    TypeError
        If `parameters` is not a dictionary.

    Examples
    --------
    >>> v, s = initialize_adam({"b1": np.ones((1, 2))})
    >>> s
    {'db1': array([[0., 0.]])}
    """
    return initialize_velocity(parameters), initialize_velocity(parameters)


def update_parameters_with_momentum(
    parameters: Parameters,
    grads: Mapping[str, Array],
    v: Parameters,
    beta: float,
    learning_rate: float,
) -> tuple[Parameters, Parameters]:
    """Perform one step of gradient descent with momentum.

    ::

        v = beta * v + (1 - beta) * gradient
        parameter = parameter - learning_rate * v

    Parameters
    ----------
    parameters : dict
        Arrays of any shape. The dictionary is updated: each array is replaced by a new array of
        float64. If an error is raised, it is unchanged.
    grads : dict
        The gradient ``d<name>`` of each parameter, of the same shape.
    v : dict
        The moving averages of the gradients, with the same keys and shapes; updated likewise.
    beta : float
        Exponential decay rate of `v`.
    learning_rate : float
        The learning rate.

    Returns
    -------
    parameters, v : dict
        The arguments.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or an argument has the wrong type.
    ValueError
        If a key is missing, or shapes do not match.

    Examples
    --------
    >>> one, half = {"b": np.array([1.0])}, {"db": np.array([0.5])}
    >>> update_parameters_with_momentum(one, half, initialize_velocity(one), 0.5, 1.0)
    ({'b': array([0.75])}, {'db': array([0.25])})
    """
    rate, beta = as_float("learning_rate", learning_rate), as_float("beta", beta)
    check_dictionary("v", v)
    take_step(parameters, grads, v, None, rate, beta, 0.0, 0.0, 1)
    return parameters, v


def update_parameters_with_adam(
    parameters: Parameters,
    grads: Mapping[str, Array],
    v: Parameters,
    s: Parameters,
    t: int,
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Parameters, Parameters, Parameters]:
    """Perform one step of Adam [1]_.

    The formulas are those of :class:`fastinit.Adam`.

    Parameters
    ----------
    parameters : dict
        Arrays of any shape. The dictionary is updated: each array is replaced by a new array of
        float64. If an error is raised, it is unchanged.
    grads : dict
        The gradient ``d<name>`` of each parameter, of the same shape.
    v, s : dict
        The moving averages of the gradients and of their squares, with the same keys and shapes;
        updated likewise.
    t : int
        Number of the step, counted from 1.
    learning_rate : float, default 0.01
        The learning rate.
    beta1, beta2 : float, default 0.9 and 0.999
        Exponential decay rates of `v` and `s`.
    epsilon : float, default 1e-8
        Added to the denominator for numerical stability.

    Returns
    -------
    parameters, v, s : dict
        The arguments.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or an argument has the wrong type.
    ValueError
        If a key is missing, shapes do not match, or `t` is less than 1.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980.

    Examples
    --------
    >>> one, gradient = {"b": np.array([1.0])}, {"db": np.array([0.5])}
    >>> update_parameters_with_adam(one, gradient, *initialize_adam(one), 1, 0.25, epsilon=0.0)[0]
    {'b': array([0.75])}
    """
    t = check_integer("t", t, 1)
    rate, epsilon = as_float("learning_rate", learning_rate), as_float("epsilon", epsilon)
    beta1, beta2 = as_float("beta1", beta1), as_float("beta2", beta2)
    check_dictionary("v", v)  # None would mean another update
    check_dictionary("s", s)
    take_step(parameters, grads, v, s, rate, beta1, beta2, epsilon, t)
    return parameters, v, s
