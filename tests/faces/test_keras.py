"""The initialisers of Keras: Keras's own tests of them, and what fastinit adds.

Run with one backend, that of ``KERAS_BACKEND``; with JAX the file runs the others as well. Of
Keras's tests these do not apply: the look-up ``initializers.get`` of strings and tensors and the
base class, which stay Keras's; ``compute_fans``, a private function, whose cases are tested through
``VarianceScaling``; ``Zeros``, ``Ones``, ``Constant``, ``Identity`` and ``STFT``, which are Keras's
own classes.
"""

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
stats = pytest.importorskip("scipy.stats")

import fastinit as fi  # noqa: E402
from fastinit import keras as fk  # noqa: E402

BACKEND = keras.backend.backend()
OTHER_BACKENDS = ("numpy", "torch")
DTYPES = ("float32", "float64", "float16", "bfloat16")
CLASSES = {
    name: getattr(fk, name)
    for name in fk.__all__
    if name != "custom_objects" and getattr(fk, name).__module__ == "fastinit.keras"
}
SCALED = [name for name, each in CLASSES.items() if issubclass(each, fk.VarianceScaling)]
every = pytest.mark.parametrize("name", CLASSES)


@pytest.fixture(autouse=True)
def seeded():
    """The global state that Keras draws seeds from; the states of NumPy and Python are restored."""
    state = np.random.get_state()
    keras.utils.set_random_seed(1337)
    yield
    np.random.set_state(state)


@pytest.fixture
def wide():
    """Float64 arrays in JAX."""
    if BACKEND != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def same(first, second):
    """Whether two tensors have the same dtype and bits."""
    first, second = numpy(first), numpy(second)
    return first.dtype == second.dtype and first.tobytes() == second.tobytes()


def layers_of(*initializers, units=3):
    return keras.Sequential(
        [
            keras.Input((4,)),
            *(keras.layers.Dense(units, kernel_initializer=i) for i in initializers),
        ]
    )


# --- Keras's own tests ----------------------------------------------------------------------------


def check_serialization(initializer):
    """Through its configuration, and through JSON, with the same attributes."""
    config = initializer.get_config()
    serialized = keras.saving.serialize_keras_object(initializer)
    for revived in (
        type(initializer).from_config(config),
        keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized))),
        keras.initializers.deserialize(keras.initializers.serialize(initializer)),
        initializer.clone(),
    ):
        assert type(revived) is type(initializer)
        assert json.dumps(revived.get_config()) == json.dumps(config)
        assert set(vars(revived)) == set(vars(initializer))


def test_random_normal():
    initializer = fk.RandomNormal(mean=0.0, stddev=1.0, seed=1234)
    assert (initializer.mean, initializer.stddev, initializer.seed) == (0.0, 1.0, 1234)
    values = numpy(initializer(shape=(25, 20)))
    assert values.shape == (25, 20)
    assert values.std() == pytest.approx(1, abs=0.1)
    check_serialization(initializer)


def test_truncated_normal():
    initializer = fk.TruncatedNormal(mean=1.0, stddev=0.5, seed=1234)
    assert (initializer.mean, initializer.stddev, initializer.seed) == (1.0, 0.5, 1234)
    values = numpy(initializer(shape=(25, 20)))
    assert abs(values - 1).max() <= 1
    check_serialization(initializer)


def test_random_uniform():
    initializer = fk.RandomUniform(minval=-1.0, maxval=1.0, seed=1234)
    assert (initializer.minval, initializer.maxval, initializer.seed) == (-1.0, 1.0, 1234)
    values = numpy(initializer(shape=(5, 5)))
    assert values.shape == (5, 5)
    assert values.min() >= -1
    assert values.max() < 1
    check_serialization(initializer)


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 25), ("fan_out", 20), ("fan_avg", 22.5)])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_variance_scaling(mode, fan, distribution):
    initializer = fk.VarianceScaling(2.0, mode, distribution, seed=1234)
    assert (initializer.scale, initializer.seed) == (2.0, 1234)
    values = numpy(initializer(shape=(25, 20)))
    assert values.shape == (25, 20)
    assert values.std() == pytest.approx(math.sqrt(2 / fan), rel=0.1)
    check_serialization(initializer)


