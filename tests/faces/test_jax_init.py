"""The initialisers of JAX: its own tests of them, values, errors, libraries, and 8 devices.

The tests of shardings run this file as a script, because the number of devices on the host is a
flag that JAX reads once. Of JAX's tests, that of ``jax.nn.identity`` does not apply, which is not
an initialiser. The dtypes of 8 bits, which JAX's initialisers take as well, are refused.
"""

import os
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax")
stats = pytest.importorskip("scipy.stats")

import jax.numpy as jnp  # noqa: E402
from jax.nn import initializers as theirs  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import fastinit as fi  # noqa: E402
from fastinit import jax as init  # noqa: E402
from fastinit.initializers import fills  # noqa: E402

KEY = jax.random.key(7)
FLOATING = (jnp.float32, jnp.bfloat16, jnp.float16)
INEXACT = (*FLOATING, jnp.complex64)
SCALED = [
    f"{name}_{kind}"
    for name in ("glorot", "xavier", "lecun", "he", "kaiming")
    for kind in ("uniform", "normal")
]
MATRIX = [(50, 30), (3, 4, 5), (3, 2, 4, 5)]
# Names, shapes and dtypes, as JAX tests them.
RECORDS = {
    "uniform": ([(7,), *MATRIX], FLOATING),
    "normal": ([(7,), *MATRIX], INEXACT),
    "truncated_normal": ([(7,), *MATRIX], FLOATING),
    "orthogonal": ([(5, 3), (3, 5), (2, 3, 4)], INEXACT),
    "delta_orthogonal": ([(3, 2, 4), (2, 3, 2, 4), (1, 2, 3, 4, 4)], INEXACT),
    **dict.fromkeys(SCALED, (MATRIX, INEXACT)),
}
CASES = [
    (name, shape, dtype)
    for name, (shapes, dtypes) in RECORDS.items()
    for shape in shapes
    for dtype in dtypes
]


# --- JAX's own tests ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape", "dtype"), CASES)
def test_shape_and_dtype(name, shape, dtype):
    key = jax.random.PRNGKey(0)
    for found in (
        getattr(init, name)()(key, shape, dtype),
        getattr(init, name)(dtype=dtype)(key, shape),
    ):
        assert found.shape == shape
        assert found.dtype == dtype
        assert jnp.isfinite(found).all()


@pytest.mark.parametrize(
    "axes",
    [
        {"in_axis": (0, 1), "out_axis": (-2, -1)},
        {"in_axis": 0, "out_axis": (2, 3), "batch_axis": 1},
    ],
)
def test_several_axes(axes):
    make = partial(init.variance_scaling, 1.0, "fan_avg", "normal", **axes)
    shape = (20, 30, 4, 5)
    expected = theirs.variance_scaling(1.0, "fan_avg", "normal", **axes)(KEY, shape)
    assert float(make()(KEY, shape).std()) == pytest.approx(float(expected.std()), rel=0.03)


def test_too_few_axes():
    make = partial(init.variance_scaling, 1.0, "fan_avg", "truncated_normal")
    for shape in ((), (5,)):
        with pytest.raises(ValueError, match="shape: expected at least 2 axes"):
            make()(KEY, shape)
    assert make(in_axis=0)(KEY, (5,)).shape == (5,)


def test_arguments_do_not_widen_the_dtype():
    one = jnp.array(1.0, jnp.float32)
    for make in (init.uniform, init.normal, init.truncated_normal):
        assert make(one, jnp.bfloat16)(KEY, (4, 4)).dtype == jnp.bfloat16


# --- values ---------------------------------------------------------------------------------------


def same_distribution(ours, other):
    found = [np.asarray(each, np.float64).ravel() for each in (ours, other)]
    assert stats.ks_2samp(*found).pvalue > 1e-4


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal", *SCALED])
def test_distributions_are_those_of_jax(name):
    shape = (60, 5, 40)
    same_distribution(*(getattr(lib, name)()(KEY, shape) for lib in (init, theirs)))


