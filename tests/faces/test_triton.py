"""The kernels in Triton: the bits of the CPU, in Triton's interpreter and in what it compiles.

The interpreter must be chosen before Triton is imported, so the tests start processes that run this
file as a script. What the compiler makes for CUDA devices is run by an emulator, ``tests/ptx.py``.
Tests with a device are in ``test_torch_devices.py``.
"""

import hashlib
import json
import os
import subprocess
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import fastinit as fi  # noqa: E402
from fastinit import initializers  # noqa: E402
from fastinit import torch as init  # noqa: E402
from fastinit.initializers.target import Plan  # noqa: E402
from fastinit.torch import devices, modules  # noqa: E402

DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "complex64": torch.complex64, "complex128": torch.complex128,
}  # fmt: skip
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def plan_of(name, shape, kind, *args, **keywords):
    plan = Plan(kind)
    initializers.get(name)(shape, *args, out=plan, **keywords)
    [draw] = plan.draws
    return draw


def same(first, second):
    """Return whether two tensors have the same bits."""
    first, second = (
        torch.empty(x.numel(), dtype=x.dtype).copy_(x.reshape(-1)).view(torch.uint8)
        for x in (first, second)
    )
    return torch.equal(first, second)


# --- what the processes do ---------------------------------------------------


@case
def golden_digests():
    from fastinit import triton

    golden = json.loads((Path(__file__).parents[1] / "kernels/golden.json").read_text())
    found = 0
    for call, expected in golden.items():
        name, arguments = call.split("(", 1)
        if name in ("sparse", "permutation"):
            continue
        shape, args, keywords = eval(
            f"parse({arguments}", {"parse": parse} | {k: k for k in DTYPES}
        )
        out = torch.empty(shape, dtype=DTYPES[keywords["dtype"]])
        shape = tuple(out.shape)
        drawn = plan_of(name, shape, keywords.pop("dtype"), *args, **keywords)
        triton.draw(out, drawn, shape, tuple(slice(0, n) for n in shape))
        values = out.numpy()
        little = values.astype(values.dtype.newbyteorder("<"))
        assert hashlib.sha256(little.tobytes()).hexdigest() == expected["sha256"], call
        found += 1
    assert found == 40, found


def parse(shape, *args, **keywords):
    return shape, args, keywords


def parameters_of(rng, name):
    std = float(rng.choice([0.02, 1.0, 3.0]))
    if name == "uniform":
        low = float(rng.normal())
        return {"low": low, "high": low + std}
    if name == "normal":
        return {"mean": float(rng.choice([0.0, 0.5])), "std": std}
    if name == "truncated_normal":
        lower, upper = ((-2, 2), (-1, 8), (20, 25), (-np.inf, -5), (-np.inf, np.inf))[
            rng.integers(5)
        ]
        return {"std": std, "lower": float(lower), "upper": float(upper)}
    return {}


def random_case(rng):
    """Return the name of an initialiser, its keywords, a shape, a window and a dtype."""
    name = str(rng.choice(["uniform", "normal", "truncated_normal", "he_normal", "flax_dense"]))
    axes = rng.integers(2, 5) if name in ("he_normal", "flax_dense") else rng.integers(0, 5)
    most = (1, 2000, 60, 12, 7)[axes]
    shape = tuple(int(n) for n in rng.integers(1, most, size=axes, endpoint=True))
    starts = [int(rng.integers(0, n)) for n in shape]
    window = tuple(
        slice(start, int(rng.integers(start + 1, n, endpoint=True)))
        for start, n in zip(starts, shape, strict=True)
    )
    if rng.random() < 0.4:
        window = tuple(slice(0, n) for n in shape)
    kinds = list(DTYPES)[: 4 if name == "truncated_normal" else 6]
    keywords = {
        **parameters_of(rng, name),
        "seed": int(rng.integers(2**64, dtype=np.uint64)),
        "stream": int(rng.integers(2**63)),
    }
    return name, keywords, shape, window, str(rng.choice(kinds))


@case
def random_shapes_windows_and_strides():
    from fastinit import triton

    rng = np.random.default_rng(0)
    # The interpreter is slow.
    for number in range(30 if os.environ.get("TRITON_INTERPRET") else 80):
        name, keywords, shape, window, kind = random_case(rng)
        own = [part.stop - part.start for part in window]
        order = rng.permutation(len(shape)).tolist()
        gap = int(rng.integers(1, 3))
        memory = torch.full([gap * own[axis] for axis in order], 99, dtype=DTYPES[kind])
        out = memory[(slice(None, None, gap),) * len(shape)].permute(np.argsort(order).tolist())
        expected = torch.empty(own, dtype=DTYPES[kind])
        initializers.get(name)(shape, out=expected, window=window, **keywords)
        triton.draw(out, plan_of(name, shape, kind, **keywords), shape, window)
        assert same(out, expected), (number, name, keywords, shape, window, kind, order)
        assert int((memory == 99).sum()) == memory.numel() - out.numel()


@case
def more_than_32_bits_of_elements():
    from fastinit import triton

    shape, window = (2**20, 2**20), (slice(2**20 - 2, 2**20), slice(2**20 - 300, 2**20))
    for kind in ("float32", "float64"):
        out = torch.empty((2, 300), dtype=DTYPES[kind])
        triton.draw(out, plan_of("normal", shape, kind, seed=1), shape, window)
        expected = fi.normal(shape, seed=1, window=window, dtype=kind)
        assert same(out, torch.from_numpy(expected))


