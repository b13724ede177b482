"""How long does it take to initialise a whole model?

The model is ``nn.Transformer`` with 353 million parameters, in memory that was written before. Each
side fills all parameters, and uses two threads; ``trunc_normal_`` has its bounds at two standard
deviations. The construction of BERT includes the allocation of its memory.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np
import pytest
from timing import Seconds, absent, in_turns, needs, ratio

import fastinit as fi

STD = 0.02
SMALL, COUNT = (64, 64), 1_000
# The overhead that a small tensor may have, in seconds.
LIMIT = 15e-6
# Targets for float32 and bfloat16.
# 1 GB on 8 host devices, and the targets.
SHARDED = {"float32": ((16384, 16384), 2), "bfloat16": ((32768, 16384), 8)}
TARGETS = {"xavier_uniform_": (4, 5), "normal_": (4, 4), "trunc_normal_": (30, 20)}


def repeated(work: Callable[[], object]):
    def contender(n: int) -> None:
        for _ in range(n):
            work()

    return contender


def processor_time(work: Callable[[], object]):
    """Return a contender that is timed without what other processes take."""

    def contender(n: int) -> Seconds:
        start = process_time()
        for _ in range(n):
            work()
        return Seconds(process_time() - start)

    return contender


def transformer(dtype: str):
    import torch

    torch.set_num_threads(2)
    with torch.device("meta"):
        model = torch.nn.Transformer(1024, 16, 12, 12, 4096, dtype=getattr(torch, dtype))
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1)
    return model


def fills(name: str) -> tuple[Callable[..., object], dict]:
    """Return PyTorch's function of one weight, and the rules for the same."""
    import torch

    import fastinit.torch as ft

    keywords = {
        "normal_": {"std": STD},
        "trunc_normal_": {"std": STD, "a": -2 * STD, "b": 2 * STD},
    }.get(name, {})
    rules = {"*norm*.weight": 1, "*bias": 0, "*": partial(getattr(ft, name), **keywords)}
    return partial(getattr(torch.nn.init, name), **keywords), rules


def by_torch(model, name: str) -> Callable[[], object]:
    import torch

    fill, _ = fills(name)

    def work() -> None:
        for path, parameter in model.named_parameters():
            if path.endswith("bias"):
                torch.nn.init.zeros_(parameter)
            elif parameter.ndim < 2:
                torch.nn.init.ones_(parameter)
            else:
                fill(parameter)

    return work


def by_fastinit(model, name: str) -> Callable[[], object]:
    import fastinit.torch as ft

    _, rules = fills(name)
    return lambda: ft.initialize(model, rules, seed=0, threads=2)


def small_tensors():
    import torch

    return torch.nn.Sequential(*(torch.nn.Linear(*SMALL, bias=False) for _ in range(COUNT)))


def bert(patched: bool) -> Callable[[], object]:
    import transformers

    import fastinit.torch as ft

    config = transformers.BertConfig()  # 12 layers of 768 units

    def work() -> object:
        if not patched:
            return transformers.AutoModel.from_config(config)
        with ft.patch(seed=0):
            return transformers.AutoModel.from_config(config)

    return work


def by_jax(dtype: str) -> Callable[[], object]:
    import jax

    fill = partial(jax.random.normal, shape=SHARDED[dtype][0], dtype=dtype)
    compiled = jax.jit(fill, out_shardings=over_devices())
    return lambda: compiled(jax.random.key(0)).block_until_ready()


def by_fastinit_jax(dtype: str) -> Callable[[], object]:
    import jax

    import fastinit.jax as fj

    fill = partial(fj.normal(1.0), shape=SHARDED[dtype][0], dtype=dtype)
    sharding = over_devices()
    return lambda: fill(jax.random.key(0), out_sharding=sharding).block_until_ready()


def over_devices():
    import jax

    mesh = jax.make_mesh((len(jax.devices()),), ("x",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))