@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
def test_complex_distributions_are_those_of_jax(distribution):
    ours, other = (
        lib.variance_scaling(3.0, "fan_in", distribution)(KEY, (200, 100), jnp.complex64)
        for lib in (init, theirs)
    )
    if distribution == "truncated_normal":  # JAX's constant is 0.9 % too small
        other = other * (0.95311164380491208 / init.TRUNCATED_COMPLEX_STD)
    same_distribution(abs(ours), abs(other))
    same_distribution(jnp.angle(ours), jnp.angle(other))
    variance = float((abs(ours) ** 2).mean())
    assert variance == pytest.approx(3 / 200, rel=5 / 20_000**0.5)


@pytest.mark.parametrize("dtype", FLOATING)
def test_values_are_those_of_fastinit(dtype):
    """With the key's data as the seed."""
    shape, seed = (30, 20), 2**40 + 5
    key = jax.random.wrap_key_data(jnp.array([2**8, 5], jnp.uint32))
    kind = {"seed": seed, "dtype": np.dtype(dtype)}
    axes = {"in_axis": -2, "out_axis": -1}
    he_normal = partial(fi.variance_scaling, scale=2.0, distribution="truncated_normal")
    for found, expected in (
        (init.normal(0.5), fi.normal(shape, std=0.5, **kind)),
        (init.uniform(0.5), fi.uniform(shape, 0.0, 0.5, **kind)),
        (init.he_uniform(), fi.he_uniform(shape, **axes, **kind)),
        (init.he_normal(), he_normal(shape, **axes, **kind)),
        (init.orthogonal(), fi.orthogonal(shape, in_axis=0, out_axis=1, **kind)),
    ):
        np.testing.assert_array_equal(np.asarray(found(key, shape, dtype)), expected)


def test_keys():
    make = init.normal()
    typed = make(KEY, (3, 4))
    assert (typed == make(jax.random.PRNGKey(7), (3, 4))).all()
    assert (typed == make(np.asarray(jax.random.key_data(KEY)), (3, 4))).all()
    assert (typed != make(jax.random.key(8), (3, 4))).all()
    wide = [make(jax.random.key(seed, impl="rbg"), (3, 4)) for seed in (7, 8)]
    assert (wide[0] != wide[1]).all()
    assert init._seed_of(np.arange(4, dtype=np.uint32)) == 18058939085400907254


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), -1), ((3, 5), -1), ((2, 3, 4), 1)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_orthogonal(shape, axis, dtype):
    W = np.moveaxis(np.asarray(init.orthogonal(2.0, axis)(KEY, shape, dtype)), axis, -1)
    W = W.reshape(-1, W.shape[-1]) / 2
    W = W if len(W) >= W.shape[1] else W.T
    np.testing.assert_allclose(W.conj().T @ W, np.eye(W.shape[1]), atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 2, 4), (4, 2, 2, 4), (2, 4, 3, 3, 3)])
def test_delta_orthogonal_is_where_jax_puts_it(shape):
    ours, other = (lib.delta_orthogonal()(KEY, shape) for lib in (init, theirs))
    assert ((ours != 0) == (other != 0)).all()


def test_embedding_of_flax():
    """It names an axis twice."""
    make = partial(init.variance_scaling, 1.0, "fan_in", "normal", out_axis=0)
    assert float(make()(KEY, (400, 100)).std()) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("name", RECORDS)
def test_empty_arrays(name):
    shape = (0, 0, 3) if name == "delta_orthogonal" else (0, 3)
    assert getattr(init, name)()(KEY, shape).shape == shape


def test_scales_of_zero():
    for make in (init.uniform(0), init.normal(0), init.variance_scaling(0, "fan_in", "uniform")):
        assert not make(KEY, (3, 4)).any()


def test_memory_is_taken_over(monkeypatch):
    made = []
    aligned = init.aligned
    monkeypatch.setattr(init, "aligned", lambda *a: made.append(aligned(*a)) or made[-1])
    found = init.normal()(KEY, (100, 100))
    assert found.unsafe_buffer_pointer() == made[0].ctypes.data


def test_constants_are_those_of_jax():
    for name in ("constant", "ones", "zeros"):
        assert getattr(init, name) is getattr(theirs, name)
    public = [name for name in dir(theirs) if name[0] != "_" and name != "Initializer"]
    assert sorted(init.__all__) == public


