"""The lesson: its data, and its two random schemes, draw for draw.

The functions of its notebook, under their own names, are in :mod:`fastinit.init_utils`, and those
of the lessons that follow it in ``reg_utils``, ``gc_utils`` and ``opt_utils``.
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
    """Draw a large circle of class 0 around a smaller one of class 1, from NumPy's global state.

    The same draws in the same order as scikit-learn's ``make_circles`` without a ``random_state``,
    and so the same bits.

    Parameters
    ----------
    n_samples : int
        How many points, half of them on each circle.
    noise : float
        Standard deviation of the normal noise on both coordinates.
    factor : float, default 0.8
        The inner circle's radius, in units of the outer one's.

    Returns
    -------
    X : ndarray of shape (n_samples, 2), float64
    y : ndarray of shape (n_samples,), intp
        0 for the outer circle, 1 for the inner one.

    References
    ----------
    https://scikit-learn.org/stable/modules/generated/sklearn.datasets.make_circles.html

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
    """Draw two interleaved half circles, of class 0 and 1, from NumPy's global state.

    The same bits as scikit-learn's ``make_moons`` without a ``random_state``.

    Parameters
    ----------
    n_samples : int
        How many points, half of them on each half circle.
    noise : float
        Standard deviation of the normal noise on both coordinates.

    Returns
    -------
    X : ndarray of shape (n_samples, 2), float64
    y : ndarray of shape (n_samples,), intp
        0 for the upper half circle, 1 for the lower one.

    References
    ----------
    https://scikit-learn.org/stable/modules/generated/sklearn.datasets.make_moons.html

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
    """Return points in random order, with noise; the first half of them is of class 0."""
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
    """Return the lesson's training and test data, examples along the second axis.

    Like the lesson's own function, this seeds NumPy's *global* random state, with 1 and then 2,
    and leaves it where the last draw did: the lesson's large random weights start from there.

    Returns
    -------
    X : ndarray of shape (2, 300), float64
    Y : ndarray of shape (1, 300), intp
    X_test : ndarray of shape (2, 100), float64
    Y_test : ndarray of shape (1, 100), intp

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
    """Return NumPy's legacy generator of a seed; its global one for None.

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
    # NumPy's legacy seeding takes no larger integers: other 64-bit seeds go through SeedSequence.
    if not isinstance(seed, np.random.SeedSequence):
        seed = np.random.SeedSequence(key_of(seed))
    return np.random.RandomState(np.random.MT19937(seed))


@register(name="lesson.random", generator_of=legacy_generator, sequential=True, default_seed=None)
def random(
    shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None
) -> Any:
    """Fill with the lesson's large random weights, ``randn(...) * 10``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        That of ``out`` by default.
    seed : int, SeedSequence, Generator, RandomState or None
        Seeds NumPy's legacy generator. None draws from NumPy's global random state.
    stream : int, default 0
        Not used: the lesson draws all tensors one after another from one generator.
    out : array, optional
        Filled in place and returned.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> random((1, 2), seed=3)
    array([[17.88628473,  4.36509851]])
    """
    target = Target(shape, out=out)
    return target.put(legacy_generator(seed).randn(*target.shape) * 10)


@register(name="lesson.he", generator_of=legacy_generator, sequential=True, default_seed=3)
def he(shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None) -> Any:
    """Fill with the lesson's He weights, ``randn(...) * sqrt(2 / n_in)``.

    Parameters
    ----------
    shape : tuple of int, optional
        (n_out, n_in); that of ``out`` by default.
    seed, stream, out
        As for :func:`random`. The lesson's own function sets the seed 3.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> he((1, 2), seed=3)
    array([[1.78862847, 0.43650985]])
    """
    target = Target(shape, out=out)
    # Without inputs there is nothing to draw.
    std = np.sqrt(2.0 / max(fans(target.shape)[0], 1))
    return target.put(legacy_generator(seed).randn(*target.shape) * std)
