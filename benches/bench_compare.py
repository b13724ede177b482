"""How long does training many networks take, and how large is the overhead of compare?

256 networks of the lesson are trained on its data in float64 with full batches. The cost of each
network is recorded in every iteration. Set-up and compilation are not timed, except for the whole
process. Peers that are not installed are reported as skipped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

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
ROWS = 1_000_000  # of a store whose report is written
REPORT_SECONDS, REPORT_MEGABYTES = 10, 500  # limits for that


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


def short_trainings(runs: int, store: bool) -> tuple[float, float]:
    """Return how many times as long as the bare trainings a grid of short trainings takes.

    By the clock and by processor time. Networks 2-8-1 make 50 iterations on 100 examples, from two
    schemes. The bare trainings are those of the same starts, in stacks of 512, which is the fastest
    size.
    """
    X, Y = short_data()
    net, schemes, seeds = fi.Network([2, 8, 1]), ["he_normal", "glorot_normal"], range(runs // 2)
    starts = np.concatenate([net.initialize(scheme, seed=seeds) for scheme in schemes])

    def bare() -> None:
        for first in range(0, runs, 512):
            fi.train(net, starts[first : first + 512], X, Y, iterations=50, threads=2)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.sqlite") if store else None
        times = []
        for work in (
            bare,
            lambda: fi.compare(
                X, Y, net, schemes, seed=seeds, iterations=50, store=path, threads=2
            ),
        ):
            before = perf_counter(), process_time()
            work()
            times.append((perf_counter() - before[0], process_time() - before[1]))
    (bare_wall, bare_seconds), (wall, seconds) = times
    return wall / bare_wall, seconds / bare_seconds


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


def short_data() -> tuple[np.ndarray, np.ndarray]:
    """Return 100 examples of two features, and their classes."""
    X = np.random.default_rng(0).standard_normal((2, 100))
    return X, (X[:1] * X[1:] > 0).astype(float)


# Grids of a million rows: their axes, and the number of cells other than the seed.
SCHEMES = ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "zeros"]
GRIDS: dict[str, tuple[dict, int]] = {
    "6 schemes": ({}, 6),
    "60 cells": ({"depth": range(1, 6), "learning_rate": [0.03, 0.3]}, 60),
    "600 cells": (
        {"depth": range(1, 6), "width": [4, 8, 12, 16], "learning_rate": [0.01, 0.03, 0.1, 0.3, 1]},
        600,
    ),
}


def fill_store(path: Path, axes: dict, n_cells: int, rows: int = ROWS) -> None:
    """Write a store of runs that were never trained, by the writer that `compare` uses."""
    from fastinit.comparison import courses, grid, results, trials
    from fastinit.comparison.store import Writer

    (X, Y), draw = short_data(), np.random.default_rng(0)
    net = fi.Network([2, 8, 1])
    cells = grid.grid_of(net, grid.labelled(SCHEMES), seed=range(-(-rows // n_cells)), **axes)
    shared = trials.Data(X, Y, (X, Y), trials.Training(iterations=50))
    comparison = results.Comparison(shared, cells, net, {"iterations": 50})
    points = shared.points_of(None)
    # Axes other than the seed shift the logarithm of the cost.
    names = [name for name in cells.values if name != "seed"]
    effect = sum(cells.code(name) * (0.1 + 0.05 * i) for i, name in enumerate(names))
    _, network = np.unique(cells.codes[:, 2:5], axis=0, return_inverse=True)
    order = draw.permutation(len(cells))
    order = order[np.argsort(network.ravel()[order], kind="stable")]
    ends = np.cumsum(np.bincount(network.ravel()))[:-1]
    with Writer(path, comparison) as writer:
        for own in np.split(order, ends):
            for places in np.array_split(own, -(-len(own) // 2800)):
                k, size = len(places), cells[int(places[0])].network.n_parameters
                columns = {name: np.zeros(k, dtype) for name, dtype in trials.COLUMNS.items()}
                final = np.exp(effect[places] - 2 + 0.3 * draw.standard_normal(k))
                diverged = draw.random(k) < 0.01
                columns |= {
                    "iterations": np.where(diverged, 20, 50),
                    "diverged_at": np.where(diverged, 20, -1),
                    "stopped": np.where(diverged, courses.STOPPED.index("divergence"), 0),
                    "course": draw.integers(1, 5, k),
                    "start_cost": draw.normal(0.7, 0.01, k),
                    "final_cost": np.where(diverged, np.nan, final),
                    "test_cost": final * 1.1,
                    "losses_p_value": draw.random(k),
                    "test_gain_error": final / 10,
                    "change": -draw.random(k) / 10,
                    "gradient_norm": draw.random(k) / 10,
                    "seconds": np.full(k, 1e-4),
                    "iterations_to_cost": np.full(k, -1),
                    "iterations_to_accuracy": np.full(k, -1),
                }
                for name in ("train_score", "test_score"):
                    columns[name] = draw.binomial(100, np.exp(-final / 2)) / 100
                starts, thetas = draw.random((2, k, size))
                falling = np.exp(-(points + 1) / 20) + final[:, None]
                costs = np.where(diverged[:, None] & (points >= 20), np.nan, falling)
                block = trials.Block(columns, starts, thetas, points, costs)
                writer.add([draw.bytes(16) for _ in range(k)], places, block)


# A small process in between: the peak of a process includes that of the one which started it.
MEASURE = """
import json, os, subprocess, sys
from time import perf_counter
before = perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
seconds = usage.ru_utime + usage.ru_stime
unit = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps([perf_counter() - before, seconds, usage.ru_maxrss / unit]))
sys.exit(process.returncode)
"""


def used(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its wall time and processor time in seconds, and its megabytes."""
    measured = [sys.executable, "-c", MEASURE, *command]
    printed = subprocess.run(measured, stdout=subprocess.PIPE, check=True).stdout
    wall, processor, megabytes = json.loads(printed)
    return wall, processor, megabytes


