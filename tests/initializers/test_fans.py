"""Fans as the library of each name counts them, against these libraries.

An initialiser's values are those of the standard distribution with the same seed, times a factor
that depends on the fans. The factor is known to a few roundings, and so are the fans.
"""

import math

import numpy as np
import pytest

import fastinit as fi
from fastinit.initializers import fans

TORCH = [(100, 300), (64, 3, 7), (64, 3, 7, 7), (16, 8, 3, 3, 3), (64, 32, 3, 3)]
INPUTS_FIRST = [(200, 100), (3, 64, 32), (3, 3, 16, 32), (3, 3, 3, 8, 16)]
# Shape, axes, and what they count: kernels of attention, and of a mixture of experts.
LAYOUTS = [
    ((512, 8, 64), {"in_axis": 0, "out_axis": (1, 2)}, (512, 512)),
    ((8, 64, 512), {"in_axis": (0, 1), "out_axis": -1}, (512, 512)),
    ((512, 8, 64), {"in_axis": (0, 1), "out_axis": -1}, (4096, 64)),
    ((8, 256, 1024), {"in_axis": 1, "out_axis": 2, "batch_axis": 0}, (256, 1024)),
    ((8, 1024, 256), {"in_axis": -1, "out_axis": -2, "batch_axis": (-3,)}, (256, 1024)),
    ((2, 3, 8, 32, 4), {"in_axis": (0, 2), "out_axis": (3,), "batch_axis": (4,)}, (48, 96)),
]
# Both factors are computed in a few operations, and the libraries scale in float32 or, PyTorch,
# in float64; each value is rounded once more.
TOLERANCE = 8 * float(np.finfo(np.float32).eps)


