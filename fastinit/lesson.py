"""The data and the two random initialisation schemes of the lesson.

They make the same draws as the lesson's code. The functions of its helper module are in
:mod:`fastinit.init_utils`, and those of the lessons that follow it in :mod:`fastinit.reg_utils`,
:mod:`fastinit.gc_utils` and :mod:`fastinit.opt_utils`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.initializers.scaling import fans
from fastinit.initializers.scheme import register
from fastinit.initializers.target import Seed, Shape, Target, key_of
from fastinit.validation import check_integer


def make_circles(
    n_samples: int, noise: float, factor: float = 0.8
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Draw points on a unit circle of class 0 and a smaller concentric circle of class 1.

    The points are drawn from NumPy's global random state and have the same bits as those of
    scikit-learn's ``make_circles`` without a ``random_state`` [1]_.

    Parameters
    ----------
    n_samples : int
        Number of points, half of them on each circle; an odd point is on the inner one.
    noise : float
        Standard deviation of the Gaussian noise that is added to both coordinates; >= 0.
    factor : float, default 0.8
        Radius of the inner circle. The radius of the outer circle is 1.

    Returns
    -------
    X : ndarray of shape (n_samples, 2), float64
        The points, in random order.
    y : ndarray of shape (n_samples,), intp
        0 for the outer circle, 1 for the inner circle.

    Raises
    ------
    ValueError
        If `n_samples` or `noise` is negative.

    References
    ----------
    .. [1] https://scikit-learn.org/stable/modules/generated/sklearn.datasets.make_circles.html

    Examples
    --------
    >>> np.random.seed(1)
    >>> X, y = make_circles(300, noise=0.05)
    >>> X.shape, int(y.sum())
    ((300, 2), 150)
    """
    outer = np.linspace(0, 2 * np.pi, n_samples // 2, endpoint=False)
    inner = np.linspace(0, 2 * np.pi, n_samples - n_samples // 2, endpoint=False)
    return _noisy(
        np.append(np.cos(outer), np.cos(inner) * factor),
        np.append(np.sin(outer), np.sin(inner) * factor),
        noise,
    )


def make_moons(n_samples: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Draw points on two interleaved half circles, of class 0 and class 1.

    The points are drawn from NumPy's global random state and have the same bits as those of
    scikit-learn's ``make_moons`` without a ``random_state`` [1]_.

    Parameters
    ----------
    n_samples : int
        Number of points, half of them on each half circle; an odd point is on the lower one.
    noise : float
        Standard deviation of the Gaussian noise that is added to both coordinates; >= 0.

    Returns
    -------
    X : ndarray of shape (n_samples, 2), float64
        The points, in random order.
    y : ndarray of shape (n_samples,), intp
        0 for the upper half circle, 1 for the lower one.

    Raises
    ------
    ValueError
        If `n_samples` or `noise` is negative.

    References
    ----------
    .. [1] https://scikit-learn.org/stable/modules/generated/sklearn.datasets.make_moons.html

    Examples
    --------
    >>> np.random.seed(3)
    >>> X, y = make_moons(300, noise=0.2)
    >>> X.shape, int(y.sum())
    ((300, 2), 150)
    """
    upper = np.linspace(0, np.pi, n_samples // 2)
    lower = np.linspace(0, np.pi, n_samples - n_samples // 2)
    return _noisy(
        np.append(np.cos(upper), 1 - np.cos(lower)),
        np.append(np.sin(upper), 1 - np.sin(lower) - 0.5),
        noise,
    )


def _noisy(
    x: NDArray[np.float64], y: NDArray[np.float64], noise: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Shuffle the points, of which the first half is of class 0, and add noise."""
    n = len(x)
    classes = np.repeat(np.array([0, 1], dtype=np.intp), [n // 2, n - n // 2])
    order = np.arange(n)
    np.random.shuffle(order)
    X = np.vstack([x, y]).T[order]
    X += np.random.normal(scale=noise, size=X.shape)
    return X, classes[order]


def load_dataset() -> tuple[
    NDArray[np.float64], NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]
]:
    """Return the training and test data of the lesson: noisy points on two circles.

    Like the function of the lesson, it seeds NumPy's global random state, with 1 and then with 2.
    The lesson draws its large random weights from the state that is left after the call.

    Returns
    -------
    X : ndarray of shape (2, 300), float64
        Coordinates of the training points, one column per example.
    Y : ndarray of shape (1, 300), intp
        0 for the outer circle, 1 for the inner circle.
    X_test : ndarray of shape (2, 100), float64
        Coordinates of the test points.
    Y_test : ndarray of shape (1, 100), intp
        Labels of the test points.

    See Also
    --------
    make_circles : Draws the points.

    Examples
    --------
    >>> X, Y, X_test, Y_test = load_dataset()
    >>> X.shape, Y.shape, X_test.shape, Y_test.shape
    ((2, 300), (1, 300), (2, 100), (1, 100))
    """
    np.random.seed(1)
    X, y = make_circles(300, noise=0.05)
    np.random.seed(2)
    X_test, y_test = make_circles(100, noise=0.05)
    return (
        np.ascontiguousarray(X.T),
        y.reshape(1, -1),
        np.ascontiguousarray(X_test.T),
        y_test.reshape(1, -1),
    )


def legacy_generator(seed: Seed) -> Any:
    """Return a generator of NumPy's legacy random numbers.

    Parameters
    ----------
    seed : int, SeedSequence, Generator, RandomState or None
        None returns NumPy's global generator, and a RandomState is returned itself. An int below
        2**32 seeds as ``np.random.seed`` does. Other seeds are expanded by a SeedSequence.

    Returns
    -------
    RandomState, or the module ``numpy.random`` for its global generator

    Raises
    ------
    TypeError, ValueError
        If `seed` is none of the above.

    Examples
    --------
    >>> float(legacy_generator(3).randn())
    1.7886284734303186
    """
    if seed is None or seed is np.random:  # type: ignore[comparison-overlap]
        return np.random
    if isinstance(seed, np.random.RandomState):
        return seed
    if isinstance(seed, (int, np.integer)) and seed < 2**32:
        return np.random.RandomState(check_integer("seed", seed))
    # The legacy seeding is limited to 32 bits.
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(key_of(seed))
    return np.random.RandomState(np.random.MT19937(seed))


@register(name="lesson.random", generator_of=legacy_generator, sequential=True, default_seed=None)
def random(
    shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None
) -> Any:
    """Fill with the large random weights of the lesson, ``randn(...) * 10``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the new array. Not needed with `out`.
    seed : int, SeedSequence, Generator, RandomState or None, default None
        Seed of NumPy's legacy generator. None draws from NumPy's global random state.
    stream : int, default 0
        Ignored: the lesson draws all arrays in sequence from one generator.
    out : array, optional
        Array to fill in place.

    Returns
    -------
    ndarray
        `out`, or a new array of float64.

    Raises
    ------
    TypeError, ValueError
        If `shape`, `seed` or `out` is invalid.

    Examples
    --------
    >>> random((1, 2), seed=3)
    array([[17.88628473,  4.36509851]])
    """
    target = Target(shape, out=out)
    return target.put(legacy_generator(seed).randn(*target.shape) * 10)


@register(name="lesson.he", generator_of=legacy_generator, sequential=True, default_seed=3)
def he(shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None) -> Any:
    """Fill with the He weights of the lesson, ``randn(...) * sqrt(2 / n_in)``.

    Parameters
    ----------
    shape : tuple of int, optional
        Shape of the new array, (n_out, n_in). Not needed with `out`.
    seed : int, SeedSequence, Generator, RandomState or None, default None
        Seed of NumPy's legacy generator. None draws from NumPy's global random state. The lesson
        uses seed 3.
    stream : int, default 0
        Ignored: the lesson draws all arrays in sequence from one generator.
    out : array, optional
        Array to fill in place.

    Returns
    -------
    ndarray
        `out`, or a new array of float64.

    Raises
    ------
    TypeError, ValueError
        If `shape`, `seed` or `out` is invalid.

    Examples
    --------
    >>> he((1, 2), seed=3)
    array([[1.78862847, 0.43650985]])
    """
    target = Target(shape, out=out)
    # An array with n_in = 0 is empty, so that any divisor will do.
    std = np.sqrt(2.0 / max(fans(target.shape)[0], 1))
    return target.put(legacy_generator(seed).randn(*target.shape) * std)
