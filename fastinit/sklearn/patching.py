"""Put the estimators in place of scikit-learn's, for programs that are not to be changed."""

from typing import Any

import sklearn.neural_network

from fastinit.sklearn.estimators import MLPClassifier, MLPRegressor

_OURS: dict[str, Any] = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}
_THEIRS: dict[str, Any] = {name: ours._theirs for name, ours in _OURS.items()}


def patch() -> None:
    """Put the estimators of fastinit in place of those of ``sklearn.neural_network``.

    Call it before the names are imported: names that another module has imported already are not
    replaced. Objects that were pickled before load as what they were.

    Examples
    --------
    >>> import fastinit.sklearn
    >>> fastinit.sklearn.patch()
    >>> from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier is fastinit.sklearn.MLPClassifier
    True
    >>> fastinit.sklearn.unpatch()
    """
    for name, ours in _OURS.items():
        setattr(sklearn.neural_network, name, ours)


def unpatch() -> None:
    """Undo :func:`patch`."""
    for name, theirs in _THEIRS.items():
        setattr(sklearn.neural_network, name, theirs)