def test_variance_scaling_with_axes():
    initializer = fk.VarianceScaling(2.0, seed=1234, input_axes=[0], output_axes=[1, 2])
    shape = (32, 4, 16)
    assert numpy(initializer(shape)).std() == pytest.approx(math.sqrt(2 / 32), rel=0.1)
    check_serialization(initializer)
    without = fk.VarianceScaling(2.0, seed=1234)
    assert numpy(without(shape)).std() == pytest.approx(math.sqrt(2 / 128), rel=0.1)
    for axes, fans in (([0], [1, 2]), (512, 512)), (([0, 1], [2]), (4096, 64)):
        for mode, fan in zip(("fan_in", "fan_out"), fans, strict=True):
            initializer = fk.VarianceScaling(
                mode=mode, distribution="uniform", seed=0, input_axes=axes[0], output_axes=axes[1]
            )
            largest = abs(numpy(initializer((512, 8, 64)))).max()
            assert largest == pytest.approx(math.sqrt(3 / fan), rel=1e-4)


def test_projections_of_attention():
    attention = keras.layers.MultiHeadAttention(8, 16, kernel_initializer=fk.LecunNormal())
    attention.build((None, 10, 32), (None, 10, 32))
    kernel = attention.query_dense.kernel
    assert kernel.shape == (32, 8, 16)
    assert numpy(kernel).std() == pytest.approx(math.sqrt(1 / 32), rel=0.1)


def test_orthogonal():
    initializer = fk.Orthogonal(gain=2.0, seed=1234)
    assert (initializer.gain, initializer.seed) == (2.0, 1234)
    values = numpy(initializer(shape=(5, 5)))
    assert np.allclose(values.T @ values, 4 * np.eye(5), atol=1e-5)
    check_serialization(initializer)
    for shape in ((7, 4), (4, 7), (3, 3, 2, 5), (1, 2, 2, 9)):
        rows = numpy(initializer(shape)).reshape(-1, shape[-1])
        small = rows.T @ rows if len(rows) >= shape[-1] else rows @ rows.T
        assert np.allclose(small, 4 * np.eye(len(small)), atol=1e-5)


@every
def test_seeds(name):
    make = CLASSES[name]
    fixed, advancing = make(seed=1337), make(seed=keras.random.SeedGenerator(1337))
    unseeded = make(seed=None)
    for initializer in (fixed, unseeded):
        assert isinstance(initializer.seed, int)
        assert same(initializer((25, 20)), initializer((25, 20)))
    assert not same(advancing((25, 20)), advancing((25, 20)))
    assert same(fixed((25, 20)), make.from_config(fixed.get_config())((25, 20)))
    assert unseeded.get_config()["seed"] is None
    assert not same(unseeded((25, 20)), make.from_config(unseeded.get_config())((25, 20)))
    for initializer in (fixed, advancing, unseeded):
        check_serialization(initializer)
    for seed in (1.5, "seed", np.int64(3)):
        with pytest.raises(ValueError, match="`seed` argument should be an instance of"):
            make(seed=seed)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scale": -1.0}, "Argument `scale` must be positive float"),
        ({"mode": "invalid_mode"}, "Invalid `mode` argument:"),
        ({"distribution": "invalid_dist"}, "Invalid `distribution` argument:"),
    ],
)
def test_invalid_variance_scaling(parameters, message):
    with pytest.raises(ValueError, match=message):
        fk.VarianceScaling(seed=1234, **parameters)


# --- the classes of Keras -------------------------------------------------------------------------


def test_every_initialiser_of_keras_is_there():
    theirs = {each for each in vars(keras.initializers).values() if isinstance(each, type)}
    for each in theirs - {keras.initializers.Initializer}:
        ours = getattr(fk, each.__name__)
        assert ours is each or issubclass(ours, each)
        assert (ours is each) == (each.__name__ not in CLASSES)


