"""How long does it take to fill weights?

float32 unless the row says else. The peers fill warm memory in place where they can; JAX and Keras
return new arrays. "1 thread" and "2 threads" hold for both sides; NumPy's generators have one.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from timing import Contender, in_turns, ratio

import fastinit as fi

SMALL, MIDDLE, LARGE = 1_000, 1_000_000, 100_000_000
SIZES = {SMALL: (10, 100), MIDDLE: (1000, 1000), LARGE: (10_000, 10_000)}
# What the README promises is measured at 2**26 elements.
PROMISED = (8192, 8192)

# Names here, in torch.nn.init and in jax.nn.initializers.
SCHEMES = {
    "uniform": ("uniform_", "uniform"),
    "normal": ("normal_", "normal"),
    "truncated_normal": ("trunc_normal_", "truncated_normal"),
    "he_normal": ("kaiming_normal_", None),
    "he_uniform": ("kaiming_uniform_", "he_uniform"),
    "glorot_normal": ("xavier_normal_", None),
    "glorot_uniform": ("xavier_uniform_", "glorot_uniform"),
    "lecun_normal": (None, None),
    "lecun_uniform": (None, "lecun_uniform"),
    "zeros": ("zeros_", "zeros"),
    "sparse": ("sparse_", None),
    "orthogonal": ("orthogonal_", "orthogonal"),
}
# Algorithms of higher order than the number of elements stop here.
CUBIC = ("orthogonal",)
DISTRIBUTIONS = {"uniform": "random", "normal": "standard_normal"}


def repeated(work: Callable[[], object]) -> Contender:
    def contender(n: int) -> None:
        for _ in range(n):
            work()

    return contender


def ours(scheme: str, out, threads: int) -> Callable[[], object]:
    fill = fi.initializers.get(scheme)
    return lambda: fill(out=out, seed=0, threads=threads)


def torch_fill(name: str, shape: tuple[int, int], threads: int, dtype: str = "float32"):
    import torch

    torch.set_num_threads(threads)
    tensor = torch.ones(shape, dtype=getattr(torch, dtype))
    fill = getattr(torch.nn.init, name)
    arguments = {"sparse_": (0.9,)}.get(name, ())
    # threads again, because the other side may have changed them since
    return lambda: (torch.set_num_threads(threads), fill(tensor, *arguments))


def numpy_fill(name: str, shape: tuple[int, int]) -> Callable[[], object]:
    draw = getattr(np.random.Generator(np.random.SFC64(0)), name)
    out = np.ones(shape, np.float32)
    return lambda: draw(out=out, dtype=np.float32)


def jax_fill(name: str, shape: tuple[int, int]) -> Callable[[], object]:
    import jax

    made = getattr(jax.nn.initializers, name)
    draw = made if name == "zeros" else made()
    key = jax.random.key(0)
    compiled = jax.jit(lambda k: draw(k, shape, "float32"))
    return lambda: compiled(key).block_until_ready()


def keras_fill(name: str, shape: tuple[int, int]) -> Callable[[], object]:
    import keras

    draw = keras.initializers.get(name)
    return lambda: np.asarray(draw(shape, "float32"))


def peers(scheme: str, shape: tuple[int, int], threads: int) -> dict[str, Callable[[], object]]:
    """Whoever is installed and has the scheme; NumPy has no threads and JAX no count of them."""
    in_torch, in_jax = SCHEMES[scheme]
    found = {}
    if in_torch and find_spec("torch"):
        found[f"torch.nn.init.{in_torch}"] = torch_fill(in_torch, shape, threads)
    if scheme in DISTRIBUTIONS and threads == 1:
        found[f"NumPy {DISTRIBUTIONS[scheme]}"] = numpy_fill(DISTRIBUTIONS[scheme], shape)
    if in_jax and threads == 2 and find_spec("jax"):
        found[f"jax {in_jax}"] = jax_fill(in_jax, shape)
    if in_jax and threads == 2 and find_spec("keras"):
        found[f"keras {in_jax}"] = keras_fill(in_jax, shape)
    return found


# --- pytest benches/bench_fill.py: every scheme at every size ------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fill(benchmark, scheme, size, threads):
    if size == LARGE and scheme in CUBIC:
        pytest.skip("10,000 x 10,000 by a cubic algorithm")
    benchmark.group = f"{scheme}, {size:,}, {threads} threads"
    benchmark.pedantic(ours(scheme, np.ones(SIZES[size], np.float32), threads), rounds=5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_peers(benchmark, scheme, size, threads):
    if size == LARGE and scheme in CUBIC:
        pytest.skip("10,000 x 10,000 by a cubic algorithm")
    found = peers(scheme, SIZES[size], threads)
    if not found:
        pytest.skip("no peer installed that has the scheme")
    benchmark.group = f"{scheme}, {size:,}, {threads} threads"
    benchmark.pedantic(lambda: [fill() for fill in found.values()], rounds=1, warmup_rounds=1)


# --- python benches/report.py: the promises, then every scheme -----------------------------------


def promises() -> list[dict]:
    out = np.ones(PROMISED, np.float32)
    whole = {
        threads: {
            name: repeated(ours(name, out, threads))
            for name in ("he_normal", "he_uniform", "truncated_normal")
        }
        for threads in (1, 2)
    }
    rows = []

    def row(question: str, peer: str, theirs: Contender, mine: Contender, target: str) -> None:
        times = in_turns({"peer": theirs, "fastinit": mine}, turns=5, seconds=0.02)
        measured = ratio(times, "peer", "fastinit")
        rows.append({"question": question, "peer": peer, "measured": measured, "target": target})

    if find_spec("torch"):
        import torch

        for threads, target in ((2, "6"), (1, "3.2")):
            theirs = repeated(torch_fill("kaiming_normal_", PROMISED, threads))
            question = f"he_normal, 67 million, threads: {threads}"
            row(question, "torch kaiming_normal_", theirs, whole[threads]["he_normal"], target)
        theirs = repeated(torch_fill("kaiming_uniform_", PROMISED, 2))
        row(
            "he_uniform, 67 million, threads: 2",
            "torch kaiming_uniform_",
            theirs,
            whole[2]["he_uniform"],
            "5.5",
        )
        theirs = repeated(torch_fill("trunc_normal_", PROMISED, 2))
        row(
            "truncated_normal, 67 million, threads: 2",
            "torch trunc_normal_",
            theirs,
            whole[2]["truncated_normal"],
            "60",
        )
        tensor = torch.ones(PROMISED, dtype=torch.bfloat16)
        theirs = repeated(torch_fill("normal_", PROMISED, 2, "bfloat16"))
        row(
            "he_normal, 67 million bfloat16, threads: 2",
            "torch normal_",
            theirs,
            repeated(ours("he_normal", tensor, 2)),
            "6",
        )
        square = np.ones((2048, 2048), np.float32)
        theirs = repeated(torch_fill("orthogonal_", square.shape, 2))
        row(
            "orthogonal, 2048 x 2048",
            "torch orthogonal_",
            theirs,
            repeated(lambda: fi.orthogonal(out=square, seed=0)),
            "1",
        )
    else:
        rows.append({"question": "he_normal", "peer": "torch", "skipped": "not installed"})
    theirs = repeated(numpy_fill("standard_normal", PROMISED))
    row(
        "he_normal, 67 million, threads: 2",
        "NumPy SFC64 standard_normal",
        theirs,
        whole[2]["he_normal"],
        "10.5",
    )
    row(
        "he_normal, 67 million, threads: 2",
        "the limit: ndarray.fill, one thread",
        repeated(lambda: out.fill(1)),
        whole[2]["he_normal"],
        "0.67",
    )
    small = np.ones(SIZES[SMALL], np.float32)
    row(
        "he_normal, 1,000, whole call",
        "NumPy SFC64 standard_normal",
        repeated(numpy_fill("standard_normal", SIZES[SMALL])),
        repeated(ours("he_normal", small, 2)),
        "0.67",
    )
    return rows


def ratios() -> list[dict]:
    rows = promises()
    for scheme in SCHEMES:
        for size in (SMALL, MIDDLE):
            shape = SIZES[size]
            for threads in (1, 2):
                mine = repeated(ours(scheme, np.ones(shape, np.float32), threads))
                for peer, theirs in peers(scheme, shape, threads).items():
                    times = in_turns(
                        {"peer": repeated(theirs), "fastinit": mine}, turns=5, seconds=0.01
                    )
                    rows.append(
                        {
                            "question": f"{scheme}, {size:,}, threads: {threads}",
                            "peer": peer,
                            "measured": ratio(times, "peer", "fastinit"),
                        }
                    )
    return rows