@case
def a_model():
    """All of ``fastinit.torch`` works as before if the kernels of a device draw."""
    from fastinit import triton

    drawn = []

    def draw(out, *rest):
        drawn.append(tuple(out.shape))
        triton_draw(out, *rest)

    triton_draw, triton.draw = triton.draw, draw
    nn = torch.nn
    rules = {
        "0.weight": "he_normal", "1.weight": "truncated_normal", "2.weight": "orthogonal",
        "3.weight": partial(init.sparse_, sparsity=0.5), "4.weight": 0.5, "*": "reset_parameters",
    }  # fmt: skip

    def model():
        return nn.Sequential(
            nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last),
            nn.Linear(150, 130, dtype=torch.bfloat16),
            nn.Linear(30, 30),
            nn.Linear(30, 30),
            nn.Linear(150, 130),
            nn.Embedding(200, 100, padding_idx=3),
        )

    modules.SMALL = 0
    expected, found = model(), model()
    init.initialize(expected, rules, seed=4)
    assert not drawn
    devices._kernels_of = lambda device: triton
    version = found[0].weight._version
    init.initialize(found, rules, seed=4)
    for (name, one), other in zip(expected.named_parameters(), found.parameters(), strict=True):
        assert same(one.data, other.data), name
    assert found[0].weight._version > version
    weights = [tuple(found[i].weight.shape) for i in (0, 1, 5)]
    assert set(weights) <= set(drawn), drawn
    assert (30, 30) not in drawn
    with torch.no_grad():
        init.normal_(torch.empty(0), seed=1)
        assert same(
            init.normal_(torch.empty(()), seed=1), fi.normal((), seed=1, out=torch.empty(()))
        )
    with pytest.raises(RuntimeError, match="single memory location"):
        init.normal_(torch.empty(1).expand(5), seed=1)
    with pytest.raises(ValueError, match="std: expected a finite float16"):
        init.normal_(torch.empty(5, dtype=torch.float16), std=1e6, seed=1)


@case
def a_device_that_differs():
    """The values then come from the CPU, after a warning."""
    from fastinit import triton

    devices._kernels_of = lambda device: triton
    draw = triton.draw
    for wrong, message in (
        (lambda out, *rest: (draw(out, *rest), out.view(-1)[7].add_(1e-7)), "differ from"),
        (lambda *args: 1 / 0, "ZeroDivisionError"),
    ):
        triton.draw = wrong
        triton.agrees.cache_clear()
        for number in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                w = init.normal_(torch.empty(3000), seed=number)
            assert same(w, torch.from_numpy(fi.normal(3000, seed=number, dtype="float32")))
            # One warning, at the line of the caller.
            assert [message in str(w.message) for w in caught] == [True] * (1 - number)
            assert all(w.filename == __file__ for w in caught)


@case
def every_kind_of_device():
    """The trial of each kernel passes for all architectures that are in use."""
    from fastinit import triton

    for capability in (75, 80, 86, 89, 90, 100, 120):
        triton._fill = Emulated(triton._fill, capability)
        triton.agrees.cache_clear()
        for name in ("uniform", "normal", "truncated_normal"):
            for dtype in list(DTYPES.values())[:4]:
                assert triton.agrees(name, dtype, torch.device("cpu"))


class Emulated:
    """The kernel as it is compiled for CUDA devices of some capability, run by the emulator."""

    def __init__(self, kernel, capability):
        self.kernel = kernel.kernel if isinstance(kernel, Emulated) else kernel
        self.capability = capability
        self.compiled = {}

    def __getitem__(self, grid):
        return partial(self.launch, grid[0])

    def launch(self, programs, out, *numbers, enable_fp_fusion, sanitize_overflow, **constants):
        from ptx import Machine
        from triton import compiler
        from triton.backends.compiler import GPUTarget

        cell = {2: "i16" if constants["brain"] else "fp16", 4: "fp32", 8: "fp64"}[out.itemsize]
        key = (cell, *constants.values())
        if key not in self.compiled:
            names = self.kernel.arg_names
            types = ["*" + cell, *["i64"] * 3, *["u64"] * 14, *["constexpr"] * len(constants)]
            source = compiler.ASTSource(
                fn=self.kernel,
                signature=dict(zip(names, types, strict=True)),
                constexprs={(names.index(name),): value for name, value in constants.items()},
            )
            options = {"enable_fp_fusion": enable_fp_fusion, "sanitize_overflow": sanitize_overflow}
            made = compiler.compile(source, GPUTarget("cuda", self.capability, 32), options)
            self.compiled[key] = made.asm["ptx"]
        memory = torch.empty(0, dtype=torch.uint8).set_(out.untyped_storage()).numpy()
        start = out.storage_offset() * out.itemsize
        Machine(self.compiled[key], (start, *numbers), programs, memory).run()


def main(name, executor):
    try:
        from fastinit import triton

        if executor == "interpreter":
            triton.COUNTERS = 8192  # the interpreter takes its time for each program
        else:
            triton._fill = Emulated(triton._fill, 90)
        warnings.simplefilter("error")
        CASES[name]()
    except Exception:
        traceback.print_exc()
        sys.exit(1)


@pytest.mark.parametrize("executor", ["interpreter", "compiler"])
@pytest.mark.parametrize("name", CASES)
def test_bits(name, executor, tmp_path):
    if name == "every_kind_of_device" and executor == "interpreter":
        pytest.skip("the interpreter is one kind of device")
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    environment.pop("TRITON_INTERPRET", None)
    if executor == "interpreter":
        environment["TRITON_INTERPRET"] = "1"
    result = subprocess.run(
        [sys.executable, "-P", __file__, name, executor],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    main(*sys.argv[1:])
