"""All of scikit-learn's ``check_estimator``."""

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastinit.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = {"max_iter": 100, "random_state": 0}


@parametrize_with_checks(
    [
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
)
def test_conventions(estimator, check):
    check(estimator)
