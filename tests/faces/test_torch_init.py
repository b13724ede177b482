"""The functions of ``torch.nn.init``: PyTorch's own tests of them, and what fastinit adds."""

import functools
import math
import threading
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

import fastinit as fi  # noqa: E402
from fastinit import torch as init  # noqa: E402
from fastinit.torch import devices  # noqa: E402

nn = torch.nn
# PyTorch's tests accept this much; ours have fixed seeds.
LEAST_P = 1e-4
REAL = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
RANDOM = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "orthogonal_": init.orthogonal_,
    "sparse_": functools.partial(init.sparse_, sparsity=0.3),
}


@pytest.fixture(autouse=True)
def seeded():
    """The default generator is the seed of calls without one; the state is restored."""
    state = torch.get_rng_state()
    torch.manual_seed(123)
    yield
    torch.set_rng_state(state)


@pytest.fixture
def rng():
    return np.random.default_rng(123)


def zeros(rng, dims, low, high):
    return torch.zeros([int(n) for n in rng.integers(low, high + 1, dims)])


def fits(tensor, distribution, *args):
    # SciPy 1.18 refuses parameters of a normal distribution given by name.
    cdf = getattr(stats, distribution)(*args).cdf
    return stats.kstest(tensor.double().flatten().numpy(), cdf).pvalue > LEAST_P


def is_uniform(tensor, a, b):
    return fits(tensor, "uniform", a, b - a)


def is_truncated(tensor, mean, std, a, b):
    z = (tensor.double() - mean) / std
    return fits(z, "truncnorm", (a - mean) / std, (b - mean) / std)


def fans(tensor):
    field = tensor[0, 0].numel()
    return tensor.shape[1] * field, tensor.shape[0] * field


# --- PyTorch's own tests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        *((f"conv{kind}{n}d", 1) for kind in ("", "_transpose") for n in (1, 2, 3)),
        ("linear", 1),
        ("sigmoid", 1),
        ("tanh", 5 / 3),
        ("relu", math.sqrt(2)),
        ("leaky_relu", math.sqrt(2 / (1 + 0.01**2))),
        ("selu", 0.75),
    ],
)
def test_gains(name, gain):
    assert init.calculate_gain(name) == gain


def test_gain_of_leaky_relu():
    for slope in (0, 0.01, 10):
        assert init.calculate_gain("leaky_relu", slope) == math.sqrt(2 / (1 + slope**2))
    for slope in (True, [1], {"a": "b"}):
        with pytest.raises(ValueError, match="not a valid number"):
            init.calculate_gain("leaky_relu", slope)
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("qwert")


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_uniform(rng, dims):
    tensor = zeros(rng, dims, 30, 50)
    a = rng.uniform(-3, 3)
    b = a + rng.uniform(1, 5)
    assert init.uniform_(tensor, a=a, b=b) is tensor
    assert is_uniform(tensor, a, b)


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_normal(rng, dims):
    tensor = zeros(rng, dims, 30, 50)
    mean, std = rng.uniform(-3, 3), rng.uniform(1, 5)
    assert init.normal_(tensor, mean=mean, std=std) is tensor
    assert fits(tensor, "norm", mean, std)


