"""The arrays that are filled: shapes, memory, dtypes, seeds, windows, threads."""

import array
import math
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from schemes import OURS, SHAPES

import fastinit as fi
from fastinit import initializers
from fastinit.initializers import target

# The byte order that this machine does not have.
SWAPPED = np.dtype("f4").newbyteorder("S").str


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_complex_arrays_of_any_layout(kind):
    """A window of a transposed or strided array has the values of the whole array."""
    for fill in (fi.normal, fi.uniform, fi.he_uniform, fi.flax_dense):
        whole = fill((6, 4), seed=2, dtype=kind)
        turned = np.full((4, 6), np.nan, kind).T
        assert fill(out=turned, seed=2) is turned
        assert_array_equal(turned, whole)
        window = np.s_[1:5, 1:3]
        memory = np.full((9, 8), np.nan, kind)
        out = memory[1:9:2, 7:3:-2]
        assert fill((6, 4), out=out, seed=2, window=window) is out
        assert_array_equal(out, whole[window])
        assert np.isnan(memory).sum() == memory.size - out.size
        assert_array_equal(fill((6, 4), seed=2, dtype=kind, window=window), whole[window])
    # The parts are neighbouring elements of the real array with twice as many columns.
    assert_array_equal(
        fi.uniform((6, 4), seed=2, dtype=kind).view(whole.real.dtype),
        fi.uniform((6, 8), seed=2, dtype=whole.real.dtype),
    )


def test_constants_draw_no_entropy(monkeypatch):
    seeds = []
    key_of = target.key_of
    monkeypatch.setattr(target, "key_of", lambda seed: seeds.append(seed) or key_of(seed))
    for fill in (fi.zeros, fi.ones, fi.constant, fi.identity, fi.zero_init):
        fill((3, 4))
    fi.initializers.dirac((3, 4, 3))
    fi.variance_scaling((3, 4), 0.0)
    fi.truncated_normal(3, std=0.0)
    assert not seeds
    fi.sparse((3, 4))
    assert seeds == [None]  # for both of its streams
    with pytest.raises(TypeError, match="seed: expected int"):
        fi.zeros(3, seed="1")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_every_scheme_fills_any_target(name, kind):
    scheme, shape = initializers.get(name), SHAPES[name]
    whole = scheme(shape, seed=2, dtype=kind)
    assert whole.dtype == kind
    assert whole.shape == shape
    turned = np.full(shape[::-1], np.nan, kind).T
    assert scheme(out=turned, seed=2) is turned
    assert_array_equal(turned, whole)
    window = (slice(1, 5), slice(1, 3))
    big = np.full((9, *shape[1:]), np.nan, kind)
    rows = big[2:6, 1:3]
    assert_array_equal(scheme(shape, seed=2, out=rows, window=window), whole[window])
    assert np.isnan(big).sum() == big.size - rows.size
    assert_array_equal(scheme(shape, seed=2, dtype=kind, threads=2), whole)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("length", [0, 1])
def test_empty_and_single(name, length):
    """An empty array is filled with a warning."""
    shape = (length, *SHAPES[name][1:]) if name != "delta_orthogonal" else (4, length, 3)
    expected = nullcontext() if length else pytest.warns(UserWarning, match="has no elements")
    with expected:
        assert initializers.get(name)(shape, seed=0).shape == shape


def test_memmap(tmp_path):
    path = tmp_path / "weights.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, (100, 50))
    fi.he_normal(out=out[20:], seed=1)
    out.flush()
    loaded = np.load(path)
    assert_array_equal(loaded[20:], fi.he_normal((80, 50), seed=1, dtype="float32"))
    assert not loaded[:20].any()


def test_buffers():
    out = array.array("f", [9.0] * 10)
    assert fi.normal(out=out, seed=1) is out
    assert_array_equal(np.array(out), fi.normal(10, seed=1, dtype="float32"))
    fi.normal(out=memoryview(out), seed=2)
    assert_array_equal(np.array(out), fi.normal(10, seed=2, dtype="float32"))
    frozen = memoryview(np.ones(2).tobytes()).cast("d")
    with pytest.raises(ValueError, match="out: expected a writable array"):
        fi.normal(out=frozen, seed=0)
    with pytest.raises(TypeError, match=r"out: expected dtype float64.*; got uint8"):
        fi.normal(out=bytearray(8), seed=0)