# --- compiled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_compiled(name):
    shapes, dtypes = RECORDS[name]
    for dtype in dtypes:
        fill = partial(getattr(init, name)(), shape=shapes[-1], dtype=dtype)
        assert (jax.jit(fill)(KEY) == fill(KEY)).all()
        keys = jax.random.split(KEY, (2, 3))
        expected = jnp.stack([jnp.stack([fill(key) for key in row]) for row in keys])
        assert (jax.vmap(jax.vmap(fill))(keys) == expected).all()
        assert (jax.jit(jax.vmap(jax.vmap(fill)))(keys) == expected).all()
        looped = jax.lax.map(fill, keys[0])
        assert (looped == expected[0]).all()


def test_keys_that_a_traced_function_knows():
    """A key need not be an argument of the function."""
    fill = partial(init.normal(1.0), shape=(3, 2))
    expected = np.asarray(fill(KEY))
    found = [
        jax.jit(lambda: fill(KEY))(),
        jax.vmap(lambda x: x + fill(KEY))(jnp.zeros(2))[1],
        jax.checkpoint(lambda x: x + fill(KEY))(0.0),
        jax.lax.scan(lambda x, _: (x, fill(KEY)), 0.0, None, length=2)[1][1],
        jax.grad(lambda w: (w * fill(KEY)).sum())(jnp.zeros((3, 2))),
    ]
    for each in found:
        assert (np.asarray(each) == expected).all()
    assert jax.eval_shape(lambda: fill(KEY)).shape == (3, 2)


def test_nothing_is_filled_for_shapes_alone(monkeypatch):
    monkeypatch.setattr(init, "aligned", None)
    found = jax.eval_shape(lambda: init.normal()(jax.random.key(0), (10**6, 10**6)))
    assert found.shape == (10**6, 10**6)


def test_repr_names_the_arguments():
    assert repr(init.normal(0.5)) == "normal(stddev=0.5)"
    assert repr(init.orthogonal(dtype=jnp.float32)) == (
        "orthogonal(scale=1.0, column_axis=-1, dtype=float32)"
    )
    assert "at 0x" not in repr(init.he_normal())


def test_equal_initialisers_are_compiled_once():
    assert init.he_normal() == init.kaiming_normal()
    assert hash(init.normal(0.1)) == hash(init.normal(0.1))
    assert init.normal(0.1) != init.normal(0.2)
    compiled = jax.jit(lambda key, make: make(key, (3, 4)), static_argnums=1)
    for _ in range(2):
        compiled(KEY, init.normal(0.1))
    assert compiled._cache_size() == 1


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "key: expected a key", lambda: init.normal()(5, (3,))),
        (TypeError, "key: expected a key", lambda: init.normal()(jnp.zeros(2), (3,))),
        (ValueError, "key: expected a single", lambda: init.normal()(jax.random.split(KEY), (3,))),
        (TypeError, "shape: expected integers", lambda: init.normal()(KEY, (3.0,))),
        (ValueError, "shape: expected lengths", lambda: init.normal()(KEY, (-1,))),
        (TypeError, "shape: exp", lambda: jax.jit(lambda n: init.normal()(KEY, (n,)))(3)),
        (TypeError, "dtype: expected", lambda: init.normal()(KEY, (3,), jnp.int32)),
        (TypeError, "dtype: expected", lambda: init.normal(dtype="float8_e4m3fn")),
        (TypeError, "dtype: expected", lambda: init.uniform()(KEY, (3,), jnp.complex64)),
        (TypeError, "dtype: expected", lambda: init.normal()(KEY, (3,), "x")),
        (ValueError, "scale: expected >= 0", lambda: init.uniform(-1)),
        (ValueError, "stddev: expected >= 0", lambda: init.normal(-1.0)),
        (ValueError, "stddev: expected a finite", lambda: init.normal(float("nan"))),
        (TypeError, "stddev: expected a number", lambda: init.normal("1")),
        (TypeError, "got a tracer", lambda: jax.jit(lambda s: init.normal(s)(KEY, (3,)))(1.0)),
        (ValueError, "lower, upper: exp", lambda: init.truncated_normal(1.0, None, 2, 1)),
        (ValueError, "mode: exp", lambda: init.variance_scaling(1, "fan", "normal")),
        (ValueError, "distribution: exp", lambda: init.variance_scaling(1, "fan_in", "gamma")),
        (ValueError, "scale: exp", lambda: init.variance_scaling(-1, "fan_in", "normal")),
        (ValueError, "in_axis: exp", lambda: init.he_normal(in_axis=4)(KEY, (3, 4))),
        (ValueError, "shape: expected at least 2", lambda: init.orthogonal()(KEY, (3,))),
        (ValueError, "column_axis: exp", lambda: init.orthogonal(1, 3)(KEY, (3, 4))),
        (ValueError, "shape: expected 3 to 5", lambda: init.delta_orthogonal()(KEY, (3, 4))),
        (ValueError, "at most as many", lambda: init.delta_orthogonal()(KEY, (3, 4, 2))),
        (TypeError, "out_sharding: exp", lambda: init.normal()(KEY, (3,), None, "a")),
        (ValueError, "without a mesh", lambda: init.normal()(KEY, (3,), None, P("a"))),
    ],
)
def test_errors_before_anything_is_filled(error, message, call, monkeypatch):
    monkeypatch.setattr(init._Fill, "filled", None)
    with pytest.raises(error, match=message):
        call()