@every
def test_signatures_are_those_of_keras(name):
    theirs = getattr(keras.initializers, name)
    assert CLASSES[name].__init__ in [each.__dict__.get("__init__") for each in theirs.__mro__]


def test_custom_objects_are_keras_names():
    """All names of random initialisers, and no others, mean the classes of this module."""
    for identifier, ours in fk.custom_objects.items():
        theirs = keras.initializers.get(identifier)
        assert not isinstance(theirs, ours)
        assert isinstance(ours(), type(theirs))
        assert ours.__name__ == type(theirs).__name__
    theirs = [getattr(keras.initializers, name) for name in CLASSES]
    names = {name for name, each in vars(keras.initializers).items() if each in theirs}
    assert names <= set(fk.custom_objects)


def test_defaults_of_layers():
    with keras.saving.custom_object_scope(fk.custom_objects):
        lstm, dense = keras.layers.LSTM(3), keras.layers.Dense(2)
        embedding = keras.layers.Embedding(3, 4)
    assert type(lstm.cell.kernel_initializer) is fk.GlorotUniform
    assert type(lstm.cell.recurrent_initializer) is fk.Orthogonal
    assert type(dense.kernel_initializer) is fk.GlorotUniform
    assert type(embedding.embeddings_initializer) is fk.RandomUniform
    assert type(keras.layers.Dense(2).kernel_initializer) is keras.initializers.GlorotUniform


def test_registered_name():
    assert isinstance(keras.initializers.get("fastinit>HeNormal"), fk.HeNormal)
    assert keras.saving.get_registered_name(fk.HeNormal) == "fastinit>HeNormal"


def test_models_are_saved_and_loaded(tmp_path):
    with keras.saving.custom_object_scope(fk.custom_objects):
        model = layers_of(fk.HeNormal(seed=3), "glorot_uniform", fk.Orthogonal(2.0))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = [layer.kernel_initializer for layer in loaded.layers]
    assert [type(each) for each in found] == [fk.HeNormal, fk.GlorotUniform, fk.Orthogonal]
    assert [each.get_config()["seed"] for each in found] == [3, None, None]
    for before, after in zip(model.weights, loaded.weights, strict=True):
        assert same(before, after)
    clone = keras.models.clone_model(model)
    equal = [same(a.kernel, b.kernel) for a, b in zip(model.layers, clone.layers, strict=True)]
    assert equal == [True, False, False]


def test_copies():
    initializer = fk.HeNormal(seed=3)
    for copy in (pickle.loads(pickle.dumps(initializer)), initializer.clone()):
        assert same(copy((4, 3)), initializer((4, 3)))


# --- values ---------------------------------------------------------------------------------------

AXES = {"in_axis": -2, "out_axis": -1}
VALUES = {
    "GlorotUniform": lambda shape, **k: fi.keras_dense(shape, **k),
    "GlorotNormal": lambda shape, **k: fi.variance_scaling(
        shape, 1.0, "fan_avg", "truncated_normal", **AXES, **k
    ),
    "HeUniform": lambda shape, **k: fi.he_uniform(shape, **AXES, **k),
    "HeNormal": lambda shape, **k: fi.variance_scaling(
        shape, 2.0, "fan_in", "truncated_normal", **AXES, **k
    ),
    "LecunUniform": lambda shape, **k: fi.lecun_uniform(shape, **AXES, **k),
    "LecunNormal": lambda shape, **k: fi.flax_dense(shape, **k),
    "Orthogonal": lambda shape, **k: fi.orthogonal(shape, **AXES, **k),
    "RandomNormal": lambda shape, **k: fi.normal(shape, std=0.05, **k),
    "RandomUniform": lambda shape, **k: fi.uniform(shape, -0.05, 0.05, **k),
    "TruncatedNormal": lambda shape, **k: fi.truncated_normal(shape, std=0.05, **k),
    "VarianceScaling": lambda shape, **k: fi.flax_dense(shape, **k),
}


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_those_of_fastinit(name, dtype, wide):
    """Of a seed and stream 0, or of a generator, call by call; on every backend."""
    make, expected = CLASSES[name], VALUES[name]
    generator = make(seed=keras.random.SeedGenerator(5))
    for shape in ((6, 4), (3, 3, 4, 8), (700, 900)):
        for seed in (5, 2**64 - 1):
            values = make(seed=seed)(shape, dtype=dtype)
            assert same(values, expected(shape, seed=seed, dtype=dtype))
    for stream in range(3):
        values = generator((6, 4), dtype=dtype)
        assert same(values, expected((6, 4), seed=5, stream=stream, dtype=dtype))