class WithDLPack:
    """An array that supports DLPack only."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **keywords):
        return self.values.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_dlpack():
    out = WithDLPack(np.zeros((3, 4)))
    if not np.from_dlpack(out).flags.writeable:
        pytest.skip(f"NumPy {np.__version__} takes DLPack read-only")
    assert fi.normal(out=out, seed=1) is out
    assert_array_equal(out.values, fi.normal((3, 4), seed=1))


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_torch(kind):
    torch = pytest.importorskip("torch")
    out = torch.full((40, 30), math.nan, dtype=getattr(torch, kind), requires_grad=True)
    assert fi.he_normal(out=out, seed=1) is out
    assert out.requires_grad
    assert out.is_leaf
    floats = fi.he_normal((40, 30), seed=1, dtype="float64" if kind == "float64" else "float32")
    assert torch.equal(out.detach(), torch.from_numpy(floats).to(out.dtype))
    turned = torch.empty(30, 40, dtype=out.dtype).T
    fi.he_normal(out=turned, seed=1)
    assert torch.equal(turned, out.detach())
    (out.float() ** 2).sum().backward()
    assert out.grad is not None
    module = torch.nn.Linear(30, 40).to(out.dtype)
    fi.he_normal(out=module.weight, seed=1)
    assert torch.equal(module.weight.detach(), out.detach())


def test_refused_tensors():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(ValueError, match="out: expected distinct memory"):
            fi.normal(out=torch.zeros(1, dtype=dtype).expand(3), seed=0)
    with pytest.raises(TypeError, match="out: expected a tensor on the CPU; got one on meta"):
        fi.normal(out=torch.zeros(3, device="meta"), seed=0)
    with pytest.raises(TypeError, match=r"out: expected dtype float64.*; got int32"):
        fi.normal(out=torch.zeros(3, dtype=torch.int32), seed=0)


def test_jax_arrays_are_immutable():
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match="out: expected a writable array"):
        fi.normal(out=jax.numpy.zeros(3), seed=0)


def test_bits_of_bfloat16():
    """Arrays of uint16 hold them; without the dtype they are refused."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.empty((300, 7), np.uint16)
    assert fi.normal(out=bits, dtype="bfloat16", seed=1) is bits
    expected = fi.normal((300, 7), dtype=ml_dtypes.bfloat16, seed=1)
    assert bits.tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="out: expected dtype"):
        fi.normal(out=bits, seed=1)
    with pytest.raises(TypeError, match="out: expected dtype"):
        fi.normal(out=bits, dtype="float16", seed=1)


def test_bfloat16_is_no_dependency():
    """Without ml_dtypes there is a clear message, and fills import no optional package."""
    code = """
        import sys
        sys.modules["ml_dtypes"] = None
        import fastinit as fi
        fi.he_normal((3, 3), dtype="float16", seed=0)
        assert not {"torch", "jax", "scipy"} & set(sys.modules)
        try:
            fi.normal(3, dtype="bfloat16")
        except TypeError as error:
            print(error)
    """
    found = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("dtype: expected the package ml_dtypes for bfloat16")


@pytest.mark.parametrize(
    ("seed", "key"),
    [
        (5, 5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.random.SeedSequence(9), int(np.random.SeedSequence(9).generate_state(1, np.uint64)[0])),
        (
            np.random.default_rng(9),
            int(np.random.default_rng(9).integers(2**64, dtype=np.uint64)),
        ),
    ],
)
def test_seeds(seed, key):
    assert_array_equal(fi.normal(5, seed=seed), fi.normal(5, seed=key))


