"""Fans as the library of each name counts them: standard deviations against these libraries."""

import math

import numpy as np
import pytest

import fastinit as fi

# Enough draws for a standard error of the standard deviation below a quarter of the tolerance.
TOLERANCE, DRAWS = 0.01, 80_000
TORCH = [(100, 300), (64, 3, 7), (64, 3, 7, 7), (16, 8, 3, 3, 3), (64, 32, 3, 3)]
INPUTS_FIRST = [(2000, 100), (3, 64, 32), (3, 3, 16, 32), (3, 3, 3, 8, 16)]


def deviation(fill, shape):
    """Return the root mean square of some tensors of this shape, which have DRAWS elements."""
    n = -(-DRAWS // math.prod(shape))
    squares = [np.square(fill(seed)).mean(dtype=np.float64) for seed in range(n)]
    return math.sqrt(np.mean(squares))


@pytest.mark.parametrize("shape", TORCH, ids=str)
@pytest.mark.parametrize(
    ("ours", "name", "keywords"),
    [
        (fi.xavier_normal, "xavier_normal_", {}),
        (fi.xavier_uniform, "xavier_uniform_", {"gain": 2.0}),
        (fi.kaiming_normal, "kaiming_normal_", {"mode": "fan_in", "nonlinearity": "relu"}),
        (fi.kaiming_normal, "kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
        (fi.kaiming_uniform, "kaiming_uniform_", {"a": 0.5, "nonlinearity": "leaky_relu"}),
    ],
)
def test_torchs_names_count_as_torch(shape, ours, name, keywords):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.init, name)

    def fill(seed):
        generator = torch.Generator().manual_seed(seed)
        return theirs(torch.empty(shape), generator=generator, **keywords).numpy()

    found = deviation(lambda seed: ours(shape, seed=seed, **keywords), shape)
    assert found == pytest.approx(deviation(fill, shape), rel=TOLERANCE)


@pytest.mark.parametrize("shape", INPUTS_FIRST, ids=str)
def test_flaxs_and_kerass_names_count_inputs_first(shape):
    """Both call the same variance scaling: JAX's is the oracle."""
    jax = pytest.importorskip("jax")
    for ours, theirs in (
        (fi.flax_dense, jax.nn.initializers.lecun_normal()),
        (fi.keras_dense, jax.nn.initializers.glorot_uniform()),
    ):
        found = deviation(lambda seed, ours=ours: ours(shape, seed=seed), shape)
        expected = deviation(
            lambda seed, theirs=theirs: np.asarray(theirs(jax.random.key(seed), shape)), shape
        )
        assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((512, 8, 64), {"in_axis": 0, "out_axis": (1, 2)}),
        ((512, 8, 64), {"in_axis": (0, 1), "out_axis": -1}),
        ((8, 256, 1024), {"in_axis": 1, "out_axis": 2, "batch_axis": 0}),
        ((2, 3, 8, 32, 4), {"in_axis": (0, 2), "out_axis": (3,), "batch_axis": (4,)}),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_any_layout_counts_as_jax(shape, axes, mode):
    jax = pytest.importorskip("jax")
    theirs = jax.nn.initializers.variance_scaling(2.0, mode, "uniform", **axes)
    found = deviation(
        lambda seed: fi.variance_scaling(shape, 2.0, mode, "uniform", seed=seed, **axes), shape
    )
    expected = deviation(lambda seed: np.asarray(theirs(jax.random.key(seed), shape)), shape)
    assert found == pytest.approx(expected, rel=TOLERANCE)