@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_values_of_variance_scaling(distribution, mode):
    ours = {"untruncated_normal": "normal"}.get(distribution, distribution)
    values = fk.VarianceScaling(0.7, mode, distribution, seed=1)((3, 5, 4, 8))
    expected = fi.variance_scaling((3, 5, 4, 8), 0.7, mode, ours, **AXES, seed=1, dtype="float32")
    assert same(values, expected)
    values = fk.VarianceScaling(0.7, mode, distribution, 1, [0, -1], [1])((3, 5, 4, 8))
    expected = fi.variance_scaling(
        (3, 5, 4, 8), 0.7, mode, ours,
        in_axis=(0, 3), out_axis=1, batch_axis=2, seed=1, dtype="float32",
    )  # fmt: skip
    assert same(values, expected)


def test_generators_of_32_bits():
    """The state is a signed integer in PyTorch."""
    seed = 2**31 - 1 if BACKEND == "torch" else 2**32 - 1
    generator = keras.random.SeedGenerator(seed)
    for stream in (0, 1):
        expected = fi.normal(9, seed=seed, stream=stream, std=0.05, dtype="float32")
        assert same(fk.RandomNormal(seed=generator)((9,)), expected)


@every
@pytest.mark.parametrize("shape", [(200, 100), (3, 3, 40, 60), (4000,)])
def test_distribution_is_that_of_keras(name, shape):
    if name == "Orthogonal":
        if len(shape) < 2:
            return
        shape = (60, 50)
    ours, theirs = CLASSES[name](seed=1), getattr(keras.initializers, name)(seed=2)
    samples = numpy(ours(shape)).ravel(), numpy(theirs(shape)).ravel()
    assert stats.ks_2samp(*samples).pvalue > 1e-3
    assert samples[0].std() == pytest.approx(samples[1].std(), rel=0.05)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("shape", [(), (5,), [2, 3], (0, 3), (3, 0)])
def test_unusual_shapes(name, shape):
    ours, theirs = CLASSES[name](seed=1), getattr(keras.initializers, name)(seed=2)
    assert tuple(ours(shape).shape) == tuple(theirs(shape).shape) == tuple(shape)


@every
def test_default_dtype(name):
    assert keras.backend.standardize_dtype(CLASSES[name]()((3, 4)).dtype) == "float32"
    keras.config.set_floatx("float16")
    try:
        assert keras.backend.standardize_dtype(CLASSES[name]()((3, 4)).dtype) == "float16"
    finally:
        keras.config.set_floatx("float32")


def test_numbers_as_tensors_and_equal_bounds():
    mean, stddev = keras.ops.convert_to_tensor(1.0), np.float32(0.5)
    assert same(fk.RandomNormal(mean, stddev, 1)((9,)), fk.RandomNormal(1.0, 0.5, 1)((9,)))
    assert same(fk.RandomUniform(2, 2)((3,)), np.full(3, 2, "float32"))
    for make in (fk.RandomNormal, fk.TruncatedNormal):
        assert same(make(2.0, 0.0)((3,)), np.full(3, 2, "float32"))


