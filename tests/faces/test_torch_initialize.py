"""``fastinit.torch.initialize``: whole modules, values by name, rules, meta, errors."""

import copy
import functools
import hashlib
import inspect
import math
import os
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

import fastinit as fi  # noqa: E402
from fastinit import torch as init  # noqa: E402

nn = torch.nn


def stream(name):
    """The documented stream of a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_same(first, second):
    assert list(first) == list(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def model():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5)
    )


# --- the default: what the modules' own functions do ----------------------------------------------

MODULES = {
    "Linear": lambda: nn.Linear(30, 40),
    "Linear without bias": lambda: nn.Linear(30, 40, bias=False),
    "Bilinear": lambda: nn.Bilinear(9, 8, 30),
    "Conv1d": lambda: nn.Conv1d(8, 16, 5, groups=2),
    "Conv3d": lambda: nn.Conv3d(4, 8, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 16, 3),
    "channels last": lambda: nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last),
    "Embedding": lambda: nn.Embedding(50, 20),
    "Embedding with padding": lambda: nn.Embedding(50, 20, padding_idx=-2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(50, 20, padding_idx=4),
    "LayerNorm": lambda: nn.LayerNorm(30),
    "RMSNorm": lambda: nn.RMSNorm(30),
    "GroupNorm": lambda: nn.GroupNorm(3, 30),
    "BatchNorm": lambda: nn.BatchNorm1d(30),
    "InstanceNorm": lambda: nn.InstanceNorm2d(30, affine=True, track_running_stats=True),
    "PReLU": lambda: nn.PReLU(30, init=0.3),
    "RNN": lambda: nn.RNN(20, 30, num_layers=2),
    "LSTM": lambda: nn.LSTM(20, 30, bidirectional=True),
    "GRUCell": lambda: nn.GRUCell(20, 30),
    "attention": lambda: nn.MultiheadAttention(20, 2, add_bias_kv=True),
    "attention with other sizes": lambda: nn.MultiheadAttention(20, 2, kdim=10, vdim=15),
    "Transformer": lambda: nn.Transformer(20, 2, 1, 1, 40),
    "adaptive softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(30, 60, [20, 40]),
    "complex": lambda: nn.Linear(30, 40, dtype=torch.complex64),
    "half": lambda: nn.Linear(30, 40, dtype=torch.bfloat16),
}


def reals(tensor):
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.detach().double().flatten().numpy()


@pytest.mark.parametrize("name", MODULES)
def test_default_is_that_of_the_constructor(name):
    """The oracle are 40 modules of PyTorch: the same distribution, and the same constants."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = MODULES[name]()
        others = [state(MODULES[name]()) for _ in range(40)]
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(9)
    table = init.initialize(module, seed=4)
    assert {row["name"] for row in table} == set(module.state_dict())
    for row in table:
        ours = module.state_dict()[row["name"]]
        theirs = torch.stack([other[row["name"]] for other in others])
        constant = (theirs == theirs[0]).all(0)
        assert torch.equal(ours[constant], theirs[0][constant])
        drawn, peers = reals(ours[~constant]), reals(theirs[:, ~constant])
        if drawn.size:
            assert stats.kstest(drawn, peers).pvalue > 1e-4, row
            # A uniform or normal draw of n values has a deviation within 5 / sqrt(2 n).
            std = peers.std() * (math.sqrt(2) if ours.is_complex() else 1)
            assert row["std"] == pytest.approx(std, rel=5 / math.sqrt(2 * peers.size))
        else:
            assert row["std"] == 0
        assert row["shape"] == tuple(ours.shape)


def test_embedding_keeps_its_padding():
    module = nn.Embedding(50, 20, padding_idx=-2)
    table = init.initialize(module, seed=0)
    whole = init.normal_(torch.empty(50, 20), seed=0, stream=stream("weight"))
    whole[48] = 0
    assert torch.equal(module.weight, whole)
    assert table[0]["scheme"] == "normal_, row 48 constant_(0)"


