"""How fast are the initialisers?

float32 unless stated otherwise. Peers fill existing memory in place if they can; JAX and Keras
return new arrays. "1 thread" and "2 threads" apply to both sides; NumPy's generators use one
thread.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
from timing import Contender, absent, in_turns, needs, ratio

import fastinit as fi

SMALL, MIDDLE, LARGE = 1_000, 1_000_000, 100_000_000
SIZES = {SMALL: (10, 100), MIDDLE: (1000, 1000), LARGE: (10_000, 10_000)}
# Shape for the rows with targets: 2**26 elements.
TARGET_SHAPE = (8192, 8192)

# Names in fastinit: names in torch.nn.init and jax.nn.initializers.
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
# One has cubic complexity, the other sorts: both take minutes at the largest size in any library.
SLOW = ("orthogonal", "sparse")
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
    # The other contender may have changed the number of threads.
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
    os.environ.setdefault("KERAS_BACKEND", "jax")  # the default is TensorFlow
    import keras

    draw = keras.initializers.get(name)
    return lambda: np.asarray(draw(shape, "float32"))


Maker = Callable[[tuple[int, int]], Callable[[], object]]


def makers(scheme: str) -> dict[str, tuple[str | None, Maker]]:
    """Return the packages of the peers that have a scheme, and what makes their fills.

    Only torch has a setting for threads.
    """
    in_torch, in_jax = SCHEMES[scheme]
    found: dict[str, tuple[str | None, Maker]] = {}
    if in_torch:
        for threads in (1, 2):
            found[f"torch, {threads}"] = "torch", partial(torch_fill, in_torch, threads=threads)
    if scheme in DISTRIBUTIONS:
        found["NumPy"] = None, partial(numpy_fill, DISTRIBUTIONS[scheme])
    if in_jax:
        found["JAX"] = "jax", partial(jax_fill, in_jax)
        found["Keras"] = "keras", partial(keras_fill, in_jax)
    return found


def peers(scheme: str, shape: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Return the installed peers that have the scheme."""
    return {
        name: make(shape)
        for name, (package, make) in makers(scheme).items()
        if absent(package) is None
    }


# --- pytest benches/bench_fill.py: every scheme at every size ------------------------------------


# SLOW schemes are not filled at the largest size.
FILLS = [(scheme, n) for n in SIZES for scheme in SCHEMES if n != LARGE or scheme not in SLOW]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("scheme", "size"), FILLS)
def test_fill(benchmark, scheme, size, threads):
    benchmark.group = f"{scheme}, {size:,}, {threads} threads"
    benchmark.pedantic(ours(scheme, np.ones(SIZES[size], np.float32), threads), rounds=5)


@pytest.mark.parametrize(
    ("peer", "scheme", "size"),
    [(peer, scheme, size) for scheme, size in FILLS for peer in makers(scheme)],
)
def test_peer(benchmark, peer, scheme, size):
    package, make = makers(scheme)[peer]
    needs(package)
    benchmark.group = f"{scheme}, {size:,}"
    benchmark.pedantic(make(SIZES[size]), rounds=3, warmup_rounds=1)


# --- python benches/report.py: the targets, then every scheme at every size ----------------------


