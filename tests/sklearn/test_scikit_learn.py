"""scikit-learn's own tests of its perceptrons, with the two names replaced."""

import importlib.util
import sys
from inspect import signature
from pathlib import Path

import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.6")

import fastinit.sklearn  # noqa: E402

TESTS = Path(sklearn.__file__).parent / "neural_network" / "tests" / "test_mlp.py"

pytestmark = [
    # Warnings are errors here, but not in scikit-learn's own configuration.
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not TESTS.exists(), reason="scikit-learn was installed without its tests"),
]


def load():
    """Import the tests while the names are patched."""
    spec = importlib.util.spec_from_file_location("fastinit_test_mlp", TESTS)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    fastinit.sklearn.patch()
    try:
        spec.loader.exec_module(module)
    finally:
        fastinit.sklearn.unpatch()
    return module


if TESTS.exists():
    module = load()
    theirs = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    if "sample_weight" not in signature(sklearn.neural_network.MLPClassifier.fit).parameters:
        # It calls a private method, with the arguments of that version: before 1.7, no weights.
        del theirs["test_gradient"]
    globals().update(theirs)


@pytest.fixture
def global_random_seed():
    """That of scikit-learn's own configuration."""
    return 42


def test_the_names_are_replaced():
    assert module.MLPClassifier is fastinit.sklearn.MLPClassifier
    assert module.MLPRegressor is fastinit.sklearn.MLPRegressor
    assert len(theirs) > 30
