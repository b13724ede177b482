"""scikit-learn's multi-layer perceptrons with the kernels of fastinit.

:class:`MLPClassifier` and :class:`MLPRegressor` have the parameters, attributes and methods of
scikit-learn's, give the same numbers, and can also choose the initialisation, train ensembles and
weigh classes. :func:`patch` puts them in place of scikit-learn's.
"""

from fastinit.sklearn.estimators import MLPClassifier, MLPRegressor
from fastinit.sklearn.patching import patch, unpatch
from fastinit.sklearn.search import cross_validate_stack

__all__ = ["MLPClassifier", "MLPRegressor", "cross_validate_stack", "patch", "unpatch"]
