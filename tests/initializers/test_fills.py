"""What fills the tensors of a model: the standard deviations of tables, biases, whole arrays."""

import math
from functools import partial

import numpy as np
import pytest

import fastinit as fi
from fastinit.initializers.fills import (
    fill_of,
    needs_whole,
    scheme_of,
    std_of,
    takes_complex,
    takes_stacks,
)

SHAPE = (400, 500)
CASES = {
    "uniform": {"low": -1.0, "high": 3.0},
    "normal": {"mean": 2.0, "std": 0.3},
    "truncated_normal": {"mean": 1.0, "std": 0.5, "lower": -0.5, "upper": 3.0},
    "sparse": {"sparsity": 0.3, "std": 0.5},
    "he_normal": {}, "he_uniform": {}, "lecun_normal": {}, "lecun_uniform": {},
    "glorot_normal": {}, "glorot_uniform": {}, "torch_linear": {}, "keras_dense": {},
    "flax_dense": {}, "sklearn_mlp": {},
    "xavier_normal": {"gain": 2.0}, "xavier_uniform": {"gain": 0.5},
    "kaiming_normal": {"nonlinearity": "tanh", "mode": "fan_out"},
    "kaiming_uniform": {"a": 0.5},
    "variance_scaling": {"scale": 3.0, "mode": "fan_geo_avg", "distribution": "uniform"},
    "orthogonal": {"gain": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_standard_deviations_are_those_of_the_values(name):
    function = fi.initializers.get(name).fill
    values = function(SHAPE, **CASES[name], seed=0)
    std = std_of(function, CASES[name], SHAPE)
    # Five standard errors of a sample standard deviation, by the fourth moment of the sample.
    centred = values - values.mean()
    kurtosis = np.mean(centred**4) / np.mean(centred**2) ** 2
    error = math.sqrt((kurtosis - 1) / (4 * values.size))
    assert std == pytest.approx(values.std(), rel=5 * error)
    assert std_of(partial(function, **CASES[name]), {}, SHAPE) == std


@pytest.mark.parametrize(
    ("name", "shape", "keywords"),
    [
        ("identity", (7, 4), {"gain": -3.0}),
        ("dirac", (6, 2, 3), {}),
        ("dirac", (6, 4, 3, 3), {"groups": 3}),
        ("dirac", (4, 8, 5), {"groups": 2}),
        ("normal", (5, 3), {"std": 0.0}),
        ("truncated_normal", (5, 3), {"std": 0.0}),
    ],
)
def test_standard_deviations_of_values_that_are_not_drawn(name, shape, keywords):
    function = fi.initializers.get(name).fill
    values = function(shape, **keywords, seed=0)
    assert std_of(function, keywords, shape) == pytest.approx(values.std(), rel=1e-14)


def test_the_share_of_zeros_in_a_sparse_matrix_is_rounded_up():
    """Each column of 5 rows has 2 zeros."""
    assert std_of(fi.sparse, {"sparsity": 0.3, "std": 1.0}, (5, 4)) == math.sqrt(3 / 5)


@pytest.mark.parametrize(
    ("lower", "upper"), [(-2, 2), (-1, 4), (1, 3), (4, 5), (5, 7), (-7, -5), (-math.inf, 0.5)]
)
def test_standard_deviations_of_truncated_normal_distributions(lower, upper):
    stats = pytest.importorskip("scipy.stats")
    found = std_of(fi.truncated_normal, {"lower": lower, "upper": upper, "std": 3.0}, (2, 2))
    # At 7 standard deviations, the variance is the difference of numbers 1e3 times as large.
    assert found == pytest.approx(3 * stats.truncnorm.std(lower, upper), rel=1e-11)


def test_functions_of_ones_own_have_no_standard_deviation():
    assert std_of(lambda *args, **keywords: None, {}, SHAPE) is None
    assert std_of(fi.truncated_normal, {"lower": 20.0, "upper": 25.0}, SHAPE) is None


def test_biases_are_vectors():
    scheme = scheme_of("he_normal")
    assert fill_of(scheme, "in_proj_bias", (8,), None).name == "he_normal, bias"
    assert fill_of(scheme, "pos_bias", (8, 8), None).name == "he_normal"
    # A distribution has no fans: it fills vectors like all others.
    assert fill_of(scheme_of("normal"), "bias", (8,), None).function is fi.normal
    with pytest.raises(ValueError, match="rules: expected weights beside bias, because torch_lin"):
        fill_of(scheme_of("torch_linear"), "bias", (8,), None)


def test_properties_of_functions():
    for function in (fi.orthogonal, partial(partial(fi.delta_orthogonal, gain=2.0))):
        assert needs_whole(function)
    assert needs_whole(fill_of(scheme_of(lambda **keywords: None), "weight", (8, 8), None).function)
    for function in (fi.normal, partial(fi.normal, std=2.0), fi.sparse, None):
        assert not needs_whole(function)
    assert [takes_complex(each) for each in (fi.normal, fi.sparse, fi.identity)] == [
        True, False, False,
    ]  # fmt: skip
    assert [takes_stacks(each) for each in (fi.normal, fi.identity)] == [True, False]