def test_layers_with_one_generator_differ():
    """Whereas layers of one shape with one integer are identical, as in Keras."""
    generator = keras.random.SeedGenerator(7)
    model = layers_of(*(fk.GlorotUniform(generator) for _ in range(3)), units=4)
    for stream, layer in enumerate(model.layers):
        expected = fi.keras_dense((4, 4), seed=7, stream=stream, dtype="float32")
        assert same(layer.kernel, expected)
    first, second = layers_of(fk.GlorotUniform(7), fk.GlorotUniform(7), units=4).layers
    assert same(first.kernel, second.kernel)


@pytest.mark.parametrize("shared", [True, False])
def test_variables_that_are_initialised_later(shared):
    """Keras traces a model before it initialises the layers within."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            seed = keras.random.SeedGenerator(5) if shared else 5
            self.one = keras.layers.Dense(4, kernel_initializer=fk.GlorotUniform(seed=seed))
            self.two = keras.layers.Dense(4, kernel_initializer=fk.GlorotUniform(seed=seed))

        def call(self, x):
            return self.two(self.one(x))

    model = Model()
    with np.errstate(all="ignore"):  # the NumPy backend computes with memory that nobody wrote
        assert model(keras.Input((4,))).shape == (None, 4)
    for stream, layer in enumerate((model.one, model.two)):
        expected = fi.keras_dense((4, 4), seed=5, stream=stream * shared, dtype="float32")
        assert same(layer.kernel, expected)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fk.HeNormal(seed=-1)((2, 2)), ValueError, "seed: expected 0 <="),
        (lambda: fk.HeNormal(seed=2**64)((2, 2)), ValueError, "seed: expected 0 <="),
        (lambda: fk.RandomNormal("x")((2,)), TypeError, "mean: expected a number; got str"),
        (lambda: fk.RandomNormal(keras.ops.ones(2))((2,)), TypeError, "mean: expected a number"),
        (lambda: fk.RandomNormal(stddev=-1)((2,)), ValueError, "stddev: expected >= 0; got -1"),
        (lambda: fk.TruncatedNormal(1e39)((2,)), ValueError, "mean: expected a finite float32"),
        (lambda: fk.RandomUniform(1, 0)((2,)), ValueError, "minval, maxval: expected minval <="),
        (lambda: fk.RandomUniform(math.nan)((2,)), ValueError, "minval: expected a finite"),
        (lambda: fk.RandomUniform(-3e38, 3e38)((2,)), ValueError, "maxval - minval: expected"),
        (lambda: fk.VarianceScaling(math.inf)((2, 2)), ValueError, "scale: expected a finite"),
        (lambda: fk.HeNormal(0, [2], [0])((2, 2)), ValueError, "input_axes: expected an integer"),
        (lambda: fk.HeNormal(0, [0], [0.5])((2, 2)), TypeError, "output_axes: expected an integer"),
        (lambda: fk.Orthogonal(None)((2, 2)), TypeError, "gain: expected a number; got NoneType"),
        (lambda: fk.Orthogonal()((2,)), ValueError, "shape: expected at least 2 axes"),
        (lambda: fk.HeNormal()((2, -2)), ValueError, "shape: expected lengths >= 0"),
        (lambda: fk.HeNormal()((2, None)), TypeError, "shape: expected integers"),
        (lambda: fk.HeNormal()((2, 2), "int32"), TypeError, "dtype: expected float64, float32"),
        (lambda: fk.HeNormal()((2, 2), "float8"), ValueError, "Invalid dtype: float8"),
        (lambda: fk.HeNormal()((2, 2), layout="x"), (TypeError, ValueError), "layout: expected"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_errors_do_not_advance_generators():
    generator = keras.random.SeedGenerator(5)
    for make in (fk.RandomNormal, fk.HeNormal):
        with pytest.raises(TypeError, match="dtype"):
            make(seed=generator)((2, 2), "int32")
    assert numpy(generator.state.value).tolist() == [5, 0]


# --- the backends ---------------------------------------------------------------------------------


def run(script, **environment):
    """Run a test file in a process of its own, and show what it prints if it fails."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


