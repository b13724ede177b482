"""The registry of schemes, their biases and keywords, and schemes of whole networks."""

import inspect
import math
import re
from functools import partial
from typing import Unpack

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from schemes import OURS, SHAPES

import fastinit as fi
from fastinit import initializers
from fastinit.initializers import scheme as schemes
from fastinit.initializers.target import Common

stats = pytest.importorskip("scipy.stats")


def test_streams_of_a_network():
    """W1, b1, W2, b2, ... have the streams 0, 1, 2, 3, ..."""
    net = fi.Network([3, 4, 2])
    theta = net.unpack(net.initialize("torch_linear", seed=7))
    limits = {"W1": 3, "b1": 3, "W2": 4, "b2": 4}
    for stream, (name, fan_in) in enumerate(limits.items()):
        limit = 1 / math.sqrt(fan_in)
        expected = fi.uniform(theta[name].shape, -limit, limit, seed=7, stream=stream)
        # The limits, sqrt(3) * sqrt(1 / 3 / fan_in) and 1 / sqrt(fan_in), agree to two roundings.
        assert_allclose(theta[name], expected, rtol=0, atol=4 * np.spacing(limit))


def test_bias_of_presets():
    net = fi.Network([30, 500, 1])
    for name, limit in (("torch_linear", 30**-0.5), ("sklearn_mlp", math.sqrt(6 / 530))):
        bias = net.unpack(net.initialize(name, seed=0))["b1"]
        found = stats.kstest(bias.ravel(), stats.uniform(-limit, 2 * limit).cdf)
        assert found.pvalue > 1e-4
    for name in ("keras_dense", "flax_dense", "he_normal"):
        assert not net.unpack(net.initialize(name, seed=0))["b1"].any()


def test_schemes_per_layer():
    net = fi.Network([3, 4, 2])
    schemes = ["lesson.he", partial(fi.orthogonal, gain=2.0)]
    theta = net.unpack(net.initialize(schemes, seed=3))
    assert_array_equal(theta["W1"], fi.lesson.he((4, 3), seed=3))
    assert_allclose(theta["W2"], fi.orthogonal((2, 4), 2.0, seed=3, stream=2))
    # A generator advances by one draw, whatever the number of layers.
    generator = np.random.default_rng(0)
    key = np.random.default_rng(0).integers(2**64, dtype=np.uint64)
    assert_array_equal(
        net.initialize("normal", seed=generator), net.initialize("normal", seed=int(key))
    )


def test_schemes_of_a_network_are_checked():
    net = fi.Network([3, 4, 2])
    with pytest.raises(ValueError, match="scheme: expected one for each of 2 layers; got 3"):
        net.initialize(["zeros"] * 3)
    with pytest.raises(TypeError, match="scheme: expected a name, a scheme or a callable; got 3"):
        net.initialize(["zeros", 3])
    with pytest.raises(TypeError, match="scheme: expected a name, a scheme or a callable; got 3"):
        net.initialize(3)


def test_partial_of_a_scheme_keeps_its_biases():
    net = fi.Network([3, 4, 2])
    scheme = partial(fi.torch_linear, dtype="float64")
    assert_array_equal(net.initialize(scheme, seed=0), net.initialize("torch_linear", seed=0))
    assert net.unpack(net.initialize(scheme, seed=0))["b1"].any()


def test_complex_dtypes_where_they_are_documented():
    """What help() says of dtype is true."""
    for name in OURS:
        scheme = initializers.get(name)
        with_complex = "complex64, complex128" in scheme.fill.__doc__
        for dtype in ("complex64", "complex128"):
            if with_complex:
                assert scheme(SHAPES[name], seed=0, dtype=dtype).dtype == dtype
                continue
            expected = "expected float64, float32, float16 or bfloat16; got " + dtype
            with pytest.raises(TypeError, match=f"dtype: {expected}"):
                scheme(SHAPES[name], seed=0, dtype=dtype)
            out = np.full(SHAPES[name], 7, dtype)
            with pytest.raises(TypeError, match="out: expected dtype float64"):
                scheme(out=out, seed=0)
            assert (out == 7).all()