@pytest.mark.parametrize("dims", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_truncated_normal(rng, dims, dtype):
    tensor = zeros(rng, dims, 30, 50).to(dtype)
    mean, std = rng.uniform(-3, 3), rng.uniform(0.01, 1)
    a, b = rng.uniform(mean - 2 * std, mean), rng.uniform(mean, mean + 2 * std)
    assert init.trunc_normal_(tensor, mean=mean, std=std, a=a, b=b) is tensor
    assert tensor.min() >= torch.tensor(a, dtype=dtype)
    assert tensor.max() <= torch.tensor(b, dtype=dtype)
    assert is_truncated(tensor, mean, std, a, b)


@pytest.mark.parametrize("dtype", REAL)
def test_truncated_normal_in_low_precision(dtype):
    tensor = init.trunc_normal_(torch.empty(10_000, dtype=dtype))
    assert tensor.min() >= -2
    assert tensor.max() <= 2
    assert is_truncated(tensor, 0.0, 1.0, -2.0, 2.0)
    least = {torch.float16: 3000, torch.bfloat16: 1000}.get(dtype, 5000)
    assert tensor.unique().numel() > least
    assert tensor.isfinite().all()


# bfloat16 has 65 numbers in [2, 3], too few for the test.
@pytest.mark.parametrize("dtype", REAL[:3])
def test_truncated_normal_in_a_tail(dtype):
    tensor = init.trunc_normal_(torch.empty(10_000, dtype=dtype), a=2.0, b=3.0)
    assert tensor.min() >= 2
    assert tensor.max() <= 3
    assert is_truncated(tensor, 0.0, 1.0, 2.0, 3.0)


@pytest.mark.parametrize("dtype", REAL)
def test_truncated_normal_is_not_clamped(dtype):
    tensor = init.trunc_normal_(torch.empty(10_000, dtype=dtype), std=0.1, a=-2.0, b=2.0)
    assert not (tensor.abs() == 2).any()


def test_truncated_normal_with_a_generator():
    generator = torch.Generator().manual_seed(42)
    tensor = init.trunc_normal_(torch.empty(5), generator=generator)
    torch.manual_seed(42)
    assert torch.equal(init.trunc_normal_(torch.empty(5)), tensor)


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_constants(rng, dims):
    tensor = zeros(rng, dims, 1, 5)
    for fill, value in ((init.ones_, 1), (init.zeros_, 0)):
        assert fill(tensor) is tensor
        assert torch.equal(tensor, torch.full_like(tensor, value))
    assert init.constant_(tensor, 2.5) is tensor
    assert torch.equal(tensor, torch.full_like(tensor, 2.5))


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 1)])
def test_eye(shape):
    assert torch.equal(init.eye_(torch.full(shape, 9.0)), torch.eye(*shape))


