"""All of scikit-learn's ``check_estimator``."""

from unittest import SkipTest

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.estimator_checks import estimator_checks_generator

from fastinit.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = {"max_iter": 100, "random_state": 0}


ESTIMATORS = [
    MLPClassifier(**SHORT),
    MLPClassifier(solver="lbfgs", **SHORT),
    MLPClassifier(solver="sgd", learning_rate="adaptive", learning_rate_init=0.05, **SHORT),
    MLPClassifier(activation="gelu", solver="adamw", initialization="he_normal", **SHORT),
    MLPClassifier(n_networks=2, n_init=2, hidden_layer_sizes=(20,), **SHORT),
    MLPRegressor(**SHORT),
    MLPRegressor(solver="lbfgs", **SHORT),
    MLPRegressor(activation="silu", initialization="glorot_uniform", **SHORT),
    MLPRegressor(n_networks=3, hidden_layer_sizes=(20,), **SHORT),
]
CHECKS = [each for estimator in ESTIMATORS for each in estimator_checks_generator(estimator)]


def name_of(value):
    return getattr(getattr(value, "func", value), "__name__", None) or str(value)


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=name_of)
def test_conventions(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.skip(str(reason))