if BACKEND == "jax":
    import jax

    @pytest.mark.parametrize("backend", OTHER_BACKENDS)
    def test_other_backends(backend):
        if backend == "torch":
            pytest.importorskip("torch")
        run(__file__, KERAS_BACKEND=backend)

    def test_layouts():
        """On 8 devices, which JAX makes only when it starts."""
        flags = "--xla_force_host_platform_device_count=8"
        run(Path(__file__).with_name("keras_layouts.py"), KERAS_BACKEND="jax", XLA_FLAGS=flags)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_arrays_take_over_the_memory(dtype, monkeypatch):
        """No copy is made, whatever the size."""
        array = fk._array
        kept = []

        def keep(*args, **keywords):
            kept.append(array(*args, **keywords))
            return kept[-1]

        monkeypatch.setattr(fk, "_array", keep)
        for n in (1, 1000, 1 << 20):
            values = fk.RandomNormal(seed=0)((n,), dtype=dtype)
            assert values.unsafe_buffer_pointer() == kept[-1].ctypes.data

    @every
    def test_under_jit(name):
        initializer = CLASSES[name](seed=3)
        assert same(jax.jit(lambda: initializer((6, 4)))(), initializer((6, 4)))

    def test_generators_under_jit():
        """The state is passed in and out, as for every generator of Keras."""
        generator = keras.random.SeedGenerator(3)
        initializer = fk.HeNormal(seed=generator)

        @jax.jit
        def call(state):
            with keras.StatelessScope([(generator.state, state)]) as scope:
                values = initializer((6, 4)), initializer((6, 4))
            return values, scope.get_current_value(generator.state)

        values, state = call(generator.state.value)
        assert state.tolist() == [3, 2]
        for each in values:
            assert same(each, initializer((6, 4)))

    def test_nothing_is_filled_to_infer_shapes(monkeypatch):
        def fail(*args, **keywords):
            raise AssertionError

        monkeypatch.setattr(fk, "_array", fail)
        found = jax.eval_shape(lambda: fk.HeNormal(seed=3)((1 << 30, 1 << 20), "bfloat16"))
        assert found == jax.ShapeDtypeStruct((1 << 30, 1 << 20), "bfloat16")

    def test_float64_without_64_bits():
        """JAX warns, and the values are those of float32."""
        with pytest.warns(UserWarning, match="float64.* is not available"):
            values = fk.RandomNormal(seed=1)((9,), "float64")
        assert same(values, fk.RandomNormal(seed=1)((9,), "float32"))


if BACKEND != "numpy":  # which cannot train

    def test_training():
        model = layers_of(fk.HeNormal(seed=1), fk.Orthogonal(seed=1))
        before = [numpy(weight).copy() for weight in model.weights]
        model.compile("adam", "mse")
        model.fit(np.ones((32, 4), "float32"), np.ones((32, 3), "float32"), verbose=0)
        assert not any(same(a, b) for a, b in zip(before, model.weights, strict=True))
        assert same(fk.HeNormal(seed=1)((4, 3)), before[0])


if BACKEND == "torch":
    import torch

    def test_tensors():
        """A leaf without gradients, on the device of Keras."""
        values = fk.HeNormal(seed=1)((3, 4))
        assert type(values) is torch.Tensor
        assert values.is_leaf
        assert not values.requires_grad

    def test_parameters_take_over_the_memory(monkeypatch):
        made = []
        write = fk._write

        def noted(*args, **keywords):
            made.append(write(*args, **keywords))
            return made[-1]

        monkeypatch.setattr(fk, "_write", noted)
        layer = keras.layers.Dense(3, kernel_initializer=fk.HeNormal(seed=1))
        layer.build((None, 4))
        assert layer.kernel.value.data_ptr() == made[0].data_ptr()

    def test_meta_device():
        generator = keras.random.SeedGenerator(3)
        with keras.device("meta"):
            values = fk.HeNormal(seed=generator)((1 << 30, 1 << 20))
        assert values.is_meta
        assert values.shape == (1 << 30, 1 << 20)
        assert generator.state.value.tolist() == [3, 0]
