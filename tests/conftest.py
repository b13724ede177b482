import importlib
from types import ModuleType

import numpy as np
import pytest

from fastinit import datasets, kernels

LEVELS = (*kernels.LEVELS, "reference")


def load(level: str, body: str = "dense") -> ModuleType:
    """The dense or random kernels of a level; skips with one of two reasons, never silently."""
    if level == "reference":
        return importlib.import_module("fastinit.reference")
    problem = kernels.why_not(level)
    if problem is not None:
        pytest.skip(f"{level}: {problem}")
    return importlib.import_module(f"fastinit.kernels.{body}_{level}")


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture
def dense(level):
    return load(level)


@pytest.fixture
def random(level):
    return load(level, "random")


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def circles():
    """The lesson's data, with NumPy's global random state left as it was."""
    state = np.random.get_state()
    data = datasets.load_dataset()
    np.random.set_state(state)
    return data
