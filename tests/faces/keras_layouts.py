"""Layouts on 8 devices: run by test_keras.py in a process of its own."""

import jax
import keras
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fastinit as fi
from fastinit import keras as fk

MESH = keras.distribution.DeviceMesh((2, 4), ["batch", "model"])
CLASSES = [getattr(fk, name) for name in fk.__all__ if name in fk.custom_objects]
AXES = [
    (None, None), ("batch", None), (None, "model"), ("model", "batch"), ("batch", "model"),
]  # fmt: skip


def bits(array):
    return np.asarray(array).tobytes()


def windows(monkeypatch):
    """Return a list of the shapes that are filled from now on."""
    found = []
    array = fk._array

    def noted(shape, *args, **keywords):
        found.append(shape)
        return array(shape, *args, **keywords)

    monkeypatch.setattr(fk, "_array", noted)
    return found


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("axes", AXES)
def test_same_bits_under_every_layout(make, dtype, axes):
    layout = keras.distribution.TensorLayout(axes, MESH)
    values = make(seed=3)((16, 40), dtype, layout=layout)
    assert values.sharding.is_equivalent_to(layout.backend_layout, 2)
    assert len(values.addressable_shards) == 8
    assert bits(values) == bits(make(seed=3)((16, 40), dtype))


@pytest.mark.parametrize(
    "spec", [(("batch", "model"),), (None, ("model", "batch")), (), ("model",)]
)
@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 3, 5)])
def test_shardings_of_jax(spec, shape):
    sharding = NamedSharding(MESH.backend_mesh, PartitionSpec(*spec))
    values = fk.HeNormal(seed=3)(shape, layout=sharding)
    assert values.sharding == sharding
    assert bits(values) == bits(fk.HeNormal(seed=3)(shape))


def test_single_device_and_scalars():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[5])
    values = fk.RandomNormal(seed=3)((), layout=sharding)
    assert values.devices() == {jax.devices()[5]}
    assert bits(values) == bits(fk.RandomNormal(seed=3)(()))


def test_each_part_is_filled_once_and_nothing_else(monkeypatch):
    filled = windows(monkeypatch)
    layout = keras.distribution.TensorLayout((None, "model"), MESH)
    values = fk.HeNormal(seed=3)((16, 40), layout=layout)
    assert filled == [(16, 10)] * 4
    # The replicas on the CPU share memory.
    assert len({s.data.unsafe_buffer_pointer() for s in values.addressable_shards}) == 4
    filled.clear()
    fk.Orthogonal(seed=3)((16, 40), layout=layout)
    assert filled == [(16, 40)]


def test_replicas_survive_donation():
    layout = keras.distribution.TensorLayout((None, None), MESH)
    values = fk.HeNormal(seed=3)((64, 64), layout=layout)
    expected = np.asarray(values) + 1
    result = jax.jit(lambda x: x + 1, donate_argnums=0)(values)
    for shard in result.addressable_shards:
        assert bits(shard.data) == bits(expected)


def test_empty_shapes():
    layout = keras.distribution.TensorLayout((None, "model"), MESH)
    assert fk.HeNormal()((0, 8), layout=layout).shape == (0, 8)


@pytest.fixture(params=["integer", "generator made before", "generator made within"])
def seeds(request):
    """Return a function that makes the seed, and the streams of two layers."""
    if request.param == "integer":
        return lambda: 7, (0, 0)
    generator = keras.random.SeedGenerator(7)
    within = request.param.endswith("within")
    return lambda: keras.random.SeedGenerator(7) if within else generator, (0, 1)


@pytest.mark.parametrize("parallel", ["data", "model"])
def test_distributions_of_keras(parallel, seeds):
    """The kernels that Keras initialises under a distribution."""
    make_seed, streams = seeds
    if parallel == "data":
        distribution = keras.distribution.DataParallel()
        spec = PartitionSpec(None, None)
    else:
        layouts = keras.distribution.LayoutMap(MESH)
        layouts[".*kernel"] = (None, "model")
        distribution = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
        spec = PartitionSpec(None, "model")
    with distribution.scope():
        seed = make_seed()
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dense(16, kernel_initializer=fk.GlorotUniform(seed)),
                keras.layers.Dense(16, kernel_initializer=fk.GlorotUniform(seed)),
            ]
        )
    for stream, layer in zip(streams, model.layers, strict=True):
        kernel = layer.kernel.value
        expected = fi.keras_dense((16, 16), seed=7, stream=stream, dtype="float32")
        assert bits(kernel) == bits(expected)
        sharding = NamedSharding(kernel.sharding.mesh, spec)
        assert kernel.sharding.is_equivalent_to(sharding, 2)
        assert set(kernel.sharding.mesh.axis_types) == {AxisType.Auto}


def test_training_under_a_distribution():
    layouts = keras.distribution.LayoutMap(MESH)
    layouts[".*kernel"] = (None, "model")
    distribution = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    X, Y = np.ones((32, 16), "float32"), np.ones((32, 8), "float32")
    with distribution.scope():
        model = keras.Sequential(
            [keras.Input((16,)), keras.layers.Dense(8, kernel_initializer=fk.HeNormal(seed=1))]
        )
        model.compile("sgd", "mse")
        before = np.asarray(model.layers[0].kernel.value)
        model.fit(X, Y, batch_size=32, verbose=0)
    # The model trains as the same one without a layout.
    assert bits(before) == bits(fk.HeNormal(seed=1)((16, 8)))
    other = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(8, kernel_initializer=fk.HeNormal(seed=1))]
    )
    other.compile("sgd", "mse")
    other.fit(X, Y, batch_size=32, verbose=0)
    kernels = [np.asarray(each.layers[0].kernel.value) for each in (model, other)]
    np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-6)


def test_errors():
    layout = keras.distribution.TensorLayout((None, "model"), MESH)
    generator = keras.random.SeedGenerator(5)
    for shape in ((8, 30), (8,)):
        with pytest.raises(ValueError, match="layout: expected one that divides"):
            fk.RandomNormal(seed=generator)(shape, layout=layout)
    with pytest.raises(TypeError, match="layout: expected a keras"):
        fk.HeNormal(seed=generator)((8, 32), layout=(None, "model"))
    abstract = NamedSharding(MESH.backend_mesh.abstract_mesh, PartitionSpec(None, "model"))
    with pytest.raises(ValueError, match="layout: expected the mesh of the context"):
        fk.HeNormal(seed=generator)((8, 32), layout=abstract)
    assert generator.state.value.tolist() == [5, 0]