def test_errors_are_raised_when_a_function_is_traced():
    with pytest.raises(ValueError, match="std: expected a finite float16"):
        jax.jit(lambda key: init.normal(1e6)(key, (3, 4), jnp.float16))(KEY)


def test_64_bits():
    with pytest.warns(UserWarning, match="float64 requires the setting jax_enable_x64") as caught:
        assert init.normal()(KEY, (3,), jnp.float64).dtype == jnp.float32
    assert caught[0].filename == __file__


# --- libraries ------------------------------------------------------------------------------------


def test_linen():
    linen = pytest.importorskip("flax.linen")
    layer = linen.Dense(4, kernel_init=init.he_normal(), bias_init=init.zeros)
    x = jnp.ones((1, 3))
    first, second = layer.init(KEY, x), jax.jit(layer.init)(KEY, x)
    assert (first["params"]["kernel"] == second["params"]["kernel"]).all()
    assert layer.apply(first, x).shape == (1, 4)
    embed = linen.Embed(5, 4, embedding_init=init.normal(1.0))
    assert embed.init(KEY, jnp.array([1]))["params"]["embedding"].shape == (5, 4)


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")

    def make():
        return nnx.Linear(3, 4, kernel_init=init.he_normal(), rngs=nnx.Rngs(0))

    kernel = make().kernel[...]
    assert (kernel == nnx.jit(make)().kernel[...]).all()
    assert kernel.std() > 0


def test_equinox():
    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.Linear(3, 4, key=KEY)
    make = init.he_normal(in_axis=1, out_axis=0)
    new = eqx.tree_at(lambda m: m.weight, layer, make(KEY, layer.weight.shape))
    assert new(jnp.ones(3)).shape == (4,)
    assert (new.weight == make(KEY, (4, 3))).all()


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x):
        make = init.he_normal()
        return hk.Linear(4, w_init=lambda *args: make(hk.next_rng_key(), *args))(x)

    net = hk.transform(forward)
    x = jnp.ones((1, 3))
    first, second = net.init(KEY, x), jax.jit(net.init)(KEY, x)
    assert (first["linear"]["w"] == second["linear"]["w"]).all()
    assert net.apply(first, KEY, x).shape == (1, 4)


# --- 8 devices ------------------------------------------------------------------------------------

SPECS = [P(), P("a"), P("a", "b"), P(None, None, ("a", "b")), P(("b", "a")), P(None, "b", "a")]


