"""The circles of the lesson."""

import numpy as np
from numpy.typing import NDArray


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
    X = np.vstack(
        [
            np.append(np.cos(outer), np.cos(inner) * factor),
            np.append(np.sin(outer), np.sin(inner) * factor),
        ]
    ).T
    y = np.repeat(np.array([0, 1], dtype=np.intp), [len(outer), len(inner)])
    order = np.arange(n_samples)
    np.random.shuffle(order)
    X, y = X[order], y[order]
    X += np.random.normal(scale=noise, size=X.shape)
    return X, y


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