def test_every_module_of_torch_that_resets_is_tested_or_delegates():
    """A module that comes with a new way to initialise must be looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tested = {type(part) for make in MODULES.values() for part in make().modules()}
    known = {function_of(each) for each in tested}
    for module in vars(nn).values():
        if isinstance(module, type) and issubclass(module, nn.Module):
            function = function_of(module)
            if function is not None and "Lazy" not in function.__qualname__:
                assert function in known, module


def function_of(module):
    names = ("reset_parameters", "_reset_parameters")
    return next((getattr(module, name) for name in names if hasattr(module, name)), None)


# --- values by name -------------------------------------------------------------------------------


def test_values_are_those_of_the_documented_stream():
    module = nn.Sequential(nn.Linear(30, 40))
    table = init.initialize(module, seed=7)
    assert [row["name"] for row in table] == ["0.weight", "0.bias"]
    expected = fi.kaiming_uniform(
        (40, 30), a=math.sqrt(5), seed=7, stream=stream("0.weight"), dtype="float32"
    )
    np.testing.assert_array_equal(module[0].weight.detach(), expected)


def test_values_do_not_depend_on_other_parameters():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(200, 200)

    class Second(nn.Module):
        def __init__(self):
            super().__init__()
            self.new, self.c, self.a = nn.Linear(64, 64), nn.Linear(200, 200), nn.Linear(64, 64)

    first, second = First(), Second()
    init.initialize(first, seed=3)
    init.initialize(second, seed=3)
    for name in ("a.weight", "a.bias", "c.weight", "c.bias"):
        assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert not torch.equal(first.a.weight, first.b.weight)
    alone = nn.Linear(64, 64)
    init.initialize(alone, seed=3, prefix="a.")
    assert torch.equal(alone.weight, first.a.weight)
    init.initialize(second, seed=4)
    assert not torch.equal(first.a.weight, second.a.weight)


def test_values_do_not_depend_on_the_process():
    """Not on the salt of Python's hash, and not on threads."""
    script = """
        import hashlib, torch, fastinit.torch
        module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(900, 900))
        fastinit.torch.initialize(module, seed=1, threads=%d)
        digest = hashlib.sha256()
        for value in module.parameters():
            digest.update(value.detach().numpy().tobytes())
        print(digest.hexdigest())
    """
    found = set()
    for salt, threads in (("1", 1), ("2", 2)):
        result = subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(script % threads)],
            env=os.environ | {"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(result.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_stacks_have_the_bits_of_single_tensors(dtype):
    """Small tensors of one kind are filled together."""
    rules = {
        "*.0": "he_normal", "*.1": "orthogonal", "*.2": functools.partial(fi.sparse, sparsity=0.5),
        "*.3": "truncated_normal", "*": "uniform",
    }  # fmt: skip
    lists = [[torch.empty(12, 10, dtype=dtype) for _ in range(5)] for _ in range(6)]
    module = nn.ModuleList(nn.ParameterList(each) for each in lists)
    strided = nn.Parameter(torch.empty(10, 12, dtype=dtype).T)
    module[2][1] = strided
    init.initialize(module, rules, seed=9)
    assert strided.stride() == (1, 12)
    fills = {"0": fi.he_normal, "1": fi.orthogonal, "2": rules["*.2"], "3": fi.truncated_normal}
    for name, value in module.named_parameters():
        fill = fills.get(name[-1], fi.uniform)
        alone = fill(out=torch.empty(12, 10, dtype=dtype), seed=9, stream=stream(name))
        assert torch.equal(value, alone), name


def test_wrappers_do_not_change_names():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    plain = model()
    init.initialize(plain, seed=2)
    compiled = torch.nn.Module()  # of the form of torch.compile()
    compiled._orig_mod = model()
    init.initialize(compiled, seed=2)
    assert_same(state(plain), state(compiled._orig_mod))
    wrapped = model()
    wrapped[4] = checkpoint_wrapper(wrapped[4])
    table = init.initialize(wrapped, seed=2)
    assert table[-1]["name"] == "4.bias"
    assert torch.equal(wrapped[4].weight, plain[4].weight)


# --- shared parameters ----------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, first="embedding", second="head"):
        super().__init__()
        for name in (first, second):
            layer = nn.Embedding(20, 8) if name == "embedding" else nn.Linear(8, 20, bias=False)
            setattr(self, name, layer)
        self.head.weight = self.embedding.weight


def test_shared_parameters_are_filled_once():
    tied = Tied()
    table = init.initialize(tied, seed=0)
    assert [row["name"] for row in table] == ["embedding.weight"]
    assert table[0]["scheme"] == "normal_"
    other = Tied("head", "embedding")
    init.initialize(other, seed=0)
    assert torch.equal(tied.head.weight, other.head.weight)
    with torch.device("meta"):
        meta = Tied("head", "embedding")
    init.initialize(meta, seed=0)
    assert meta.head.weight is meta.embedding.weight
    assert isinstance(meta.head.weight, nn.Parameter)
    assert torch.equal(meta.head.weight, tied.head.weight)


def test_shared_modules():
    layer = nn.Linear(4, 4)
    module = nn.ModuleDict({"b": layer, "a": layer})
    table = init.initialize(module, seed=0)
    assert [row["name"] for row in table] == ["a.weight", "a.bias"]


# --- rules ----------------------------------------------------------------------------------------


def test_rules_by_names_and_types():
    module = model()
    table = init.initialize(
        module,
        {
            "4.weight": "orthogonal",
            re.compile(r"\d\.bias"): 0.5,
            nn.Conv2d: functools.partial(nn.init.kaiming_normal_, nonlinearity="relu"),
            nn.modules.batchnorm._BatchNorm: init.ones_,
            "*": "reset_parameters",
        },
        seed=0,
    )
    rows = {row["name"]: row for row in table}
    assert rows["4.weight"]["scheme"] == "orthogonal"
    assert rows["4.weight"]["std"] == pytest.approx(math.sqrt(1 / 8))
    assert rows["0.weight"]["scheme"] == "kaiming_normal_"
    assert rows["0.weight"]["std"] == pytest.approx(math.sqrt(2 / 27))
    assert rows["1.weight"]["scheme"] == "ones_"
    torch.testing.assert_close(module[4].weight @ module[4].weight.T, torch.eye(5))
    for i in (0, 1, 4):
        assert (module[i].bias == 0.5).all()


def test_shared_parameters_are_matched_by_any_name():
    """Tied embeddings are filled under the name of the head, which few have in mind."""
    model = nn.ModuleDict({"head": nn.Linear(3, 4, bias=False), "tokens": nn.Embedding(4, 3)})
    model["head"].weight = model["tokens"].weight
    table = init.initialize(model, {"tokens.*": 0.5, "*": 1.0}, seed=0)
    assert [row["name"] for row in table] == ["head.weight"]
    assert (model["tokens"].weight == 0.5).all()


def test_first_rule_that_matches_counts():
    module = nn.Linear(3, 4)
    init.initialize(module, {"weight": "zeros", nn.Linear: "ones"}, seed=0)
    assert not module.weight.any()
    assert (module.bias == 1).all()


def test_biases_are_filled_as_those_of_networks():
    module = nn.Linear(300, 400)
    table = init.initialize(module, {"*": "he_normal"}, seed=0)
    assert not module.bias.any()
    assert [row["scheme"] for row in table] == ["he_normal", "he_normal, bias"]
    for scheme, bound in (("torch_linear", 300**-0.5), ("sklearn_mlp", (6 / 700) ** 0.5)):
        init.initialize(module, {"*": scheme}, seed=0)
        assert (
            stats.kstest(module.bias.detach(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4
        )
    # Those of Keras and JAX count the axes of PyTorch's weights.
    table = init.initialize(module, {"*": "flax_dense"}, seed=0)
    assert table[0]["std"] == pytest.approx(300**-0.5)
    assert module.weight.std().item() == pytest.approx(300**-0.5, rel=0.01)


def test_own_functions_as_rules():
    def signs(*, out, seed, stream):
        fi.uniform(out=out, low=-1.0, high=1.0, seed=seed, stream=stream)
        out.sign_()

    module = nn.Linear(30, 40)
    table = init.initialize(module, {"*": signs}, seed=0)
    assert (module.weight.abs() == 1).all()
    assert table[0]["scheme"] == "signs"
    assert table[0]["std"] is None


def test_function_that_initialises_one_module():
    """As for Module.apply; the functions of models on the hub are of this form."""

    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.data.normal_(mean=0.0, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1.0)
            module.bias.data.copy_(torch.arange(8.0))
            module.reset_running_stats()

    module = model()
    init.initialize(module, init_weights, seed=5)
    expected = init.normal_(torch.empty(5, 8), std=0.02, seed=5, stream=stream("4.weight"))
    assert torch.equal(module[4].weight, expected)
    assert torch.equal(module[1].bias, torch.arange(8.0))


RELU = functools.partial(init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_a_function_does_not_fill_is_filled_as_by_default(device):
    """As in a model that is built, and whose function is applied to all modules afterwards."""

    def weights(module):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    with torch.device(device):
        module = model()
    table = init.initialize(module, weights, seed=2)
    expected = model()
    init.initialize(expected, {"0.weight": RELU, "*": "reset_parameters"}, seed=2)
    assert_same(state(module), state(expected))
    schemes = {row["name"]: row["scheme"] for row in table}
    assert schemes["0.weight"] == "kaiming_normal_"
    assert schemes["0.bias"] == "uniform_"
    assert schemes["1.running_var"] == "constant_(1)"


def test_a_function_comes_after_those_of_all_modules():
    """Also after that of a parent, which fills what is in its children."""

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(3, 4)

        def reset_parameters(self):
            nn.init.ones_(self.child.weight)

    def zeros(module):
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)

    assert init.initialize(Parent(), seed=0)[0]["scheme"] == "ones_"
    assert init.initialize(Parent(), zeros, seed=0)[0]["scheme"] == "zeros_"


@pytest.mark.parametrize(
    ("scheme", "shape"),
    [
        *((name, (60, 50)) for name in ("uniform", "normal", "truncated_normal", "identity")),
        *((name, (60, 50)) for name in ("he_uniform", "glorot_normal", "lecun_normal", "sparse")),
        *((name, (60, 50)) for name in ("keras_dense", "flax_dense", "torch_linear", "orthogonal")),
        *((name, (60, 50)) for name in ("zeros", "ones")),
        ("dirac", (60, 50, 3)),
        ("orthogonal", (64, 16, 3)),
        (functools.partial(fi.orthogonal, gain=-2.0), (10, 20, 4, 4)),
        (functools.partial(fi.orthogonal, in_axis=0, out_axis=-1), (3, 16, 64)),
        (functools.partial(fi.kaiming_normal, a=0.3, mode="fan_out"), (60, 50)),
        (functools.partial(fi.xavier_uniform, gain=2.0), (60, 50)),
        (functools.partial(fi.variance_scaling, scale=3.0, mode="fan_geo_avg"), (60, 50)),
        (functools.partial(fi.truncated_normal, mean=1.0, std=0.5, a=1.2, b=9.0), (60, 50)),
        (functools.partial(fi.truncated_normal, lower=2.0, upper=math.inf), (60, 50)),
        (functools.partial(fi.truncated_normal, lower=-math.inf, upper=-2.0), (60, 50)),
        (functools.partial(init.trunc_normal_, std=0.02, a=-0.03, b=0.05), (60, 50)),
    ],
)
def test_standard_deviations_of_the_table(scheme, shape):
    module = nn.ParameterDict({"p": torch.empty(shape)})
    table = init.initialize(module, {"*": scheme}, seed=0)
    # 3000 values: the relative error of a deviation is below 5 sqrt(kurtosis / 4 n).
    std = module["p"].std(correction=0).item()
    assert table[0]["std"] == pytest.approx(std, rel=5 * math.sqrt(9 / (4 * 3000)))


# --- meta -----------------------------------------------------------------------------------------


def test_meta_modules_are_materialised():
    plain = nn.Sequential(model(), nn.LSTM(5, 6))
    init.initialize(plain, seed=3)
    with torch.device("meta"):
        meta = nn.Sequential(model(), nn.LSTM(5, 6))
    meta[0][0].weight.requires_grad_(False)
    table = init.initialize(meta, seed=3, device="cpu")
    assert_same(state(plain), state(meta))
    assert len(table) == len(meta.state_dict())
    assert not meta[0][0].weight.requires_grad
    x = torch.ones(2, 3, 5)
    torch.testing.assert_close(plain[1](x)[0], meta[1](x)[0])


def test_tensors_that_are_not_on_meta_are_kept():
    module = nn.Linear(3, 4)
    module.register_buffer("table", torch.arange(3.0))
    with torch.device("meta"):
        module.weight = nn.Parameter(torch.empty(4, 3))
    bias = module.bias
    init.initialize(module, seed=0)
    assert module.bias is bias
    assert module.weight.device.type == "cpu"
    assert torch.equal(module.table, torch.arange(3.0))


def test_meta_buffers_that_nothing_fills_are_an_error():
    with torch.device("meta"):
        module = nn.Linear(3, 4)
        module.register_buffer("table", torch.arange(3.0))
    with pytest.raises(ValueError, match=r"got none for\n  table \(3,\) of Linear"):
        init.initialize(module, seed=0)
    assert module.weight.is_meta


# --- errors: nothing is filled --------------------------------------------------------------------


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.ones(2, 2))
        self.shift = nn.Parameter(torch.zeros(2))


def unchanged(module, error, match, *args, **keywords):
    before = {name: (value, value.clone()) for name, value in module.state_dict().items()}
    versions = [value._version for value in module.parameters()]
    with pytest.raises(error, match=match) as caught:
        init.initialize(module, *args, **({"seed": 0} | keywords))
    for value, old in before.values():
        assert torch.equal(value, old)
    assert [value._version for value in module.parameters()] == versions
    return caught.value


def test_error_lists_what_no_rule_matches():
    message = str(unchanged(Bare(), ValueError, "expected one for every parameter"))
    assert message.splitlines()[1:] == ["  scale (2, 2) of Bare", "  shift (2,) of Bare"]
    message = str(unchanged(Bare(), ValueError, "got none", {"*.weight": "he_normal"}))
    assert message.splitlines()[1:] == [
        "  scale (2, 2) of Bare", "  shift (2,) of Bare", "  linear.bias (4,) of Linear",
    ]  # fmt: skip
    init.initialize(Bare(), {"s*": 1, "*": "reset_parameters"}, seed=0)


@pytest.mark.parametrize(
    ("rules", "error", "match"),
    [
        ({"*": "he_norml"}, ValueError, "scheme: expected one of .*did you mean he_normal"),
        ({"*": "lesson.he"}, ValueError, "expected a scheme with streams; got lesson.he"),
        ({"*": True}, TypeError, "scheme: expected"),
        ({3: "he_normal"}, TypeError, "rules: expected patterns or types of modules; got 3"),
        ({}, ValueError, "rules: expected at least one"),
        ("he_normal", TypeError, "rules: expected a dict or a callable; got str"),
        ({"s*": 1, "*": functools.partial(fi.normal, std=-1.0)}, ValueError, "std: expected >= 0"),
        ({"scale": 1, "*": "dirac"}, ValueError, "shape: expected 3 to 5 axes"),
        ({"scale": 1, "*": nn.init.xavier_normal_}, ValueError, "fewer than 2 dimensions"),
        ({"*.wieght": 1, "*": 0}, ValueError, r"match a name, such as .*; got '\*\.wieght'"),
        ({re.compile("scal"): 1, "*": 0}, ValueError, "rules: expected patterns that match"),
        ({re.compile(b"scale"): 1, "*": 0}, TypeError, "rules: expected patterns or types"),
        ({"*": functools.partial(fi.normal, seed=3)}, TypeError, "a partial without seed"),
        ({"*": functools.partial(nn.init.normal_, generator=None)}, TypeError, "without generator"),
        ({"scale": 1, "*": 10**400}, OverflowError, "too big"),
    ],
)
def test_bad_rules(rules, error, match):
    caught = unchanged(Bare(), error, match, rules)
    if match in ("shape: expected 3 to 5 axes", "fewer than 2 dimensions"):
        assert any("linear." in note or "shift" in note for note in caught.__notes__)


def test_bad_arguments():
    unchanged(nn.Linear(3, 4), ValueError, "seed: expected", seed=-1)
    unchanged(nn.Linear(3, 4), TypeError, "seed: expected", seed="x")
    unchanged(nn.Linear(3, 4), ValueError, "threads: expected", threads=0)
    with pytest.raises(TypeError, match="module: expected a Module; got Tensor"):
        init.initialize(torch.empty(3), seed=0)
    unchanged(nn.Linear(3, 4), TypeError, "prefix: expected a string; got int", prefix=1)
    unchanged(nn.Linear(3, 4), ValueError, "device: expected one whose", device="meta")
    half = nn.ParameterDict({"a": torch.zeros(3), "b": torch.zeros(3, dtype=torch.float16)})
    unchanged(half, RuntimeError, "without overflow", {"*": 1e9})
    entries = nn.ParameterDict({"a": torch.zeros(3), "b": torch.eye(3).to_sparse()})
    with pytest.raises(TypeError, match=r"memory of their own; got torch\.sparse_coo"):
        init.initialize(entries, {"*": "normal"}, seed=0)
    assert not entries["a"].any()
    memory = nn.ParameterDict({"a": torch.zeros(3), "b": torch.zeros(1, 3).expand(3, 3)})
    unchanged(memory, RuntimeError, "more than one element", {"*": "normal"})


def test_rules_of_a_model_for_a_part_of_it():
    """Types and, with a prefix, patterns need not match: one dict is for several modules."""
    rules = {"embed.*": 1.0, nn.Conv2d: "he_normal", "*": "lecun_normal"}
    stage = nn.Linear(3, 4)
    unchanged(stage, ValueError, r"got 'embed\.\*'", rules)
    assert len(init.initialize(stage, rules, seed=0, prefix="layers.3.")) == 2
    assert len(init.initialize(nn.ReLU(), rules, seed=0)) == 0


def test_lazy_modules_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = nn.Sequential(nn.LazyLinear(4))
    with pytest.raises(ValueError, match=r"0\.weight of LazyLinear: it is not initialised before"):
        init.initialize(module, seed=0)


def reset(body):
    """Return a module whose function has the given body."""

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def reset_parameters(self):
            body(self)

    return Custom()


REFUSED = {
    "pow_": lambda self: nn.init.normal_(self.weight).data.pow_(2),
    "mul_": lambda self: imul(self.weight.data),
    "div_": lambda self: [row.div_(2) for row in self.weight],
    "sub_": lambda self: self.weight.data.chunk(2)[1].sub_(1),
    "changes it by relu": lambda self: nn.functional.relu(self.weight, inplace=True),
    "changes it by mul": lambda self: torch.mul(self.weight, 2, out=self.weight.data),
    "by _foreach_add_": lambda self: torch._foreach_add_([self.weight.data], 1.0),
    "reads its values by numpy": lambda self: self.weight.data.numpy().fill(0),
    "reads its values by item": lambda self: self.weight.sum().item(),
    "__setitem__": lambda self: self.weight.data.__setitem__(0, 1.0),
    "assigns its data": lambda self: setattr(self.weight, "data", torch.zeros(4, 4)),
    "fills a part": lambda self: nn.init.normal_(self.weight[:2]),
    "fills a row by normal_": lambda self: nn.init.normal_(self.weight[0]),
    "fills a part or a result by zeros_": lambda self: self.weight.data.view(-1).zero_(),
    "depend on others": lambda self: self.weight.data.copy_(self.weight.norm() * self.weight),
    "add_": lambda self: self.weight.data.T.add_(1),
    "replaces it": lambda self: setattr(self, "weight", nn.Parameter(self.weight.clone())),
    "copies values": lambda self: self.weight.copy_(torch.rand(4, 4).log()),
    "copies values that": lambda self: self.weight.copy_(torch.randint(3, (4, 4)) / 2),
    "copies values that depend": lambda self: self.weight.copy_(torch.empty(16).cauchy_()[:4]),
    "raises ZeroDivisionError": lambda self: 1 / 0,
}


def imul(tensor):
    tensor *= 2


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_recorded_is_refused(what):
    module = reset(torch.no_grad()(REFUSED[what]))
    message = str(unchanged(module, ValueError, "weight .* of Custom: reset_parameters of Custom"))
    assert what in message
    init.initialize(module, {"*": "he_normal"}, seed=0)


def test_parent_that_changes_children_is_refused():
    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(3, 4)

        def reset_parameters(self):
            self.child.reset_parameters()
            with torch.no_grad():
                self.child.weight.div_(math.sqrt(2))

    unchanged(
        Parent(), ValueError, "child.weight .*: reset_parameters of Parent changes it by div_"
    )


def test_recorded_forms():
    """Forms of filling that models use."""

    def body(self):
        with torch.no_grad():
            nn.init.trunc_normal_(self.weight, std=0.02)
            self.weight[-1].zero_()

    module = reset(body)
    table = init.initialize(module, seed=1)
    whole = init.trunc_normal_(torch.empty(4, 4), std=0.02, seed=1, stream=stream("weight"))
    whole[3] = 0
    assert torch.equal(module.weight, whole)
    assert table[0]["scheme"] == "trunc_normal_, row 3 zeros_"


def test_interruption_says_what_was_filled():
    def fails(*, out, seed, stream):
        raise KeyboardInterrupt

    module = nn.Sequential(nn.Linear(200, 200), nn.Linear(3, 4))
    rules = {"0.*": "reset_parameters", "1.bias": 0, "*": fails}
    with pytest.raises(KeyboardInterrupt) as caught:
        init.initialize(module, rules, seed=0)
    assert caught.value.__notes__ == [
        "initialize: these tensors were filled before the error: 0.weight"
    ]


# --- autograd, tables, transformers ---------------------------------------------------------------


def test_autograd_notices():
    module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)), nn.Linear(300, 4))
    saved = sum((value**2).sum() for value in module.parameters())
    init.initialize(module, seed=0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()
    assert all(value.is_leaf and value.requires_grad for value in module.parameters())


def test_generators_of_the_process_are_left_alone():
    module = model()
    before = torch.get_rng_state()
    codes = {name: getattr(nn.init, name).__code__ for name in init.__all__ if name[-1] == "_"}
    init.initialize(module, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(getattr(nn.init, name).__code__ is code for name, code in codes.items())


def test_copies_have_the_same_values():
    module = model()
    other = copy.deepcopy(module)
    init.initialize(module, seed=np.random.SeedSequence(3))
    init.initialize(other, seed=np.random.SeedSequence(3))
    assert_same(state(module), state(other))


def test_signature():
    parameters = inspect.signature(init.initialize).parameters
    assert list(parameters)[:4] == ["module", "rules", "seed", "threads"]


def test_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    bert = transformers.AutoModel.from_config(config)
    table = init.initialize(bert, bert._init_weights, seed=0)
    rows = {row["name"]: row for row in table}
    assert set(rows) >= {name for name, _ in bert.named_parameters()}
    assert rows["encoder.layer.0.output.dense.weight"]["std"] == 0.02
    assert not bert.embeddings.word_embeddings.weight[0].any()
    with torch.device("meta"):
        meta = transformers.AutoModel.from_config(config)
    init.initialize(meta, meta._init_weights, seed=0)
    assert_same(state(bert), state(meta))