@pytest.mark.parametrize("dims", [3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_dirac(rng, dims, groups):
    """PyTorch's own function is the oracle; its convolutions show what the kernel is for."""
    a, c, d, e = (int(n) for n in rng.integers(1, 6, 4))
    b = int(rng.integers(1, 5 * groups + 1))
    tensor = torch.randn((a * groups, b, c, d, e)[:dims])
    expected = nn.init.dirac_(tensor.clone(), groups)
    assert torch.equal(init.dirac_(tensor, groups), expected)
    assert tensor.count_nonzero() == groups * min(a, b) == tensor.sum()
    kernel = init.dirac_(torch.empty(3 * groups, 3, *[3] * (dims - 2)), groups)
    inputs = torch.randn(8, 3, *[5] * (dims - 2))
    outputs = getattr(nn.functional, f"conv{dims - 2}d")(inputs, kernel)
    inside = inputs[(..., *[slice(1, -1)] * (dims - 2))]
    for group in outputs.split(3, dim=1):
        torch.testing.assert_close(group, inside)


@pytest.mark.parametrize("gain", [None, 1.7])
@pytest.mark.parametrize("dims", [2, 4])
def test_xavier(rng, dims, gain):
    keywords = {} if gain is None else {"gain": gain}
    tensor = zeros(rng, dims, 20, 25)
    std = (gain or 1) * math.sqrt(2 / sum(fans(tensor)))
    init.xavier_uniform_(tensor, **keywords)
    assert is_uniform(tensor, -std * math.sqrt(3), std * math.sqrt(3))
    init.xavier_normal_(tensor, **keywords)
    assert fits(tensor, "norm", 0, std)


@pytest.mark.parametrize("a", [None, 1.3])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("dims", [2, 4])
def test_kaiming(rng, dims, mode, a):
    keywords = {} if a is None else {"a": a}
    tensor = zeros(rng, dims, 20, 25)
    std = math.sqrt(2 / (1 + (a or 0) ** 2) / fans(tensor)[mode == "fan_out"])
    init.kaiming_uniform_(tensor, mode=mode, **keywords)
    assert is_uniform(tensor, -std * math.sqrt(3), std * math.sqrt(3))
    init.kaiming_normal_(tensor, mode=mode, **keywords)
    assert fits(tensor, "norm", 0, std)


def test_sparse(rng):
    for std in (None, 0.17):
        tensor = zeros(rng, 2, 30, 35)
        sparsity = rng.uniform(0.1, 0.2)
        init.sparse_(tensor, sparsity, **({} if std is None else {"std": std}))
        assert ((tensor == 0).sum(0) == math.ceil(sparsity * len(tensor))).all()
        assert fits(tensor[tensor != 0], "norm", 0, std or 0.01)


@pytest.mark.parametrize("gain", [None, 1.7])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (20, 2, 3, 4), (2, 3, 4, 5)])
def test_orthogonal(shape, gain):
    tensor = torch.zeros(shape)
    init.orthogonal_(tensor, **({} if gain is None else {"gain": gain}))
    matrix = tensor.flatten(1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    expected = torch.eye(len(matrix)) * (gain or 1) ** 2
    torch.testing.assert_close(matrix @ matrix.T, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("call", "dims", "message"),
    [
        (init.eye_, (1, 3), "2 dimensions"),
        (init.dirac_, (1, 2, 6), "3, 4, or 5 dimensions"),
        (lambda t: init.sparse_(t, 0.5), (1, 3), "2 dimensions"),
        (init.orthogonal_, (0, 1), "2 or more dimensions"),
        (init.xavier_uniform_, (0, 1), "fewer than 2 dimensions"),
        (init.xavier_normal_, (0, 1), "fewer than 2 dimensions"),
        (init.kaiming_uniform_, (0, 1), "fewer than 2 dimensions"),
        (init.kaiming_normal_, (0, 1), "fewer than 2 dimensions"),
    ],
)
def test_dimensions(call, dims, message):
    for n in dims:
        with pytest.raises(ValueError, match=message):
            call(torch.zeros((2,) * n))


@pytest.mark.parametrize("fill", [init.kaiming_uniform_, init.kaiming_normal_])
def test_empty_tensors_warn_as_in_torch(fill):
    tensor = torch.empty(0, 1)
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        assert fill(tensor) is tensor


@pytest.mark.parametrize("fill", RANDOM.values(), ids=RANDOM)
def test_other_empty_tensors(fill):
    tensor = torch.empty(3, 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element")
        assert fill(tensor) is tensor


def test_deprecated_names():
    old = [name for name in dir(nn.init) if hasattr(nn.init, name + "_") and name[0] != "_"]
    assert len(old) == 11
    for name in old:
        assert callable(getattr(init, name))
    with pytest.warns(FutureWarning, match="deprecated in favor of `nn.init.normal_`"):
        init.normal(torch.randn(3, 3))


# --- errors as PyTorch's --------------------------------------------------------------------------


def both(name, *args, **keywords):
    """Call a function of both libraries; return the types of the exceptions."""
    found = []
    for module in (nn.init, init):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(module, name)(*args, **keywords)
            found.append(None)
        except Exception as error:
            found.append(type(error))
    return found


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("normal_", (torch.zeros(3), 0.0, -1.0)),
        ("uniform_", (torch.zeros(3), 2.0, 1.0)),
        ("trunc_normal_", (torch.zeros(3), 0.0, 1.0, 3.0, 2.0)),
        ("trunc_normal_", (torch.zeros(3, dtype=torch.complex64),)),
        ("normal_", (torch.zeros(3, dtype=torch.int64),)),
        ("uniform_", (torch.zeros(3, dtype=torch.int64),)),
        ("normal_", (torch.zeros(3, dtype=torch.float8_e4m3fn),)),
        ("normal_", (torch.zeros(1, 3).expand(3, 3),)),
        ("normal_", (torch.zeros(3), 0.0, "x")),
        ("kaiming_normal_", (torch.zeros(3, 3), 0, "fan_avg")),
        ("kaiming_uniform_", (torch.zeros(3, 3), 0, "fan_in", "gelu")),
        ("kaiming_uniform_", (torch.zeros(3, 3), True)),
        ("dirac_", (torch.zeros(4, 2, 3), 3)),
        ("constant_", (torch.zeros(3), "x")),
        ("sparse_", (torch.zeros(3, 3),)),
    ],
)
def test_errors_have_the_types_of_torch(name, args):
    theirs, ours = both(name, *args)
    assert theirs is not None
    assert ours is not None
    assert issubclass(ours, theirs)


def test_bad_tensors_and_seeds():
    with pytest.raises(TypeError, match="tensor: expected a Tensor; got list"):
        init.normal_([1.0])
    with pytest.raises(TypeError, match="generator, seed: expected at most one"):
        init.normal_(torch.zeros(3), generator=torch.Generator(), seed=0)
    with pytest.raises(ValueError, match="seed: expected 0 <="):
        init.normal_(torch.zeros(3), seed=-1)
    with pytest.raises(ValueError, match="stream: expected"):
        init.normal_(torch.zeros(3), seed=0, stream=-1)