def ratio_on_devices(dtype: str) -> float:
    """Return the ratio on 8 host devices, whose number JAX reads when it starts."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, __file__, dtype],
        env=os.environ | flags,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(result.stdout)


# --- pytest benches/bench_models.py ---------------------------------------------------------------


@pytest.mark.parametrize("side", [by_torch, by_fastinit])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TARGETS)
def test_transformer(benchmark, name, dtype, side):
    needs("torch")
    benchmark.group = f"{name}, {dtype}"
    benchmark.pedantic(side(transformer(dtype), name), rounds=1 if "trunc" in name else 3)


@pytest.mark.parametrize("rules", [None, {"*": "he_normal"}], ids=["reset", "rules"])
def test_small_tensors(benchmark, rules):
    needs("torch")
    import fastinit.torch as ft

    model = small_tensors()
    benchmark(lambda: ft.initialize(model, rules, seed=0))


@pytest.mark.parametrize("patched", [False, True])
def test_bert(benchmark, patched):
    needs("torch")
    needs("transformers")
    benchmark.group = "BERT"
    benchmark.pedantic(bert(patched), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("side", [by_jax, by_fastinit_jax])
@pytest.mark.parametrize("dtype", SHARDED)
def test_jax(benchmark, dtype, side):
    needs("jax")
    benchmark.group = f"JAX, {dtype}"
    benchmark.pedantic(side(dtype), rounds=1)


# --- python benches/report.py ---------------------------------------------------------------------


def ratios() -> list[dict]:
    rows = []
    for column, dtype in enumerate(("float32", "bfloat16")):
        model = None
        for name, targets in TARGETS.items():
            row = {
                "question": f"`initialize` on `nn.Transformer`, 353 million {dtype}, 2 threads",
                "peer": f"torch `{name}`",
                "target": targets[column],
            }
            if reason := absent("torch"):
                rows.append(row | {"skipped": reason})
                continue
            model = model or transformer(dtype)
            sides = {"peer": by_torch, "fastinit": by_fastinit}
            times = in_turns(
                {side: repeated(make(model, name)) for side, make in sides.items()},
                turns=1 if name == "trunc_normal_" else 5,
                seconds=0.0,
            )
            rows.append(row | {"measured": ratio(times, "peer", "fastinit")})
    for what, rules in (("its own function", None), ("a rule", {"*": "he_normal"})):
        row = {
            "question": f"overhead of a tensor of 64 x 64 filled by {what}, 1,000 in a model",
            "peer": f"limit: {LIMIT * 1e6:.0f} us",
            "target": 1,
        }
        rows.append(
            row | (overhead(rules) if not absent("torch") else {"skipped": absent("torch")})
        )
    row = {
        "question": "`AutoModel.from_config` of BERT, 12 layers of 768 units, under `patch`",
        "peer": "without",
        "target": 3,
    }
    missing = absent("torch") or absent("transformers")
    if missing:
        rows.append(row | {"skipped": missing})
    else:
        contenders = {"peer": repeated(bert(False)), "fastinit": repeated(bert(True))}
        times = in_turns(contenders, turns=7, seconds=0.0)
        rows.append(row | {"measured": ratio(times, "peer", "fastinit")})
    for dtype, (_, target) in SHARDED.items():
        row = {
            "question": f"`fastinit.jax.normal`, 1 GB {dtype} on 8 host devices",
            "peer": "`jax.random.normal`, jitted",
            "target": target,
        }
        reason = absent("jax")
        rows.append(
            row | ({"skipped": reason} if reason else {"measured": ratio_on_devices(dtype)})
        )
    return rows


def overhead(rules: dict | None) -> dict:
    """Return the limit divided by the time beyond that of one array with as many values."""
    import fastinit.torch as ft

    model = small_tensors()
    out = np.ones((COUNT * SMALL[0], SMALL[1]), np.float32)
    fill = fi.he_uniform if rules is None else fi.he_normal
    contenders = {
        "model": processor_time(lambda: ft.initialize(model, rules, seed=0, threads=1)),
        "array": processor_time(lambda: fill(out=out, seed=0, threads=1)),
    }
    times = in_turns(contenders, turns=9, seconds=0.02)
    beyond = (min(times["model"]) - min(times["array"])) / COUNT
    return {"measured": LIMIT / beyond}


if __name__ == "__main__":  # as ratio_on_devices() starts it
    sides = {"peer": by_jax, "fastinit": by_fastinit_jax}
    found = in_turns(
        {side: repeated(make(sys.argv[1])) for side, make in sides.items()}, turns=3, seconds=0.0
    )
    print(ratio(found, "peer", "fastinit"))