def ratios() -> list[dict]:
    """Return one row per target."""
    out = np.ones(TARGET_SHAPE, np.float32)
    small = np.ones(SIZES[SMALL], np.float32)
    square = np.ones((2048, 2048), np.float32)

    def torch_peer(name: str, shape: tuple[int, int], threads: int, dtype: str = "float32"):
        return lambda: torch_fill(name, shape, threads, dtype)

    def half() -> Callable[[], object]:
        import torch

        return ours("he_normal", torch.ones(TARGET_SHAPE, dtype=torch.bfloat16), 2)

    def numpy_peer(shape: tuple[int, int]):
        return lambda: numpy_fill("standard_normal", shape)

    two, big = "2 threads", "67 million float32"
    fast = {name: lambda n=name: ours(n, out, 2) for name in ("he_normal", "he_uniform")}
    table = [
        (f"`he_normal`, {big}, {two}", "torch `kaiming_normal_`", 6,
         torch_peer("kaiming_normal_", TARGET_SHAPE, 2), fast["he_normal"]),
        (f"`he_normal`, {big}, 1 thread", "torch `kaiming_normal_`", 3.2,
         torch_peer("kaiming_normal_", TARGET_SHAPE, 1), lambda: ours("he_normal", out, 1)),
        (f"`he_normal`, {big}, {two}", "NumPy `SFC64` `standard_normal(out=)`", 10.5,
         numpy_peer(TARGET_SHAPE), fast["he_normal"]),
        (f"`he_uniform`, {big}, {two}", "torch `kaiming_uniform_`", 5.5,
         torch_peer("kaiming_uniform_", TARGET_SHAPE, 2), fast["he_uniform"]),
        (f"`truncated_normal`, {big}, {two}", "torch `trunc_normal_`", 60,
         torch_peer("trunc_normal_", TARGET_SHAPE, 2), lambda: ours("truncated_normal", out, 2)),
        (f"`he_normal`, 67 million bfloat16, {two}", "torch `normal_`", 6,
         torch_peer("normal_", TARGET_SHAPE, 2, "bfloat16"), half),
        (f"`orthogonal`, 2048 x 2048, {two}", "torch `orthogonal_`", 1,
         torch_peer("orthogonal_", square.shape, 2), lambda: ours("orthogonal", square, 2)),
        # 1 / 1.5: the limit is 1.5 times the time.
        (f"`he_normal`, {big}, {two}", "limit: `ndarray.fill`, 1 thread", 0.67,
         lambda: lambda: out.fill(1), fast["he_normal"]),
        ("`he_normal`, 1,000 float32, whole call", "NumPy `standard_normal(out=)`", 0.67,
         numpy_peer(SIZES[SMALL]), lambda: ours("he_normal", small, None)),
    ]  # fmt: skip
    rows = []
    for question, peer, target, theirs, mine in table:
        row = {"question": question, "peer": peer, "target": target}
        if "torch" in peer and find_spec("torch") is None:
            rows.append(row | {"skipped": "torch is not installed"})
            continue
        contenders = {"peer": repeated(theirs()), "fastinit": repeated(mine())}
        times = in_turns(contenders, turns=9, seconds=0.02)
        rows.append(row | {"measured": ratio(times, "peer", "fastinit")})
    return rows


MATRIX = "Every initialiser at every size, as times as fast"


def matrix() -> list[dict]:
    """Return one row per scheme and size: the time of each peer divided by ours.

    ``fill`` is ``ndarray.fill`` on one thread, compared with two threads of fastinit.
    """
    rows = []
    for scheme in SCHEMES:
        for size, shape in SIZES.items():
            if size == LARGE and scheme in SLOW:
                continue
            out = np.ones(shape, np.float32)
            contenders = {f"fastinit, {threads}": ours(scheme, out, threads) for threads in (1, 2)}
            contenders |= peers(scheme, shape) | {"fill": lambda out=out: out.fill(1)}
            times = in_turns(
                {name: repeated(work) for name, work in contenders.items()},
                turns=3 if size == LARGE else 7,
                seconds=0.01,
            )
            row = {"initialiser": f"`{scheme}`", "elements": f"{size:,}"}
            row["ns per element, 1 and 2 threads"] = " / ".join(
                f"{min(times[f'fastinit, {threads}']) / size * 1e9:.2f}" for threads in (1, 2)
            )
            for name in ("torch, 1", "torch, 2", "NumPy", "JAX", "Keras", "fill"):
                own = "fastinit, 1" if name in ("torch, 1", "NumPy") else "fastinit, 2"
                row[name] = f"{ratio(times, name, own):.2g}" if name in times else ""
            rows.append(row)
    return rows
