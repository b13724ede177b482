"""How long does one step take on random shapes, against plain NumPy?

Random shapes reveal sizes at which a library is slow, which hand-picked shapes may not. The worst
ratio is therefore reported as well. Both sides perform the same computation: a whole step of
gradient descent, the cost recorded in every step, and batches in a new random order in every epoch.
Both sides must compute the same costs before they are timed.

Only steps are timed. A call of fastinit begins with checks and copies of X, which the NumPy
function does not need, so that its timing starts after the first step.

``python benches/bench_random_shapes.py --seed 0 --count 36`` prints the ratio of each shape,
``--cliffs`` times shapes that were slow in earlier versions, ``--shape 784-128-10 --examples 128``
any other shape.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import geometric_mean
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import PAUSE, Contender, Seconds, absent, in_turns, ratio

import fastinit as fi
from fastinit import reference
from fastinit.training.network import ACTIVATIONS, LOSSES

Array = NDArray[Any]
Orders = Callable[[int], Array]  # of an epoch by its number

MOST_INPUTS, MOST_LAYERS, MOST_UNITS, MOST_EXAMPLES = 20_000, 5, 600, 50_000
OUTPUTS = (1, 3, 10, 100)
BATCHES = (32, 256)
MOST_MULTIPLY_ADDS = 3_000_000_000
MOST_BYTES = 1_500_000_000  # of X
# Number of steps whose costs are compared before the timing. Rounding errors grow with the steps.
CHECKED_STEPS = 4
TOLERANCES = {"float64": 1e-9, "float32": 1e-3}
NEGATIVE_SLOPE = 0.01
# Number of shapes in the report, and the settings of their timing.
REPORTED, REPORT_TURNS, REPORT_SECONDS = 100, 3, 0.05


@dataclass(frozen=True)
class Case:
    """A network, its data and the batch size."""

    sizes: tuple[int, ...]
    examples: int
    activation: str = "relu"
    output: str = "sigmoid"
    dtype: str = "float64"
    batch_size: int | None = None

    def __str__(self) -> str:
        batches = f" in batches of {self.batch_size}" if self.batch_size else ""
        return (
            f"{'-'.join(map(str, self.sizes))} {self.activation} {self.output} {self.dtype}, "
            f"{self.examples:,}{batches}"
        )

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a step: forward, gradients of the weights and of the activations."""
        products = [n_in * n_out for n_in, n_out in pairwise(self.sizes)]
        return (self.batch_size or self.examples) * (3 * sum(products) - products[0])

    @property
    def bytes(self) -> int:
        """Size of X."""
        return self.sizes[0] * self.examples * np.dtype(self.dtype).itemsize

    @property
    def network(self) -> fi.Network:
        return fi.Network(
            self.sizes, activation=self.activation, output=self.output, dtype=self.dtype
        )

    @property
    def rate(self) -> float:
        """Learning rate. It decreases with the number of units, because gradients grow with it."""
        return 0.1 / sum(self.sizes)

    @property
    def skipped(self) -> str | None:
        """The reason why the shape is skipped, or None."""
        # Without SciPy, NumPy has no vectorised erf.
        return absent("scipy") if self.activation == "gelu" else None

    def data(self) -> tuple[Array, Array, Array]:
        """Return X, Y with one row per output, and the initial parameters."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.sizes[0], self.examples), dtype=self.dtype)
        shape = self.sizes[-1], self.examples
        if self.output == "softmax":
            Y = np.zeros(shape, self.dtype)
            Y[rng.integers(shape[0], size=shape[1]), np.arange(shape[1])] = 1
        elif self.output == "sigmoid":
            Y = rng.integers(2, size=shape).astype(self.dtype)
        elif self.output == "exponential":
            Y = rng.poisson(1, size=shape).astype(self.dtype)
        else:
            Y = rng.standard_normal(shape, dtype=self.dtype)
        return X, Y, self.network.initialize("lecun_normal", seed=0)


# Shapes that were slower than plain NumPy when the strategy did not depend on the batch size.
CLIFFS = (
    Case((300, 1), 100_000),
    Case((2357, 1), 1_106, dtype="float32"),
    Case((30_000, 16, 1), 150),
    Case((12_288, 7, 1), 209),
    Case((12_288, 20, 7, 5, 1), 209),
    Case((4761, 2, 25, 9, 1, 30, 1), 4_052, activation="tanh"),
    Case((3506, 66, 27, 35, 1), 946),
    Case((186, 39, 327, 127, 3), 2, activation="tanh"),
    Case((19_298, 1), 3),
)


def drawn(seed: int, index: int) -> Case:
    """Return random shape number ``index``, which does not depend on the number of shapes drawn."""
    rng = np.random.default_rng([seed, index])

    def log_uniform(most: int) -> int:
        return round(math.exp(rng.uniform(0, math.log(most))))

    while True:
        hidden = [log_uniform(MOST_UNITS) for _ in range(rng.integers(MOST_LAYERS + 1))]
        n_outputs = int(rng.choice(OUTPUTS))
        examples = log_uniform(MOST_EXAMPLES)
        case = Case(
            sizes=(log_uniform(MOST_INPUTS), *hidden, n_outputs),
            examples=examples,
            activation=str(rng.choice(ACTIVATIONS)),
            output=str(rng.choice([o for o in LOSSES if o != "softmax" or n_outputs > 1])),
            dtype=str(rng.choice(list(TOLERANCES))),
            batch_size=min(int(rng.integers(*BATCHES, endpoint=True)), examples)
            if index % 3 == 2
            else None,
        )
        if case.multiply_adds <= MOST_MULTIPLY_ADDS and case.bytes <= MOST_BYTES:
            return case


# --- the peer: a step in plain NumPy --------------------------------------------------------------


def activate(Z: Array, activation: str) -> tuple[Array, Array | None]:
    """Return the activation and its derivative; None if the derivative is 1."""
    # Those written here are the fastest known in NumPy. The reference is slower, but has all.
    real = Z.dtype.type
    one = real(1)
    if activation == "relu":
        return np.maximum(Z, 0), Z > 0
    if activation == "leaky_relu":
        slope = real(NEGATIVE_SLOPE)
        return np.maximum(Z, slope * Z), np.where(Z > 0, one, slope)
    if activation == "tanh":
        A = np.tanh(Z)
        return A, 1 - A * A
    if activation == "sigmoid":
        A = 1 / (1 + np.exp(-Z))
        return A, A * (1 - A)
    if activation == "gelu":
        from scipy.special import erf

        mass = (1 + erf(Z * real(math.sqrt(0.5)))) / 2
        return Z * mass, mass + Z * np.exp(-Z * Z / 2) * real(1 / math.sqrt(2 * math.pi))
    if activation == "silu":
        share = 1 / (1 + np.exp(-Z))
        A = Z * share
        return A, share + A * (1 - share)
    if activation == "selu":
        scale, both = real(1.0507009873554805), real(1.0507009873554805 * 1.6732632423543772)
        negative = both * np.expm1(np.minimum(Z, 0))
        return np.where(Z > 0, scale * Z, negative), np.where(Z > 0, scale, negative + both)
    if activation == "identity":
        return Z, None
    return reference.ACTIVATIONS[activation](Z, real(NEGATIVE_SLOPE))


def finish(Z: Array, Y: Array, output: str) -> tuple[Array, Any]:
    """Return the outputs and the sum of the losses, from the logits."""
    if output == "sigmoid":
        E = np.exp(-np.abs(Z))
        losses = np.maximum(Z, 0) - Y * Z + np.log1p(E)
        return np.where(Z >= 0, Z.dtype.type(1), E) / (1 + E), losses.sum()
    if output == "softmax":
        Z = Z - Z.max(axis=0)
        E = np.exp(Z)
        total = E.sum(axis=0)
        return E / total, np.log(total).sum() - np.vdot(Y, Z)
    if output == "exponential":
        A = np.exp(Z)
        return A, A.sum() - np.vdot(Y, Z)
    if output == "identity":
        return Z, np.square(Z - Y).sum() / 2
    raise ValueError(f"output: expected one that this bench knows; got {output!r}")


def step(
    W: list[Array], b: list[Array], X: Array, Y: Array, activation: str, output: str, rate: float
) -> float:
    """Update W and b; return the cost before the update."""
    m = X.shape[1]
    A, derivatives = [X], []
    for weights, bias in zip(W[:-1], b[:-1], strict=True):
        activated, slope = activate(weights @ A[-1] + bias, activation)
        A.append(activated)
        derivatives.append(slope)
    outputs, losses = finish(W[-1] @ A[-1] + b[-1], Y, output)
    dZ = (outputs - Y) / m
    for layer in reversed(range(len(W))):
        dW, db = dZ @ A[layer].T, dZ.sum(axis=1, keepdims=True)
        if layer > 0:
            dZ = W[layer].T @ dZ
            if derivatives[layer - 1] is not None:
                dZ *= derivatives[layer - 1]
        W[layer] -= rate * dW
        b[layer] -= rate * db
    return float(losses / m)


def plain_numpy(case: Case, X: Array, Y: Array, start: Array, orders: Orders) -> Contender:
    m, size = case.examples, case.batch_size
    rest = case.activation, case.output, case.rate
    # Batches are gathered fastest from an array with one row per example.
    examples, labels = (X.T.copy(), Y.T.copy()) if size else (X, Y)

    def batches() -> Iterator[tuple[Array, Array]]:
        epoch = 0
        while True:
            if size is None:
                yield X, Y
                continue
            order = orders(epoch)
            for first in range(0, m, size):
                batch = order[first : first + size]
                yield examples[batch].T, labels[batch].T
            epoch += 1

    def iterate(n: int) -> Array:
        parameters = case.network.unpack(start.copy())
        W = [parameters[f"W{layer}"] for layer in range(1, len(case.sizes))]
        b = [parameters[f"b{layer}"] for layer in range(1, len(case.sizes))]
        costs = np.empty(n)
        with np.errstate(all="ignore"):
            for i, (X_batch, Y_batch) in zip(range(n), batches(), strict=False):
                costs[i] = step(W, b, X_batch, Y_batch, *rest)
        return costs

    return iterate


# --- fastinit and the comparison ------------------------------------------------------------------


def fastinit(case: Case, X: Array, Y: Array, start: Array) -> Contender:
    net = case.network

    def iterate(n: int) -> Seconds:
        seen: list[tuple[float, int]] = []

        def look(run: fi.Run) -> None:
            seen.append((perf_counter(), run.iterations))

        fi.train(
            net, start.copy(), X, Y, learning_rate=case.rate, batch_size=case.batch_size,
            iterations=n + 1, callback=look, callback_every=None,
        )  # fmt: skip
        (began, first), (ended, last) = seen[0], seen[-1]
        # A training that diverges performs fewer steps than n.
        return Seconds((ended - began) / (last - first) * n)

    return iterate


def orders_of_fastinit(m: int, epochs: int) -> Array:
    """Return the order of the examples in the first epochs, from the costs of single examples."""
    net = fi.Network([1, 1], output="identity", bias=False)
    numbers = np.arange(m, dtype=np.float64)[None]
    # With a weight of 0, the cost of an example is half the square of its label.
    run = fi.train(
        net, np.zeros(1), np.zeros((1, m)), np.sqrt(2 * numbers), learning_rate=0.0,
        batch_size=1, epochs=epochs,
    )  # fmt: skip
    return np.rint(run.costs).astype(np.intp).reshape(epochs, m)


def check(case: Case, X: Array, Y: Array, start: Array) -> bool:
    """Return whether all costs are finite; raise RuntimeError if the two sides disagree."""
    run = fi.train(
        case.network, start.copy(), X, Y, learning_rate=case.rate, batch_size=case.batch_size,
        iterations=CHECKED_STEPS,
    )  # fmt: skip
    epochs = -(-CHECKED_STEPS * (case.batch_size or case.examples) // case.examples)
    orders = orders_of_fastinit(case.examples, epochs) if case.batch_size else None
    expected = plain_numpy(case, X, Y, start, lambda epoch: orders[epoch])(CHECKED_STEPS)
    finite = np.isfinite(expected)
    if run.diverged_at is not None or not finite.all():
        return False
    difference = np.abs(run.costs - expected) / np.maximum(1, np.abs(expected))
    if not difference.max() <= TOLERANCES[case.dtype]:
        raise RuntimeError(f"{case}: expected the costs {expected}; got {run.costs}")
    return True


def measured(case: Case, turns: int, seconds: float) -> float | None:
    """Return the time of a step in NumPy divided by ours; None if the training diverges."""
    X, Y, start = case.data()
    if not check(case, X, Y, start):
        return None
    rng = np.random.default_rng(0)
    contenders = {
        "NumPy": plain_numpy(case, X, Y, start, lambda epoch: rng.permutation(case.examples)),
        "fastinit": fastinit(case, X, Y, start),
    }
    times = in_turns(contenders, turns=turns, seconds=seconds, pause=PAUSE)
    return ratio(times, "NumPy", "fastinit")


def measure_all(
    cases: Iterable[Case], turns: int = 5, seconds: float = 0.1, show: bool = False
) -> dict[Case, float]:
    """Return the ratio of each shape, without those that are skipped or diverge."""
    found = {}
    for case in cases:
        value = None if case.skipped else measured(case, turns, seconds)
        if value is not None:
            found[case] = value
        if show:
            shown = case.skipped or "diverges" if value is None else f"{value:7.2f}"
            print(f"{shown}  {case}", flush=True)
    return found


# --- python benches/report.py ---------------------------------------------------------------------


def ratios() -> list[dict[str, Any]]:
    """Return the worst ratio and the geometric mean over random shapes."""
    cases = [drawn(0, index) for index in range(REPORTED)]
    found = measure_all(cases, REPORT_TURNS, REPORT_SECONDS).values()
    shapes, peer = f"of {REPORTED} random shapes", "plain NumPy"
    return [
        {"question": f"one step, the worst {shapes}", "peer": peer, "target": 1.0,
         "measured": min(found)},
        {"question": f"one step, geometric mean {shapes}", "peer": peer, "target": 4.0,
         "measured": geometric_mean(found)},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=36, help="number of random shapes")
    parser.add_argument(
        "--cliffs", action="store_true", help="use the shapes that were slow in earlier versions"
    )
    parser.add_argument(
        "--shape", action="append", help="layer sizes, such as 784-128-10; may be repeated"
    )
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--output", choices=tuple(LOSSES), default="sigmoid")
    parser.add_argument("--dtype", choices=tuple(TOLERANCES), default="float64")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of a turn")
    given = parser.parse_args()
    if given.shape:
        cases = [
            Case(tuple(map(int, shape.split("-"))), given.examples, given.activation,
                 given.output, given.dtype, given.batch_size)
            for shape in given.shape
        ]  # fmt: skip
    elif given.cliffs:
        cases = list(CLIFFS)
    else:
        cases = [drawn(given.seed, index) for index in range(given.count)]
    found = measure_all(cases, given.turns, given.seconds, show=True)
    if found:
        worst = min(found, key=found.__getitem__)
        print(f"worst {found[worst]:.2f}: {worst}")
        print(f"geometric mean {geometric_mean(found.values()):.2f}")


if __name__ == "__main__":
    main()