def test_partial_with_positional_arguments():
    """It keeps the biases of its scheme, and which axis holds the inputs."""
    net = fi.Network([3, 4, 2])
    scheme = partial(fi.torch_linear, None)
    assert_array_equal(net.initialize(scheme, seed=0), net.initialize("torch_linear", seed=0))
    scheme = initializers.get(partial(fi.keras_dense, None, dtype="float64"))
    assert (scheme.name, scheme.inputs_first) == ("keras_dense", True)
    theta = net.unpack(net.initialize(partial(fi.orthogonal, None, 2.0), seed=3))
    assert_allclose(theta["W1"], fi.orthogonal((4, 3), 2.0, seed=3))
    nested = partial(partial(fi.torch_linear, None), batch_axis=())
    assert_array_equal(net.initialize(nested, seed=0), net.initialize("torch_linear", seed=0))
    own = initializers.get(partial(np.copyto, casting="no"))
    assert (own.name, own.fill_bias) == ("copyto", None)


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry, so that the original stays as it is."""
    monkeypatch.setattr(schemes, "_SCHEMES", dict(schemes._SCHEMES))


def test_register(registry):
    @initializers.register
    def halves(shape=None, **keywords: Unpack[Common]):
        """Fill with halves.

        Parameters
        ----------
        **keywords
            Those of every initialiser.
        """
        return fi.constant(shape, 0.5, **keywords)

    assert initializers.get("halves").fill is halves
    assert_array_equal(fi.Network([2, 1]).initialize("halves"), [0.5, 0.5, 0.0])
    assert list(inspect.signature(halves).parameters) == [
        "shape", "seed", "stream", "dtype", "out", "window", "threads",
    ]  # fmt: skip
    assert "window : slice" in halves.__doc__

    def own(shape=None, *, out, **keywords: dict[str, int]):
        """Fill."""

    assert initializers.register(name="own")(own) is own
    assert list(inspect.signature(own).parameters) == ["shape", "out", "keywords"]
    before = initializers.get("he_normal")
    for name in ("halves", "he_normal", "lesson.he"):
        with pytest.raises(ValueError, match=f"name: expected one that .*; got '{name}'"):
            initializers.register(name=name)(halves)
    assert initializers.get("he_normal") is before


@pytest.mark.parametrize("stripped", [False, True])
def test_keywords_are_described(registry, stripped):
    """From Python 3.13 on, docstrings have no common indentation."""

    def example(shape=None, *, in_axis=-2, out_axis=-1, **keywords: Unpack[Common]):
        """Fill.

        Parameters
        ----------
        **keywords
            Those of every initialiser.

        Returns
        -------
        ndarray
        """

    if stripped:
        example.__doc__ = inspect.cleandoc(example.__doc__)
    initializers.register(example)
    assert "keywords" not in example.__doc__
    found = inspect.cleandoc(example.__doc__).splitlines()
    assert found[:2] == ["Fill.", ""]
    assert "in_axis, out_axis : int, default -2 and -1" in found
    assert "    (*field, n_in, n_out), as in Keras and JAX. For PyTorch" in example.__doc__
    assert "dtype : {float64, float32, float16, bfloat16}, optional" in found
    assert found[-3:] == ["Returns", "-------", "ndarray"]


@pytest.mark.parametrize("name", OURS)
def test_help_is_complete(name):
    fill = initializers.get(name).fill
    signature = inspect.signature(fill)
    described = re.findall(r"^(\w[\w, ]*) : ", inspect.cleandoc(fill.__doc__), re.MULTILINE)
    assert ", ".join(described).split(", ") == list(signature.parameters)
    for parameter in signature.parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD
    assert max(map(len, fill.__doc__.splitlines())) <= 100
    text = " ".join(fill.__doc__.split())
    axes = [signature.parameters[key].default for key in ("in_axis", "out_axis")
            if key in signature.parameters]  # fmt: skip
    assert axes in ([], [1, 0], [-2, -1])
    if axes == [1, 0]:
        assert "pass ``in_axis=-2, out_axis=-1``" in text
    if axes == [-2, -1]:
        assert "pass ``in_axis=1, out_axis=0``" in text


def test_types(tmp_path):
    """Type checkers know what is returned: ``out`` itself, or an ndarray."""
    api = pytest.importorskip("mypy.api")
    ndarray = r"numpy.ndarray\[.*\]"
    expected = {
        "fi.he_normal((3, 4), seed=0)": ndarray,
        "fi.keras_dense((3, 4), in_axis=0, out_axis=1, out=None)": ndarray,
        "fi.orthogonal((3, 4), 2.0, out=buffer)": r"array.array\[float\]",
        "fi.torch_linear(out=buffer)": r"array.array\[float\]",
    }
    script = tmp_path / "script.py"
    lines = ["import array, fastinit as fi", "buffer = array.array('d', [0.0] * 12)"]
    script.write_text("\n".join([*lines, *(f"reveal_type({call})" for call in expected)]))
    found, errors, _ = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(script)])
    assert not errors
    revealed = re.findall(r'Revealed type is "(.*)"', found)
    assert len(revealed) == len(expected), found
    for one, pattern in zip(revealed, expected.values(), strict=True):
        assert re.fullmatch(pattern, one)


def test_register_refuses(registry):
    """Nothing is added then."""
    before = initializers.names()
    for function, keywords, error, message in (
        (3, {}, TypeError, "function: expected a callable; got int"),
        (fi.normal, {"name": 3}, TypeError, "name: expected a string; got int"),
        (partial(fi.normal, std=0.1), {}, TypeError, "name: expected a string; got NoneType"),
        (fi.normal, {"name": "zeros"}, ValueError, "name: expected one that is not registered ye"),
    ):
        with pytest.raises(error, match=message):
            initializers.register(**keywords)(function)
    assert initializers.names() == before
    initializers.register(name="narrow")(partial(fi.normal, std=0.1))
    theta = fi.Network([3, 2]).initialize("narrow", seed=0)
    assert 0 < np.abs(theta[:6]).max() < 1


def test_a_name_with_settings_is_refused():
    message = (
        r"functools.partial\(fastinit.normal, ...\) with the settings; got 'normal\(std=0.1\)'"
    )
    with pytest.raises(ValueError, match=message):
        fi.Network([3, 2]).initialize("normal(std=0.1)")


def test_unknown_keywords_are_named():
    with pytest.raises(TypeError, match="sed: expected a keyword of the initialiser; got an unkno"):
        fi.he_normal((2, 2), sed=0)