@pytest.mark.parametrize("value", ["x", None, 1j, [1.0], torch.tensor(1j)])
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("uniform_", "a"), ("uniform_", "b"), ("normal_", "mean"), ("normal_", "std"),
        ("trunc_normal_", "std"), ("trunc_normal_", "b"), ("xavier_normal_", "gain"),
        ("kaiming_normal_", "a"), ("orthogonal_", "gain"), ("sparse_", "sparsity"),
    ],
)  # fmt: skip
def test_arguments_that_are_no_numbers(name, argument, value):
    tensor = torch.zeros(3, 3)
    with pytest.raises(TypeError, match=f"^{argument}: expected a number"):
        getattr(init, name)(tensor, **{argument: value})
    assert not tensor.any()


def test_other_arguments():
    with pytest.raises(TypeError, match=r"generator: expected a torch\.Generator; got int"):
        init.normal_(torch.zeros(3), generator=0)
    with pytest.raises(ValueError, match="groups: expected an integer from 1"):
        init.dirac_(torch.zeros(4, 2, 3), groups=0)


def test_warning_of_bounds_far_from_the_mean():
    tensor = torch.empty(1000)
    with pytest.warns(UserWarning, match="mean is more than 2 std") as caught:
        init.trunc_normal_(tensor, std=0.02, a=0.06, b=0.08)
    assert caught[0].filename == __file__
    assert tensor.min() >= 0.06
    assert is_truncated(tensor, 0.0, 0.02, 0.06, 0.08)


# --- what fastinit adds ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", REAL)
def test_values_are_those_of_fastinit(name, dtype):
    """Of every dtype and any strides."""
    ours = {
        "uniform_": fi.uniform,
        "normal_": fi.normal,
        "trunc_normal_": functools.partial(fi.truncated_normal, a=-2.0, b=2.0),
        "sparse_": functools.partial(fi.sparse, sparsity=0.3),
    }
    fill = ours.get(name) or getattr(fi, name[:-1])
    expected = fill(out=torch.empty(6, 4, dtype=dtype), seed=5, stream=7)
    for tensor in (torch.empty(6, 4, dtype=dtype), torch.empty(4, 6, dtype=dtype).T):
        RANDOM[name](tensor, seed=5, stream=7)
        assert torch.equal(tensor, expected)


@pytest.mark.parametrize("name", RANDOM)
def test_generator_is_drawn_from_once(name):
    generator = torch.Generator().manual_seed(1)
    first = RANDOM[name](torch.empty(6, 4), generator=generator)
    again = torch.Generator().manual_seed(1)
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=again))
    assert torch.equal(generator.get_state(), again.get_state())
    assert torch.equal(first, RANDOM[name](torch.empty(6, 4), seed=seed))
    assert not torch.equal(first, RANDOM[name](torch.empty(6, 4), generator=generator))


def test_constants_draw_nothing():
    state = torch.get_rng_state()
    for fill in (init.ones_, init.zeros_, init.eye_):
        fill(torch.empty(3, 3))
    init.dirac_(torch.empty(3, 3, 3))
    assert torch.equal(torch.get_rng_state(), state)


EVERY = {
    **RANDOM,
    "constant_": functools.partial(init.constant_, val=2.0),
    "eye_": init.eye_,
    "ones_": init.ones_,
    "zeros_": init.zeros_,
}


@pytest.mark.parametrize("name", EVERY)
def test_autograd_notices(name):
    """A leaf is filled without a history, and a graph that saved it is not run backwards."""
    leaf = torch.ones(4, 4, requires_grad=True)
    saved = (leaf**2).sum()
    version = leaf._version
    assert EVERY[name](leaf) is leaf
    assert leaf._version > version
    assert leaf.is_leaf
    assert leaf.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()
    (leaf**2).sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * leaf.detach())


def test_view_and_its_base_share_a_version():
    base = torch.zeros(4, 4)
    version = base._version
    init.normal_(base[1:3], seed=0)
    assert base._version > version
    assert not base[0].any()
    assert base[1:3].all()


def test_inference_tensors():
    with torch.inference_mode():
        tensor = init.normal_(torch.empty(3), seed=0)
    assert torch.equal(tensor, init.normal_(torch.empty(3), seed=0))


