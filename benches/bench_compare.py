"""How long does training many networks take, and how large is the overhead of compare?

256 networks of the lesson are trained on its data in float64 with full batches. The cost of each
network is recorded in every iteration. Set-up and compilation are not timed, except for the whole
process. Peers that are not installed are reported as skipped.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from timing import PAUSE, Contender, absent, in_turns, needs, ratio

import fastinit as fi

SIZES = [2, 10, 5, 1]
RATE = 0.01
NETWORKS = 256
OVERHEAD = 0.3e-3  # limit for compare, in seconds per run
SEEDS = 100  # for the timing of the whole process
SHORT = 100_000  # short trainings


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    state = np.random.get_state()
    arrays = fi.lesson.load_dataset()
    np.random.set_state(state)
    return arrays


def starts() -> np.ndarray:
    return fi.Network(SIZES).initialize("he_normal", seed=0, n=NETWORKS)


def fastinit(threads: int = 2) -> Contender:
    X, Y, _, _ = data()
    net, thetas = fi.Network(SIZES), starts()

    def stack(n: int) -> object:
        return fi.train(net, thetas.copy(), X, Y, learning_rate=RATE, iterations=n, threads=threads)

    return stack


def jax_vmap() -> Contender:
    """All networks in one vmap, the whole loop in one jit."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    X, Y, _, _ = data()
    net = fi.Network(SIZES)
    stacked = [net.unpack(theta) for theta in starts()]
    parameters = {k: jnp.asarray(np.stack([p[k] for p in stacked])) for k in stacked[0]}

    def cost(p, X, Y):
        A = X
        for layer in (1, 2):
            A = jnp.maximum(p[f"W{layer}"] @ A + p[f"b{layer}"], 0)
        z = p["W3"] @ A + p["b3"]
        # The stable loss from logits is also the faster one.
        return jnp.mean(jax.nn.softplus(z) - z * Y)

    step = jax.vmap(jax.value_and_grad(cost), in_axes=(0, None, None))

    def body(i, state):
        p, costs, X, Y = state
        values, gradients = step(p, X, Y)
        p = jax.tree.map(lambda w, g: w - RATE * g, p, gradients)
        return p, costs.at[i % len(costs)].set(values), X, Y

    @jax.jit
    def loop(n, p, X, Y):
        # A ring buffer, because the number of iterations is not known at compile time.
        return jax.lax.fori_loop(0, n, body, (p, jnp.zeros((4096, NETWORKS)), X, Y))

    X, Y = jnp.asarray(X), jnp.asarray(Y)
    return lambda n: jax.block_until_ready(loop(n, parameters, X, Y))


def torch_vmap() -> Contender:
    """All networks in one vmap, with two threads."""
    import torch

    X, Y, _, _ = data()
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    net = fi.Network(SIZES)
    stacked = [net.unpack(theta) for theta in starts()]
    start = {k: torch.from_numpy(np.stack([p[k] for p in stacked])) for k in stacked[0]}

    def cost(p):
        A = X
        for layer in (1, 2):
            A = torch.relu(p[f"W{layer}"] @ A + p[f"b{layer}"])
        z = p["W3"] @ A + p["b3"]
        return torch.nn.functional.binary_cross_entropy_with_logits(z, Y)

    step = torch.func.vmap(torch.func.grad_and_value(cost))

    def iterate(n: int) -> torch.Tensor:
        torch.set_num_threads(2)
        p = {name: value.clone() for name, value in start.items()}
        costs = torch.empty(n, NETWORKS, dtype=torch.float64)
        for i in range(n):
            gradients, costs[i] = step(p)
            for name, value in p.items():
                value.sub_(gradients[name], alpha=RATE)
        return costs

    return iterate


CONTENDERS = {
    "fastinit": (None, fastinit),
    "fastinit, 1 core": (None, lambda: fastinit(threads=1)),
    "JAX `vmap`, whole loop jitted": ("jax", jax_vmap),
    "`torch.func.vmap`, 2 threads": ("torch", torch_vmap),
}
TARGETS = {
    "JAX `vmap`, whole loop jitted": 7,
    "`torch.func.vmap`, 2 threads": 10,
    "fastinit, 1 core": 1.85,
}


def prepared(name: str) -> Contender:
    package, make = CONTENDERS[name]
    needs(package)
    return make()


@pytest.mark.parametrize("name", CONTENDERS)
def test_stack(benchmark, name):
    contender = prepared(name)
    benchmark.group = f"10 iterations of {NETWORKS} networks"
    benchmark(contender, 10)


def overhead(runs: int = 200, iterations: int = 1000) -> float:
    """Return the overhead of a grid with a store, in seconds per run, on one thread."""
    X, Y, X_test, Y_test = data()
    with tempfile.TemporaryDirectory() as folder:
        before = perf_counter()
        result = fi.compare(
            X, Y, fi.Network(SIZES), ["he_normal"], test=(X_test, Y_test), seed=range(runs),
            iterations=iterations, store=Path(folder, "runs.sqlite"), threads=1,
        )  # fmt: skip
        spent = perf_counter() - before
    return (spent - float(result.columns()["seconds"].sum())) / runs