def test_no_seed_is_fresh_entropy_and_touches_no_global_state():
    state = np.random.get_state()[1].copy()
    assert (fi.normal(5) != fi.normal(5)).all()
    assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_neighbours_of_a_bound(kind):
    """at_least, at_most and below for all numbers of a range."""
    if kind == "bfloat16":
        bits = np.arange(0x3F00, 0x4080, dtype=np.uint32) << 16
        numbers = np.concatenate([-bits.view(np.float32)[::-1], bits.view(np.float32)])
    else:
        dtype = np.dtype(kind).type
        numbers = [dtype(0.5)]
        while len(numbers) < 400:
            numbers.append(np.nextafter(numbers[-1], dtype(9)))
        numbers = np.concatenate([-np.array(numbers)[::-1], numbers])
    numbers = numbers.astype(np.float64)
    for low, high in pairwise(numbers):
        if (low < 0) == (high < 0):
            for value in (math.nextafter(low, 9), (low + high) / 2, high):
                assert target.at_least(value, kind) == high
                assert target.below(value, kind) == low
            assert target.at_most(high, kind) == high


REFUSED = [
    (lambda o: fi.normal(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.truncated_normal(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.sparse(out=o, std=-1), ValueError, "std: expected >= 0; got -1"),
    (lambda o: fi.sparse(out=o, sparsity=1.5), ValueError, "sparsity: expected 0 <= .* got 1.5"),
    (lambda o: fi.variance_scaling(out=o, scale=-1), ValueError, "scale: expected >= 0; got -1"),
    (lambda o: fi.truncated_normal(out=o, lower=2, upper=2), ValueError, "lower, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, lower=3, upper=2), ValueError, "lower, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, lower=38, upper=39), ValueError, "lower, upper: .* 37"),
    (
        lambda o: fi.truncated_normal(out=o, a=3, b=2),
        ValueError,
        "^a, b: expected a lower bound below the upper one; got 3.0 and 2.0$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, lower=1, b=-1),
        ValueError,
        "^lower, b: .* below the upper one; got 1.0 and -1.0 standard deviations from the mean$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, std=1e-6, a=1, b=2),
        ValueError,
        "^a, b: expected an interval that reaches within 37 standard deviations of the mean; got "
        r"one from 1000000.0 to 2000000.0$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, lower=-2.0, a=-1),
        TypeError,
        "^lower, a: expected at most one of them; got both$",
    ),
    (
        lambda o: fi.truncated_normal(out=o, upper=2.0, b=1),
        TypeError,
        "^upper, b: expected at most one of them; got both$",
    ),
    (lambda o: fi.truncated_normal(out=o, a=math.nan), ValueError, "a: .*; got nan"),
    (lambda o: fi.truncated_normal(out=o, b="1"), TypeError, "b: expected a number; got str"),
    (lambda o: fi.truncated_normal(out=o, a=math.inf), ValueError, "a, upper: expected"),
    (lambda o: fi.truncated_normal(out=o, mean=math.nan, std=0), ValueError, "mean: .*; got nan"),
    (lambda o: fi.uniform(out=o, low=1, high=1), ValueError, "low, high: expected low < high"),
    (lambda o: fi.uniform(out=o, low=2, high=1), ValueError, "low, high: expected low < high"),
    (lambda o: fi.uniform(out=o, low=-1e308, high=1e308), ValueError, "high - low: .* got inf"),
    (lambda o: fi.normal(out=o, std=math.nan), ValueError, "std: expected a finite.*; got nan"),
    (lambda o: fi.normal(out=o, mean=math.nan), ValueError, "mean: expected a finite.*; got nan"),
    (lambda o: fi.uniform(out=o, low=math.nan), ValueError, "low: expected a finite.*; got nan"),
    (lambda o: fi.uniform(out=o, high=math.inf), ValueError, "high: expected a finite.*; got inf"),
    (lambda o: fi.truncated_normal(out=o, lower=math.nan), ValueError, "lower: .*; got nan"),
    (lambda o: fi.truncated_normal(out=o, upper=math.nan), ValueError, "upper: .*; got nan"),
    (lambda o: fi.variance_scaling(out=o, scale=math.nan), ValueError, "scale: .*; got nan"),
    (lambda o: fi.orthogonal(out=o, gain=math.nan), ValueError, "gain: .*; got nan"),
    (lambda o: fi.normal(out=o, std="1"), TypeError, "std: expected a number; got str"),
    (lambda o: fi.normal(out=o, seed=-1), ValueError, "seed: expected 0 <= seed < 2.*; got -1"),
    (lambda o: fi.normal(out=o, seed=2**64), ValueError, "seed: expected 0 <= seed < 2"),
    (lambda o: fi.normal(out=o, seed=1.0), TypeError, "seed: expected int.*; got float"),
    (lambda o: fi.normal(out=o, seed="1"), TypeError, "seed: expected int.*; got str"),
    (lambda o: fi.normal(out=o, seed=True), TypeError, "seed: expected int.*; got bool"),
    (lambda o: fi.normal(out=o, stream=-1), ValueError, "stream: expected an integer .*; got -1"),
    (
        lambda o: fi.normal(out=o, stream=2**63),
        ValueError,
        r"^stream: expected an integer from 0 to 2\*\*63 - 1; got 9223372036854775808$",
    ),
    (lambda o: fi.normal(out=o, stream=0.5), TypeError, "stream: expected an integer; got float"),
    (
        lambda o: fi.normal(out=o, threads=0),
        ValueError,
        "threads: expected an integer from 1 .*; got 0",
    ),
    (lambda o: fi.normal(out=o, threads=1.5), TypeError, "threads: expected an integer; got float"),
    (lambda o: fi.normal((3, 5), out=o), ValueError, r"out: expected shape \(3, 5\); got \(3, 4\)"),
    (lambda o: fi.normal(out=o, dtype="float32"), TypeError, "dtype: expected that of out"),
    (lambda o: fi.normal(out=o, window=np.s_[:]), TypeError, "window: expected the shape of"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[3:7]), ValueError, "window: .* 6 of axis 0"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[-7:3]), ValueError, "window: .* 6 of axis 0"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[::2]), ValueError, "window: .* a step"),
    (lambda o: fi.normal((6, 4), out=o, window=(3,)), TypeError, "window: expected a slice or a"),
    (lambda o: fi.normal((6, 4), out=o, window=np.s_[:, :, :]), ValueError, "window: .* at most"),
    (lambda o: fi.normal((6, 4), out=o, window=slice(0.5)), TypeError, "window: expected integers"),
    (lambda o: fi.variance_scaling(out=o, mode="fan"), ValueError, "mode: expected .*; got 'fan'"),
    (
        lambda o: fi.variance_scaling(out=o, distribution="cauchy"),
        ValueError,
        "distribution: expected one of normal.*; got 'cauchy'",
    ),
    (
        lambda o: fi.he_normal(out=o, in_axis=2),
        ValueError,
        "in_axis: expected an integer from -2 to 1; got 2",
    ),
    (
        lambda o: fi.he_normal(out=o, in_axis=0),
        ValueError,
        r"in_axis, out_axis, batch_axis: expected each axis of shape \(3, 4\) at most once; got "
        r"in_axis=0, out_axis=0, batch_axis=\(\)",
    ),
    (lambda o: fi.he_normal(out=o[0]), ValueError, "shape: expected at least 2 axes"),
    (lambda o: fi.dirac(out=o), ValueError, "shape: expected 3 to 5 axes"),
    (lambda o: fi.dirac(out=o[..., None], groups=2), ValueError, "groups: expected a divisor"),
    (lambda o: fi.delta_orthogonal(out=o), ValueError, "shape: expected 3 to 5 axes"),
    (lambda o: fi.delta_orthogonal(out=o[..., None]), ValueError, "shape: expected at most"),
    (lambda o: fi.identity(out=o[0]), ValueError, "shape: expected 2 axes"),
    (lambda o: fi.kaiming_normal(out=o, nonlinearity="x"), ValueError, "nonlinearity: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused_before_anything_is_written(call, error, message):
    out = np.full((3, 4), 7.0)
    with pytest.raises(error, match=message):
        call(out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.ones(3, int), TypeError, "out: expected dtype float64.*; got int64"),
        (np.ones(3, SWAPPED), TypeError, f"out: expected native byte order; got {SWAPPED}"),
        (np.broadcast_to(1.0, 3), ValueError, "out: expected a writable array"),
        (np.frombuffer(bytearray(25), "f8", 3, 1), ValueError, "out: expected aligned memory"),
        ([1.0, 2.0], TypeError, "out: expected a NumPy array, DLPack or a buffer.*; got list"),
    ],
)
def test_refused_targets(out, error, message):
    with pytest.raises(error, match=message):
        fi.normal(out=out, seed=0)