def factor(scaled, standard):
    """Return the factor between two arrays, by their largest values."""
    largest = np.argmax(np.abs(standard))
    return float(scaled.ravel()[largest]) / float(standard.ravel()[largest])


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

    def fill(function, *arguments, **keywords):
        out = torch.empty(shape, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        return function(out, *arguments, generator=generator, **keywords).numpy()

    if name.endswith("normal_"):
        expected = factor(
            fill(getattr(torch.nn.init, name), **keywords), fill(torch.nn.init.normal_)
        )
        found = factor(ours(shape, seed=0, **keywords), fi.normal(shape, seed=0))
    else:
        expected = factor(
            fill(getattr(torch.nn.init, name), **keywords), fill(torch.nn.init.uniform_, -1, 1)
        )
        found = factor(ours(shape, seed=0, **keywords), fi.uniform(shape, -1, 1, seed=0))
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("shape", TORCH, ids=str)
def test_he_glorot_and_lecun_count_as_torch(shape):
    """JAX's functions of these names truncate; their fans, of the same axes, are the oracle."""
    jax = pytest.importorskip("jax")
    key = jax.random.key(0)
    standard = np.asarray(jax.random.uniform(key, shape, minval=-1))
    for ours, make in (
        (fi.he_uniform, jax.nn.initializers.he_uniform),
        (fi.glorot_uniform, jax.nn.initializers.glorot_uniform),
        (fi.lecun_uniform, jax.nn.initializers.lecun_uniform),
    ):
        expected = factor(np.asarray(make(in_axis=1, out_axis=0)(key, shape)), standard)
        found = factor(ours(shape, seed=0), fi.uniform(shape, -1, 1, seed=0))
        assert found == pytest.approx(expected, rel=TOLERANCE)
        turned = shape[2:] + shape[1::-1]
        expected = factor(
            np.asarray(make()(key, turned)),
            np.asarray(jax.random.uniform(key, turned, minval=-1)),
        )
        found = factor(
            ours(turned, in_axis=-2, out_axis=-1, seed=0), fi.uniform(turned, -1, 1, seed=0)
        )
        assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("shape", INPUTS_FIRST, ids=str)
def test_flaxs_and_kerass_names_count_inputs_first(shape):
    """The defaults of their layers are JAX's lecun_normal and glorot_uniform."""
    jax = pytest.importorskip("jax")
    key = jax.random.key(0)
    expected = factor(
        np.asarray(jax.nn.initializers.lecun_normal()(key, shape)),
        np.asarray(jax.random.truncated_normal(key, -2, 2, shape)),
    )
    found = factor(fi.flax_dense(shape, seed=0), fi.truncated_normal(shape, seed=0))
    assert found == pytest.approx(expected, rel=TOLERANCE)
    expected = factor(
        np.asarray(jax.nn.initializers.glorot_uniform()(key, shape)),
        np.asarray(jax.random.uniform(key, shape, minval=-1)),
    )
    found = factor(fi.keras_dense(shape, seed=0), fi.uniform(shape, -1, 1, seed=0))
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(("shape", "axes", "counted"), LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_any_layout_counts_as_jax(shape, axes, counted, mode):
    jax = pytest.importorskip("jax")
    key = jax.random.key(0)
    expected = factor(
        np.asarray(jax.nn.initializers.variance_scaling(2.0, mode, "uniform", **axes)(key, shape)),
        np.asarray(jax.random.uniform(key, shape, minval=-1)),
    )
    fan = {"fan_in": counted[0], "fan_out": counted[1], "fan_avg": sum(counted) / 2}[mode]
    assert math.sqrt(6 / fan) == pytest.approx(expected, rel=TOLERANCE)
    window = (slice(0, 1),)
    found = factor(
        fi.variance_scaling(shape, 2.0, mode, "uniform", seed=0, window=window, **axes),
        fi.uniform(shape, -1, 1, seed=0, window=window),
    )
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(("shape", "axes", "counted"), LAYOUTS, ids=str)
def test_fans(shape, axes, counted):
    assert fans(shape, **axes) == counted
    assert fans(list(shape), **{name: np.atleast_1d(axis) for name, axis in axes.items()}) == (
        counted
    )


def test_fans_of_torch():
    torch = pytest.importorskip("torch")
    for shape in (*TORCH, (0, 3), (3, 0), (4, 3, 0)):
        expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert fans(shape) == expected
        assert all(type(fan) is float for fan in fans(shape))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5,), ValueError, r"shape: expected at least 2 axes, for inputs and outputs; got \(5,\)"),
        (((5,),), ValueError, r"shape: expected at least 2 axes"),
        (((3, -4),), ValueError, r"shape: expected lengths >= 0; got \(3, -4\)"),
        (((3, 4.0),), TypeError, r"shape: expected integers; got \(3, 4.0\)"),
        (((3, True),), TypeError, r"shape: expected integers; got \(3, True\)"),
        (("34",), TypeError, "shape: expected integers; got '34'"),
        ((None,), TypeError, "shape: expected integers; got None"),
        (((3, 4), 2), ValueError, "in_axis: expected an integer from -2 to 1; got 2"),
        (((3, 4), 1, -3), ValueError, "out_axis: expected an integer from -2 to 1; got -3"),
        (((3, 4), 1, 0, 2), ValueError, "batch_axis: expected an integer from -2 to 1; got 2"),
        (((3, 4), 1.0), TypeError, "in_axis: expected an integer; got float"),
        (((3, 4), True, 0), TypeError, "in_axis: expected an integer; got bool"),
        (((3, 4), 1, "0"), TypeError, "out_axis: expected an integer; got str"),
        (((3, 4), 1, None), TypeError, "out_axis: expected an integer; got NoneType"),
        (((3, 4, 5), [0, 1.0], 2), TypeError, "in_axis: expected an integer; got float"),
        (((3, 4), ()), ValueError, "in_axis: expected at least one axis; got none"),
        (((3, 4), 1, -1), ValueError, r"batch_axis: expected each axis of shape \(3, 4\) at most"),
        (((3, 4, 5), (0, 0), 1), ValueError, r"at most once; got in_axis=\(0, 0\), out_axis=1"),
        (((3, 4, 5), 1, 0, 0), ValueError, "at most once; got in_axis=1, out_axis=0, batch_axis=0"),
    ],
    ids=str,
)
def test_fans_are_refused(arguments, error, message):
    # What was found for equal arguments of other types does not count.
    fans((3, 4))
    fans((3, 1))
    with pytest.raises(error, match=message):
        fans(*arguments)