def test_methods_of_tensors_keep_their_gradients():
    """Under patch, they are operations of autograd, as those of torch are."""
    leaf = torch.ones(3, requires_grad=True)
    with init.patch(seed=0):
        drawn = (leaf * 2).normal_()
        expected = torch.empty(3).normal_()
        (drawn.sum() + leaf.sum()).backward()
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            leaf.normal_()
        with torch.no_grad():
            leaf.normal_()
    assert leaf.grad.tolist() == [1, 1, 1]
    assert drawn.isfinite().all()
    assert not torch.equal(drawn, expected)


def test_fake_tensors_are_left_alone():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        for fill in EVERY.values():
            fill(torch.empty(4, 4))
        with init.patch(seed=0):
            assert nn.Linear(3, 4).weight.shape == (4, 3)
        with pytest.raises(TypeError, match="memory of their own; got a FakeTensor"):
            init.initialize(nn.Linear(3, 4), seed=0)


@pytest.mark.parametrize("name", EVERY)
def test_meta_tensors_are_left_alone(name):
    state = torch.get_rng_state()
    tensor = torch.empty(4, 4, device="meta")
    assert EVERY[name](tensor) is tensor
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_dtypes_that_initialisers_lack(dtype):
    for fill in (init.ones_, init.zeros_, init.eye_):
        tensor = fill(torch.empty(3, 4, dtype=dtype))
        expected = fill(torch.empty(3, 4)).to(dtype)
        assert torch.equal(tensor.to(torch.complex64), expected.to(torch.complex64))
    kernel = init.dirac_(torch.empty(2, 2, 3, dtype=dtype)).to(torch.complex64)
    assert kernel.real.sum() == 2


def test_complex():
    tensor = init.normal_(torch.empty(6, 4, dtype=torch.complex64), seed=1)
    np.testing.assert_array_equal(tensor.numpy(), fi.normal((6, 4), seed=1, dtype="complex64"))
    conjugate = init.normal_(torch.empty(6, 4, dtype=torch.complex64).conj(), seed=1)
    assert conjugate.is_conj()
    assert torch.equal(conjugate, tensor)


def test_numbers_as_tensors():
    mean, std = torch.tensor(1.0), torch.tensor(2.0)
    tensor = init.normal_(torch.empty(9), mean, std, seed=0)
    assert torch.equal(tensor, init.normal_(torch.empty(9), 1.0, 2.0, seed=0))


def test_subclasses_are_filled_by_copies(monkeypatch):
    """What has memory of another kind is filled in chunks, with the same bits."""

    class Other(torch.Tensor):
        pass

    monkeypatch.setattr(devices, "CHUNK", 64)
    for name, fill in RANDOM.items():
        plain = fill(torch.empty(40, 30), seed=3)
        other = torch.empty(40, 30).as_subclass(Other)
        assert fill(other, seed=3) is other
        assert torch.equal(other.as_subclass(torch.Tensor), plain), name
    scalar = init.normal_(torch.empty(()).as_subclass(Other), seed=3)
    assert scalar.item() == init.normal_(torch.empty(()), seed=3).item()


# --- patch ----------------------------------------------------------------------------------------