def test_refused_broadcast_target():
    out = np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,))
    with pytest.raises(ValueError, match="out: expected distinct memory"):
        fi.normal(out=out, seed=0)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (None, TypeError, "shape: expected a shape, or an array as out="),
        (-1, ValueError, "shape: expected lengths >= 0"),
        ((2, -3), ValueError, "shape: expected lengths >= 0"),
        (2.0, TypeError, "shape: expected integers; got 2.0"),
        ((2, 3.0), TypeError, "shape: expected integers"),
        ("23", TypeError, "shape: expected integers; got '23'"),
        (True, TypeError, "shape: expected integers; got True"),
        ((2, np.True_), TypeError, "shape: expected integers"),
        ({2, 3}, TypeError, "shape: expected integers; got {2, 3}"),
        (np.ones((2, 2), int), TypeError, "shape: expected integers"),
        ((2**32, 2**31), ValueError, "shape: expected fewer than 2.*63 elements"),
        ((2**200,), ValueError, "shape: expected fewer than 2.*63 elements"),
    ],
)
def test_refused_shapes(shape, error, message):
    with pytest.raises(error, match=message):
        fi.normal(shape, seed=0)


@pytest.mark.parametrize("dtype", ["int32", "longdouble", "clongdouble", SWAPPED])
def test_refused_dtypes(dtype):
    if np.dtype(dtype) in (np.float64, np.complex128):
        pytest.skip(f"{dtype} is {np.dtype(dtype)} on this platform")
    with pytest.raises(
        TypeError,
        match="dtype: expected float64, float32, float16, bfloat16, complex64 or complex128; got",
    ):
        fi.normal(3, dtype=dtype)
    with pytest.raises(TypeError, match="out: expected "):
        fi.normal(out=np.ones(3, dtype), seed=0)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 3), (8, 8)),
        ((4, 4), (16, 8)),
        ((5,), (4,)),
        ((2, 3, 4), (64, 8, 16)),
        ((9, 9), (-8, 8)),
    ],
)
def test_elements_that_share_memory(shape, strides):
    memory = np.zeros(200)
    start = memory[100:]
    out = np.lib.stride_tricks.as_strided(start, shape, strides)
    with pytest.raises(ValueError, match="out: expected"):
        fi.normal(out=out, seed=0)
    assert not memory.any()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T, lambda a: a[::2, ::3], lambda a: a[::-1], lambda a: a[:, ::-1].T,
        lambda a: a[:1], lambda a: a[:0], lambda a: a.reshape(4, 3, 12).transpose(2, 0, 1),
        lambda a: np.lib.stride_tricks.as_strided(a, (2, 2), (24, 16)),
    ],
)  # fmt: skip
def test_views_whose_elements_are_apart(view):
    memory = np.full((12, 12), np.nan)
    out = view(memory)
    empty = pytest.warns(UserWarning, match="has no elements") if out.size == 0 else nullcontext()
    with empty:
        expected = fi.normal(out.shape, seed=0)
        assert fi.normal(out=out, seed=0) is out
    assert_array_equal(out, expected)
    assert np.isnan(memory).sum() == memory.size - out.size


def test_an_interrupt_while_threads_are_waited_for(monkeypatch):
    """It is raised once no thread writes to the caller's memory any more."""
    join, go_on = threading.Thread.join, threading.Event()

    def join_interrupted(self, timeout=None):
        if not go_on.is_set():
            go_on.set()
            raise KeyboardInterrupt
        join(self, timeout)

    helpers = [threading.Thread(target=go_on.wait) for _ in range(2)]
    for helper in helpers:
        helper.start()
    monkeypatch.setattr(threading.Thread, "join", join_interrupted)
    with pytest.raises(KeyboardInterrupt):
        target.join_all(helpers)
    assert not any(helper.is_alive() for helper in helpers)


def test_fills_without_threads(few_threads):
    expected = fi.normal((2048, 1024), seed=0, dtype="float32", threads=1)
    found = fi.normal((2048, 1024), seed=0, dtype="float32", threads=4)
    assert_array_equal(found, expected)