def sharded():
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    shape = (8, 4, 16)
    for name, (_, dtypes) in RECORDS.items():
        for dtype in (dtypes[0], dtypes[1], dtypes[-1]):
            fill = partial(getattr(init, name)(), shape=shape, dtype=dtype)
            whole = np.asarray(fill(KEY))
            for spec in SPECS:
                sharding = NamedSharding(mesh, spec)
                there = partial(fill, out_sharding=sharding)
                for found in (there(KEY), jax.jit(there)(KEY)):
                    assert found.sharding.is_equivalent_to(sharding, 3)
                    assert (np.asarray(found) == whole).all(), (name, dtype, spec)
                    for shard in found.addressable_shards:
                        assert (np.asarray(shard.data) == whole[shard.index]).all()
    keys = jax.random.split(KEY, 3)
    there = partial(init.normal(), shape=shape, out_sharding=NamedSharding(mesh, P("a")))
    expected = np.stack([np.asarray(there(key)) for key in keys])
    assert (np.asarray(jax.jit(jax.vmap(there))(keys)) == expected).all()


def meshes():
    for kind in jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit:
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
        with jax.set_mesh(mesh):
            fill = partial(init.normal(), shape=(8, 4), out_sharding=P("b"))
            assert (fill(KEY) == jax.jit(fill)(KEY)).all()
            assert fill(KEY).sharding.spec == P("b")
            assert init.normal()(KEY, (8, 4)).sharding.is_fully_replicated
            # With a traced key, one that is known, and on each device.
            whole = partial(init.normal(), shape=(8, 4))
            expected = np.asarray(whole(KEY))
            each = jax.shard_map(
                partial(whole, KEY), in_specs=(), out_specs=P("a"), check_vma=False
            )
            for found in (jax.jit(whole)(KEY), jax.jit(partial(whole, KEY))(), jax.jit(each)()):
                assert (np.asarray(found)[-8:] == expected).all()
            assert (jax.jit(partial(fill, KEY))() == fill(KEY)).all()


def once():
    """Equal shards are filled once, and whole matrices too; no shard is larger than needed."""
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    made, aligned = [], init.aligned
    for module in (init, fills):
        module.aligned = lambda shape, dtype: made.append(tuple(shape)) or aligned(shape, dtype)
    init.normal()(KEY, (8, 4), None, NamedSharding(mesh, P("a")))
    assert made == [(2, 4)] * 4, made
    made.clear()
    init.orthogonal()(KEY, (8, 4), None, NamedSharding(mesh, P("a")))
    assert made == [(8, 4), *[(2, 4)] * 4], made
    made.clear()
    fill = partial(init.normal(), shape=(8, 4), out_sharding=NamedSharding(mesh, P("a", "b")))
    jax.block_until_ready(jax.jit(fill)(KEY))
    assert made == [(2, 2)] * 8, made
    init.aligned = fills.aligned = aligned


def donated():
    """Devices that share memory do not write to it."""
    sharding = NamedSharding(jax.make_mesh((8,), ("a",)), P())
    first = init.normal()(KEY, (64, 64), None, sharding)
    expected = np.array(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a buffer cannot be donated
        second = jax.jit(lambda x: x + 1, donate_argnums=0)(first)
    for shard in second.addressable_shards:
        assert (np.asarray(shard.data) == expected + 1).all()


def refused():
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    for shape, spec in (((7, 4), P("a")), ((8,), P("a", "b"))):
        for compiled in (False, True):
            fill = partial(init.normal(), shape=shape, out_sharding=NamedSharding(mesh, spec))
            with pytest.raises(ValueError):  # noqa: PT011, JAX's own
                (jax.jit(fill) if compiled else fill)(KEY)


def wide():
    jax.config.update("jax_enable_x64", True)
    for dtype in ("float64", "complex128"):
        found = init.normal()(KEY, (30, 20), dtype)
        assert found.dtype == dtype
        assert (found == fi.normal((30, 20), std=0.01, seed=7, dtype=dtype)).all()
    assert init.normal()(KEY, (3,)).dtype == "float64"


SCRIPTS = {each.__name__: each for each in (sharded, meshes, once, donated, refused, wide)}


@pytest.mark.parametrize("name", SCRIPTS)
def test_eight_devices(name):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", __file__, name],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    assert len(jax.devices()) == 8
    SCRIPTS[sys.argv[1]]()