def short_trainings(runs: int, store: bool) -> float:
    """Return how many times as long as the bare trainings a grid of short trainings takes.

    Networks 2-8-1 make 50 iterations on 100 examples, from two schemes. The bare trainings are
    those of the same starts, in stacks of 512, which is the fastest size.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 100))
    Y = (X[:1] * X[1:] > 0).astype(float)
    net, schemes, seeds = fi.Network([2, 8, 1]), ["he_normal", "glorot_normal"], range(runs // 2)
    starts = np.array([net.initialize(scheme, seed=s) for scheme in schemes for s in seeds])
    before = perf_counter()
    for first in range(0, runs, 512):
        fi.train(net, starts[first : first + 512], X, Y, iterations=50, threads=2)
    bare = perf_counter() - before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.sqlite") if store else None
        before = perf_counter()
        fi.compare(X, Y, net, schemes, seed=seeds, iterations=50, store=path, threads=2)
        return (perf_counter() - before) / bare


def whole_process() -> float:
    """Return the time of the command with store, figures and report, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-P", "-m", "fastinit", "compare", "--seeds", f"0:{SEEDS}",
            "--store", "runs.sqlite", "--report", "report.html", "--threads", "2",
        ]  # fmt: skip
        before = perf_counter()
        subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"MPLBACKEND": "Agg"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return perf_counter() - before


def bare_trainings() -> float:
    """Return the time of the same trainings as one stack, in seconds."""
    X, Y, _, _ = data()
    net = fi.Network(SIZES, loss="saturating_cross_entropy")
    schemes = ("zeros", "lesson.random", "lesson.he")
    thetas = [net.initialize(scheme, seed=seed) for scheme in schemes for seed in range(SEEDS)]
    before = perf_counter()
    fi.train(net, np.array(thetas), X, Y, learning_rate=RATE, iterations=15_000, threads=2)
    return perf_counter() - before


def million_rows(path: str, runs: int = 1_000_000) -> dict[str, float]:
    """Write a store of runs with random numbers and open it in a fresh process.

    Returns
    -------
    dict
        Microseconds of a written run, and seconds and megabytes of opening the store.
    """
    from fastinit.comparison import grid, results, trials
    from fastinit.comparison.store import Writer

    X, Y, _, _ = data()
    net, draw, size = fi.Network([2, 8, 1]), np.random.default_rng(0), 2800
    cells = grid.grid_of(net, grid.labelled(["he_normal", "zeros"]), seed=range(runs // 2))
    shared = trials.Data(X, Y, None, trials.Training(iterations=50))
    comparison = results.Comparison(shared, cells, net, {"iterations": 50})
    points, seconds = trials.points_of(50, None, X.shape[1]), 0.0
    with Writer(path, comparison) as writer:
        for places in np.array_split(draw.permutation(len(cells)), -(-len(cells) // size)):
            k = len(places)
            columns = {
                name: np.zeros(k, dtype) if dtype.kind == "i" else draw.random(k)
                for name, dtype in trials.COLUMNS.items()
            }
            starts, thetas = draw.random((2, k, net.n_parameters))
            block = trials.Block(columns, starts, thetas, points, draw.random((k, len(points))))
            keys = [draw.bytes(16) for _ in range(k)]
            began = perf_counter()
            writer.add(keys, places, block)
            seconds += perf_counter() - began
    script = (
        "import sys, resource, time; from fastinit.comparison import open_comparison;"
        "began = time.perf_counter(); open_comparison(sys.argv[1]).columns();"
        "print(time.perf_counter() - began,"
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", script, path]
    opened = subprocess.run(command, capture_output=True, text=True, check=True)
    took, megabytes = map(float, opened.stdout.split())
    return {"us_per_run": seconds / runs * 1e6, "open_seconds": took, "open_megabytes": megabytes}


def ratios() -> list[dict]:
    """Return one row per target: the time of the peer divided by ours."""
    contenders, rows = {}, []
    question = f"one iteration of {NETWORKS} networks of the lesson, 2 cores"
    for name, (package, make) in CONTENDERS.items():
        if reason := absent(package):
            rows.append({"question": question, "peer": name, "skipped": reason})
        else:
            contenders[name] = make()
    times = in_turns(contenders, turns=9, seconds=0.5, pause=PAUSE)
    rows += [
        {
            "question": question,
            "peer": name,
            "target": target,
            "measured": ratio(times, name, "fastinit"),
        }
        for name, target in TARGETS.items()
        if name in times
    ]
    rows.append(
        {
            "question": "overhead of one run in a grid with a store",
            "peer": f"limit: {OVERHEAD * 1e3} ms",
            "target": 1,
            "measured": median(OVERHEAD / overhead() for _ in range(7)),
        }
    )
    rows += [
        {
            "question": f"{SHORT:,} trainings of 50 iterations in a grid {with_} a store",
            "peer": "limit: the same trainings alone",
            # 1 / 3: the grid may take three times as long.
            "target": 0.33,
            "measured": median(1 / short_trainings(SHORT, with_ == "with") for _ in range(3)),
        }
        for with_ in ("without", "with")
    ]
    rows.append(
        {
            "question": f"`fastinit compare --seeds 0:{SEEDS}` with a store, pictures and a report",
            "peer": "limit: the same training alone",
            # 1 / 1.4: the whole process may take 1.4 times as long as the training.
            "target": 0.71,
            "measured": median(bare_trainings() / whole_process() for _ in range(3)),
        }
    )
    return rows