def report_of(name: str, rows: int = ROWS, folder: Path | None = None) -> tuple[float, ...]:
    """Return what opening a store of many rows and writing its report takes, as :func:`used`.

    With a folder, the store is kept there and used again.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(folder or temporary, f"{name.replace(' ', '_')}_{rows}.sqlite")
        if not path.exists():
            fill_store(path, *GRIDS[name], rows)
        report = Path(temporary, "report.html")
        return used(
            [sys.executable, "-P", "-m", "fastinit", "report", str(path), "-o", str(report)]
        )


@pytest.mark.parametrize("name", GRIDS)
def test_report_by_fastinit(benchmark, name):
    benchmark.group = "report of a store"
    benchmark.pedantic(report_of, (name, 600), rounds=1)


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
            "measured": median(1 / short_trainings(SHORT, with_ == "with")[0] for _ in range(3)),
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
    for name in GRIDS:
        wall, _, megabytes = report_of(name)
        question = f"`fastinit report` of a store of {ROWS:,} rows, {name}"
        rows += [
            {
                "question": question,
                "peer": f"limit: {limit} {unit}",
                "target": 1,
                "measured": limit / spent,
            }
            for limit, unit, spent in (
                (REPORT_SECONDS, "s", wall),
                (REPORT_MEGABYTES, "MB", megabytes),
            )
        ]
    return rows


def main() -> None:
    """Print the figures of many rows, for `python benches/bench_compare.py --rows N`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=SHORT, help="short trainings; 0: none")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a store; 0: none")
    parser.add_argument("--grid", choices=GRIDS, action="append", help="only these grids")
    parser.add_argument("--stores", type=Path, help="a folder in which the stores are kept")
    arguments = parser.parse_args()
    if arguments.stores:
        arguments.stores.mkdir(parents=True, exist_ok=True)
    for store in (False, True) if arguments.count else ():
        factor, seconds = short_trainings(arguments.count, store)
        print(
            f"{arguments.count:,} trainings {'with' if store else 'without'} a store: "
            f"{factor:.2f} times the bare ones, {seconds:.2f} times by processor time"
        )
    for name in arguments.grid or GRIDS if arguments.rows else ():
        wall, seconds, megabytes = report_of(name, arguments.rows, arguments.stores)
        print(
            f"report of {arguments.rows:,} rows, {name}: {wall:.1f} s, {seconds:.1f} s of "
            f"processor time, {megabytes:.0f} MB"
        )


if __name__ == "__main__":
    main()