class Model(nn.Module):
    """Initialises in the ways that are found in the wild."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.attention = nn.MultiheadAttention(4, 2)  # imports functions by name
        self.norm = nn.BatchNorm1d(5)
        self.token = nn.Parameter(torch.randn(1, 3, dtype=torch.float64))
        self.scale = nn.Parameter(torch.rand(3))
        self.like = nn.Parameter(torch.randn_like(self.scale))
        self.other = nn.Parameter(torch.empty(30, 30))
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=0.02)
            if module.bias is not None:
                module.bias.data.zero_()
        if module is self:
            module.other.data.uniform_(to=2, **{"from": 1})


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return {name: torch.equal(first[name], second[name]) for name in first}


def test_patch_makes_constructors_reproducible():
    with init.patch(seed=0):
        first = state(Model())
    torch.rand(3)
    with init.patch(seed=0):
        model = Model()
        second = state(model)
    assert all(same(first, second).values())
    with init.patch(seed=1):
        other = state(Model())
    random = {name for name, equal in same(first, other).items() if not equal}
    assert random == {
        "linear.weight", "attention.in_proj_weight", "attention.out_proj.weight",
        "token", "scale", "like", "other",
    }  # fmt: skip
    assert is_uniform(first["other"], 1, 2)
    with init.patch(seed=3):
        model.linear.reset_parameters()
    assert torch.equal(
        model.linear.weight,
        init.kaiming_uniform_(torch.empty(5, 6), a=math.sqrt(5), seed=3, stream=0),
    )


def test_patch_leaves_the_default_generator_alone():
    before = torch.get_rng_state()
    with init.patch(seed=0):
        Model()
    assert torch.equal(torch.get_rng_state(), before)


def test_patch_without_a_seed_follows_the_default_generator():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with init.patch():
            found.append(nn.Linear(3, 4).weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_patch_reaches_every_reference(monkeypatch):
    """Also those that were taken before, in tables and partials."""
    taken = {"normal_": nn.init.normal_, "trunc": functools.partial(nn.init.trunc_normal_, std=0.1)}
    for name, fill in taken.items():
        with init.patch(seed=0):
            patched = fill(torch.empty(100))
        args = {"std": 0.1} if name == "trunc" else {}
        ours = init.trunc_normal_ if name == "trunc" else init.normal_
        assert torch.equal(patched, ours(torch.empty(100), seed=0, **args))
        torch.manual_seed(0)
        restored = fill(torch.empty(100))
        torch.manual_seed(0)
        assert torch.equal(restored, torch.empty(100).normal_()) == (name == "normal_")
        assert not torch.equal(restored, patched)


def test_patch_restores_after_errors_and_when_nested():
    codes = {name: getattr(nn.init, name).__code__ for name in EVERY}
    with init.patch(seed=0):
        with init.patch(seed=1):
            inner = nn.Linear(3, 4).weight
        outer = nn.Linear(3, 4).weight
    with init.patch(seed=1):
        assert torch.equal(nn.Linear(3, 4).weight, inner)
    with init.patch(seed=0):
        assert torch.equal(nn.Linear(3, 4).weight, outer)
    with pytest.raises(ValueError, match="fewer than 2"), init.patch(seed=0):
        nn.init.xavier_normal_(torch.empty(3))
    for name, code in codes.items():
        function = getattr(nn.init, name)
        assert function.__code__ is code
        assert function.__kwdefaults__ is None
    torch.manual_seed(0)
    first = nn.init.kaiming_normal_(torch.empty(3, 4), 0, "fan_out")
    torch.manual_seed(0)
    assert torch.equal(first, torch.empty(3, 4).normal_(0, math.sqrt(2 / 3)))


def test_patch_among_wrappers_of_others(monkeypatch):
    """As those that transformers puts into torch.nn.init for a while."""
    own = nn.init.normal_

    def wrapper(tensor, *args, **keywords):
        return own(tensor, *args, **keywords)

    monkeypatch.setattr(nn.init, "normal_", wrapper)
    with init.patch(seed=0):
        first = nn.Embedding(3, 4).weight
        monkeypatch.undo()
    with init.patch(seed=0):
        assert torch.equal(nn.Embedding(3, 4).weight, first)
    torch.manual_seed(0)
    plain = nn.init.normal_(torch.empty(5))
    torch.manual_seed(0)
    assert torch.equal(plain, torch.empty(5).normal_())


def test_patch_does_not_affect_other_threads():
    found = {}

    def work():
        generator = torch.Generator().manual_seed(7)
        found["thread"] = nn.init.normal_(torch.empty(50), generator=generator)
        found["xavier"] = nn.init.xavier_uniform_(torch.empty(5, 5), 1.0, generator)

    with init.patch(seed=0):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(found["thread"], torch.empty(50).normal_(generator=generator))


def test_patch_with_devices_and_dtypes():
    with init.patch(seed=0), torch.device("meta"):
        assert nn.Linear(3, 4).weight.is_meta
        assert torch.randn(3).is_meta
    with init.patch(seed=0):
        made = torch.randn(2, 3, dtype=torch.bfloat16, requires_grad=True)
    assert made.requires_grad
    assert made.is_leaf
    assert torch.equal(made, init.normal_(torch.empty(2, 3, dtype=torch.bfloat16), seed=0))


def test_patch_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    states = []
    for seed in (0, 0, 1):
        with init.patch(seed=seed):
            states.append(state(transformers.AutoModel.from_config(config)))
    assert all(same(states[0], states[1]).values())
    different = [name for name, equal in same(states[0], states[2]).items() if not equal]
    assert "encoder.layer.1.output.dense.weight" in different
    assert fits(states[0]["encoder.layer.1.output.dense.weight"], "norm", 0, 0.02)
    assert not states[0]["embeddings.word_embeddings.weight"][0].any()  # the padding
